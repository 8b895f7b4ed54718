"""The tidy frame of trials as a sweep records them."""

import json
from collections.abc import Callable

import pandas as pd
import pytest

from analysis.read.mlflow import load
from analysis.read.tidy import tidy

# MLflow 3.17 still uses what SQLAlchemy 2.1 calls deprecated.
pytestmark = pytest.mark.filterwarnings(
    "ignore:The ``noload`` loader strategy is deprecated:sqlalchemy.exc.SADeprecationWarning"
)

Record = Callable[..., str]
KNOBS = {
    "data.kind": "voc",
    "oc.init": "sha256:" + "ab" * 32,
    "cgnet.init": "imagenet",
    "deeplab.init": "resnet_38d.params",
    "cam.source": "cgnet",
    "cam.threshold_min": "0.05",
    "cam.threshold_max": "0.6",
    "cam.scales": "[0.5, 1.0]",
    "cam.flip": "true",
    "crf.alpha": "6.0",
    "crf.preset": "psa",
    "pseudo.source": "walk",
    "pseudo.alpha_walk": "16.5",
    "pseudo.crf": "none",
    "seg.split": "val",
    "seg.crf": "deeplab",
    "seg.scales": "[1.0]",
    "seg.flip": "false",
}
SHOWN = ["data", "split", "threshold_rule", "crf", "scales", "init"]


def knobs(*fields: str, **changes: str) -> dict[str, str]:
    """The knobs of `fields`, `cam__source` for cam.source."""
    made = KNOBS | {key.replace("__", "."): value for key, value in changes.items()}
    return {name: value for name, value in made.items() if name.partition(".")[0] in fields}


@pytest.fixture(scope="module")
def frame(record: Record, tracking: str) -> pd.DataFrame:
    scores = {
        "cam/miou": 0.5,
        "cam/miou_multi": 0.25,
        "cam/precision": 0.7,
        "cam/threshold": 0.4,
        "seg/miou": 0.6,
    }
    truth = {"occse.pixel_truth": "cam.threshold on train, seg.x on val"}
    every = knobs("data", "oc", "cgnet", "deeplab", "cam", "crf", "pseudo", "seg")
    record("tidy", "ours", metrics=scores, params=every, tags=truth)
    made = ("data", "oc", "cgnet", "cam")
    plain = knobs(*made, cam__source="oc", cam__threshold_max="0.05")
    record("tidy", "oc", order=1, fields=("cam",), params=plain)
    further = knobs(*made, cgnet__init="oc", oc__init="pretrain")
    record("tidy", "further", order=2, fields=("cam",), params=further)
    other = knobs(*made, "crf", "pseudo", pseudo__source="crf", crf__preset="irn")
    record("tidy", "crf", order=3, fields=("pseudo",), params=other, tags={"occse.stopped": "crf"})
    record("tidy", "silent", order=4, fields=("seg",))
    return tidy(load("tidy", tracking=tracking))


def test_a_row_per_stage_and_subset_has_the_scores(frame: pd.DataFrame) -> None:
    ours = frame[frame["variant"] == "ours"].set_index(["stage", "subset"])
    assert ours.index.tolist() == [
        (stage, subset) for stage in ("cam", "crf", "pseudo", "seg") for subset in ("all", "multi")
    ]
    assert ours["miou"].dropna().to_dict() == {
        ("cam", "all"): 0.5,
        ("cam", "multi"): 0.25,
        ("seg", "all"): 0.6,
    }
    assert ours["precision"].dropna().to_dict() == {("cam", "all"): 0.7}
    assert ours["pixel_truth"].unstack()["all"].to_dict() == {
        "cam": "cam.threshold on train", "crf": "", "pseudo": "", "seg": "seg.x on val"
    }  # fmt: skip
    assert set(ours["param.crf.alpha"]) == {"6.0"}


def test_what_the_numbers_rest_on_is_spelled_out(frame: pd.DataFrame) -> None:
    ours = frame[(frame["variant"] == "ours") & (frame["subset"] == "all")].set_index("stage")[
        SHOWN
    ]
    assert ours.T.to_dict("list") == {
        "cam": ["voc", "train", "best on train", "none", "0.5 1 mirrored", "imagenet"],
        "crf": ["voc", "train", "alpha 6", "psa", "0.5 1 mirrored", "imagenet"],
        "pseudo": ["voc", "train", "alpha 16.5", "none", "0.5 1 mirrored", "imagenet"],
        "seg": ["voc", "val", "argmax", "deeplab", "1", "file resnet_38d.p"],
    }


def test_source_start_and_bounds_decide_what_a_cam_rests_on(frame: pd.DataFrame) -> None:
    rows = frame[frame["subset"] == "all"].set_index("variant")
    assert rows.loc["oc", ["threshold_rule", "init"]].tolist() == [
        "fixed 0.05",
        "file abababababab",
    ]
    assert rows.loc["further", "init"] == "pretrain"
    made_by_crf = rows.loc["crf"].set_index("stage").loc["pseudo"]
    assert made_by_crf[["threshold_rule", "crf", "stopped"]].tolist() == ["alpha 6", "irn", "crf"]


def test_what_a_run_does_not_tell_is_unknown(frame: pd.DataFrame) -> None:
    silent = frame[frame["variant"] == "silent"].iloc[0]
    assert silent[SHOWN].tolist() == [
        "unknown",
        "val",
        "argmax",
        "unknown",
        "unknown",
        "unknown",
    ]


def test_an_imported_run_tells_in_its_own_words_what_its_numbers_rest_on(
    record: Record, tracking: str
) -> None:
    known = {
        "split": "val",
        "threshold_rule": "unknown",
        "init": "file od_cam.pth",
        "pixel_truth": "unknown",
    }
    params = knobs("oc", "cgnet", "cam")
    tags = {"occse.imported": "old.csv", "occse.protocol": json.dumps({"cam": known})}
    record("imported", "old", fields=("cam",), metrics={"cam/miou": 0.5}, params=params, tags=tags)
    found = (
        tidy(load("imported", tracking=tracking)).set_index(["stage", "subset"]).loc[("cam", "all")]
    )
    assert known.items() <= found.to_dict().items()
    assert (found["miou"], found["scales"]) == (0.5, "0.5 1 mirrored")


@pytest.mark.parametrize("text", ["[", "[]", '{"cam": 1}'])
def test_a_broken_tag_of_an_imported_run_is_named(record: Record, tracking: str, text: str) -> None:
    run = record(f"broken {text!r}", "old", tags={"occse.protocol": text})
    with pytest.raises(ValueError, match=f"run {run}: tag occse.protocol is"):
        load(f"broken {text!r}", tracking=tracking)
