"""Exact identity: the stages that a change reaches, in every process the same."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from occse.pipeline import STAGES, Node, Pipeline, default_pipeline, override, plan, profile

EMBEDDED = override(Pipeline(), profile("embedded"))
EVERY = ("crf", "crf_low", "crf_high", "seg", "erase_and_infer")


def fingerprints(**overrides: Any) -> dict[str, str]:
    pipeline = override(
        EMBEDDED, {key.replace("__", "."): value for key, value in overrides.items()}
    )
    return {field: node.fingerprint for field, node in plan(pipeline, targets=EVERY).items()}


FROM_CAM = {"cam", "crf", "crf_low", "crf_high", "affinity", "pseudo", "deeplab", "seg"}
FROM_PSEUDO = {"pseudo", "deeplab", "seg"}


@pytest.mark.parametrize(
    ("change", "reached"),
    [
        ({"cgnet__lambda_start": 3}, {"cgnet"} | FROM_CAM),
        ({"cgnet__lambda_slope": 0.1}, {"cgnet"} | FROM_CAM),
        ({"cgnet__erasing": "class_agnostic"}, {"cgnet"} | FROM_CAM),
        ({"cgnet__mask_max": "batch"}, {"cgnet"} | FROM_CAM),
        ({"cgnet__mask": "hard"}, {"cgnet"} | FROM_CAM),
        ({"cgnet__mask_threshold": 0.5}, set()),  # a soft mask has none
        ({"cgnet__draw": "balanced"}, {"cgnet"} | FROM_CAM),
        ({"cgnet__remaining": "oc"}, {"cgnet"} | FROM_CAM),
        ({"cgnet__lr": 0.1}, {"cgnet"} | FROM_CAM),
        ({"cgnet__epochs": 2}, {"cgnet"} | FROM_CAM),
        ({"cgnet__seed": 1}, {"cgnet"} | FROM_CAM),
        ({"cgnet__backbone": "resnet50", "cgnet__init": "random"}, {"cgnet"} | FROM_CAM),
        ({"oc__epochs": 2}, {"oc", "cgnet", "erase_and_infer"} | FROM_CAM),
        ({"oc__init": "random"}, {"oc", "cgnet", "erase_and_infer"} | FROM_CAM),
        ({"erase_and_infer__num_erasures": 2}, {"erase_and_infer"}),
        ({"erase_and_infer__mask_threshold": 0.5}, set()),  # a soft mask has none
        ({"cam__scales": (1.0,)}, FROM_CAM),
        ({"cam__flip": False}, FROM_CAM),
        ({"crf__alpha": 11}, {"crf"}),
        ({"crf_low__alpha": 3}, {"crf_low", "affinity"} | FROM_PSEUDO),
        ({"crf_high__alpha": 30}, {"crf_high", "affinity"} | FROM_PSEUDO),
        ({"pseudo__alpha_walk": 9}, FROM_PSEUDO),
        ({"pseudo__beta": 4}, FROM_PSEUDO),
        ({"pseudo__log_steps": 5}, FROM_PSEUDO),
        ({"pseudo__radius": 4}, FROM_PSEUDO),
        ({"pseudo__crf": "irn"}, FROM_PSEUDO),
        ({"pseudo__crf_unary": "labels"}, set()),  # there is no CRF
        ({"affinity__network": "irn"}, {"affinity"} | FROM_PSEUDO),
        ({"affinity__radius": 4}, {"affinity"} | FROM_PSEUDO),
        ({"deeplab__init": "random"}, {"deeplab", "seg"}),
        ({"deeplab__epochs": 2}, {"deeplab", "seg"}),
        ({"deeplab__seed": 1}, {"deeplab", "seg"}),
        ({"seg__crf": "seam"}, {"seg"}),
        ({"deeplab__head": "aspp"}, {"deeplab", "seg"}),
        ({"seg__scales": (1.0,)}, {"seg"}),
        ({"cgnet__momentum": 0.5}, set()),  # AdamW has none
        ({"data__drawing": 1}, set(plan(EMBEDDED, targets=EVERY))),
    ],
)
def test_a_change_reaches_exactly_its_stage_and_what_follows(
    change: dict[str, Any], reached: set[str]
) -> None:
    before, after = fingerprints(), fingerprints(**change)
    assert {field for field in before if before[field] != after[field]} == reached


def test_the_split_of_the_predictions_is_theirs_alone() -> None:
    reference = default_pipeline("reference")
    before = plan(reference)
    after = plan(override(reference, {"seg.split": "test"}))
    assert {field for field in before if before[field] != after[field]} == {"seg"}


def test_with_the_classifier_s_cam_there_is_no_cgnet_and_lambda_is_nothing() -> None:
    plain = fingerprints(cam__source="oc")
    assert "cgnet" not in plain
    assert plain == fingerprints(
        cam__source="oc", cgnet__lambda_start=9, cgnet__erasing="class_agnostic"
    )


def test_without_a_lambda_the_erasing_mode_is_nothing() -> None:
    plain = fingerprints(cgnet__lambda_start=0)
    assert plain == fingerprints(
        cgnet__lambda_start=0, cgnet__erasing="class_agnostic", cgnet__mask_max="batch"
    )
    assert plain["cgnet"] != fingerprints()["cgnet"]


def test_one_alpha_is_one_artifact_whatever_field_asks_for_it() -> None:
    assert fingerprints(crf__alpha=16)["crf"] == fingerprints()["crf_high"]


def test_integers_and_floats_of_one_value_are_one_identity() -> None:
    assert fingerprints(cgnet__lambda_start=1) == fingerprints(cgnet__lambda_start=1.0)


def test_a_later_version_of_a_stage_is_another_artifact(monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprints()
    monkeypatch.setattr(STAGES["MakeCam"], "version", 99)
    after = fingerprints()
    assert {field for field in before if before[field] != after[field]} == FROM_CAM


OF_THE_DRAWN_CLASS = {"cgnet.draw": "balanced", "cgnet.remaining": "oc"}
OF_THE_MASK = {"cgnet.mask_max": "batch", "cgnet.mask": "hard", "cgnet.mask_threshold": 0.5}


@pytest.mark.parametrize(
    ("chosen", "idle"),
    [
        ({"cgnet.erasing": "class_agnostic"}, OF_THE_DRAWN_CLASS),
        (
            {"cgnet.lambda_start": 0, "cgnet.lambda_slope": 0},
            {"cgnet.erasing": "class_agnostic"} | OF_THE_DRAWN_CLASS | OF_THE_MASK,
        ),
    ],
)
def test_knobs_that_a_choice_makes_idle_are_no_part_of_the_identity(
    chosen: dict[str, Any], idle: dict[str, Any]
) -> None:
    assert (
        plan(override(EMBEDDED, chosen | idle))["cgnet"] != plan(override(EMBEDDED, idle))["cgnet"]
    )
    first, second = (plan(override(EMBEDDED, knobs))["cgnet"] for knobs in (chosen, chosen | idle))
    assert first.fingerprint == second.fingerprint


@pytest.mark.parametrize("seed", ["1", "2"])
def test_fingerprints_do_not_depend_on_the_process(seed: str) -> None:
    code = (
        "from occse.pipeline import *; p = override(Pipeline(), profile('embedded'));"
        "print({f: n.fingerprint for f, n in plan(p, targets=('crf', 'seg')).items()})"
    )
    environment = os.environ | {"PYTHONHASHSEED": seed}
    answer = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    here = {field: node.fingerprint for field, node in plan(EMBEDDED).items()}
    assert answer.stdout.strip() == str(here)


def test_a_node_survives_its_journey_and_refuses_other_code(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for node in plan(EMBEDDED).values():
        assert Node.load(node.dump()) == node
    dumped = plan(EMBEDDED)["cam"].dump()
    monkeypatch.setattr(STAGES["MakeCam"], "version", 99)
    with pytest.raises(ValueError, match="run different code"):
        Node.load(dumped)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            {"cgnet.lamda_start": 1},
            "'cgnet.lamda_start' matches no knob; the nearest are cgnet.lambda_start",
        ),
        ({"cgnet.lr": -1}, "cgnet.lr: Input should be greater than 0, got -1"),
        ({"cgnet.lr": float("nan")}, "cgnet.lr: Input should be"),
        (
            {"cgnet.erasing": "cze"},
            "cgnet.erasing: Input should be 'cse' or 'class_agnostic', got 'cze'",
        ),
        (
            {"*.backbone": "vgg"},
            r"\*.backbone: no backbone 'vgg'; expected tiny, .* \(for oc.backbone\)",
        ),
        ({"cgnet.backbone": "resnet50"}, "cgnet.init is 'oc', whose backbone is 'tiny'"),
        (
            {"data.kind": "lvis"},
            "data.kind: 'lvis' is not allowed; expected 'shapes', 'voc', 'coco', 'folder'",
        ),
        ({"deeplab.scale_min": 3}, "scale_min is above scale_max"),
    ],
)
def test_a_bad_override_is_refused_by_its_own_name(overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        override(EMBEDDED, overrides)


def test_unknown_targets_and_profiles_are_refused_with_what_there_is() -> None:
    with pytest.raises(
        ValueError, match="no stage 'sag' in the pipeline; its stages are data, pretrain"
    ):
        plan(EMBEDDED, targets=["sag"])
    with pytest.raises(ValueError, match="no profile 'huge'; the profiles are embedded"):
        profile("huge")


def test_stars_reach_all_stages_and_later_keys_win() -> None:
    pipeline = override(EMBEDDED, {"*.seed": 5, "oc.seed": 6})
    assert (pipeline.oc.seed, pipeline.cgnet.seed, pipeline.deeplab.seed) == (6, 5, 5)


def test_profiles_are_complete_overrides() -> None:
    folder = Path(sys.modules[Pipeline.__module__].__file__ or "").parent / "profiles"
    names = sorted(path.stem for path in folder.glob("*.yaml"))
    assert names == ["embedded", "modern", "paper", "reference"]
    for name in names:
        assert override(Pipeline(), profile(name)) != Pipeline()
