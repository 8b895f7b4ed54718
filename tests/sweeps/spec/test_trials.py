"""Expansion of sweep files into trials."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from occse.pipeline import default_pipeline
from occse.stages.trained import TrainedStage
from sweeps.spec.trials import Spec, Trial, load_spec, trials
from sweeps.tracking.configurations import Variation

SPECS = Path(__file__).parents[3] / "sweeps" / "specs"
HEAD = "name: s\nquestion: why?\n"
SHAPES = {"data.kind": "shapes", "*.init": "random"}
ERASING_GRID = {
    "cam.source": ["oc", "cgnet"],
    "cgnet.erasing": ["class_agnostic", "cse"],
    "cgnet.lambda_start": [1, 10],
}


def make(**keys: object) -> Spec:
    return Spec.model_validate({"name": "s", "question": "why?", "base": SHAPES} | keys)


def names(spec: Spec) -> list[str]:
    return [trial.name for trial in trials(spec)]


def test_grid_is_the_product_of_its_axes_in_file_order_with_seeds_innermost() -> None:
    spec = make(grid={"pseudo.beta": [4, 8], "crf.alpha": [6, 2.5]}, seeds=2)
    assert spec.combinations() == 8
    assert names(spec) == [
        f"beta={beta}, alpha={alpha} · seed {seed}"
        for beta in (4, 8)
        for alpha in ("6", "2.5")
        for seed in (0, 1)
    ]
    assert [trial.order for trial in trials(spec)] == list(range(8))


def test_trials_that_differ_in_unplanned_stages_only_collapse_to_one() -> None:
    spec = make(grid=ERASING_GRID, seeds=2)
    found = trials(spec)
    assert spec.combinations() == 16
    assert list(dict.fromkeys(trial.variant for trial in found)) == [
        "source=oc",
        "source=cgnet, erasing=class_agnostic, lambda_start=1",
        "source=cgnet, erasing=class_agnostic, lambda_start=10",
        "source=cgnet, erasing=cse, lambda_start=1",
        "source=cgnet, erasing=cse, lambda_start=10",
    ]
    assert len(found) == len({trial.identity for trial in found}) == 10
    assert [dict(trial.knobs) for trial in found[:1]] == [{"cam.source": "oc"}]
    assert all("cgnet" not in trial.nodes for trial in found[:2])


def test_erasing_modes_collapse_where_lambda_is_zero() -> None:
    spec = make(
        base=SHAPES | {"cgnet.lambda_slope": 0},
        grid={"cgnet.lambda_start": [0, 1], "cgnet.erasing": ["class_agnostic", "cse"]},
    )
    assert names(spec) == [
        "lambda_start=0 · seed 0",
        "lambda_start=1, erasing=class_agnostic · seed 0",
        "lambda_start=1, erasing=cse · seed 0",
    ]


def test_knobs_of_one_name_keep_their_stage_in_the_label() -> None:
    spec = make(grid={"crf_low.alpha": [4], "crf_high.alpha": [24, 32], "cam.scales": [[1, 0.5]]})
    assert names(spec)[1] == "crf_low.alpha=4, crf_high.alpha=32, scales=(1 0.5) · seed 0"


def test_values_that_mean_the_same_are_one_trial() -> None:
    assert names(make(grid={"cgnet.lambda_start": [1, 1.0, "1e0"]})) == ["lambda_start=1 · seed 0"]


def test_axis_with_a_pattern_reaches_every_stage() -> None:
    found = trials(make(grid={"*.backbone": ["tiny", "resnet50"]}))
    assert [trial.variant for trial in found] == ["backbone=tiny", "backbone=resnet50"]
    assert [
        trained(found[0], field).backbone for field in ("oc", "cgnet", "affinity", "deeplab")
    ] == ["tiny"] * 4


def test_named_variants_change_the_base_and_the_baseline_comes_first() -> None:
    variants = {
        "no erasing": {"cgnet.lambda_start": 0, "cgnet.lambda_slope": 0},
        "CSE": {"cgnet.erasing": "cse"},
    }
    found = trials(make(variants=variants, baseline={"cam.source": "oc"}, seeds=[3]))
    assert [(trial.variant, trial.baseline, trial.seed) for trial in found] == [
        ("baseline", True, 3),
        ("no erasing", False, 3),
        ("CSE", False, 3),
    ]
    assert found[0].knobs == {"cam.source": "oc"}
    assert found[1].knobs == {
        "cam.source": "cgnet",
        "cgnet.lambda_start": 0,
        "cgnet.lambda_slope": 0,
    }
    assert found[2].knobs["cgnet.erasing"] == "cse"


def test_variants_and_grid_multiply() -> None:
    variants = {"CSE": {"cgnet.erasing": "cse"}}
    found = trials(
        make(variants=variants, baseline={"cam.source": "oc"}, grid={"pseudo.alpha_walk": [8, 16]})
    )
    assert [trial.variant for trial in found] == [
        "baseline, alpha_walk=8",
        "baseline, alpha_walk=16",
        "CSE, alpha_walk=8",
        "CSE, alpha_walk=16",
    ]
    assert [trial.baseline for trial in found] == [True, True, False, False]


def test_baseline_beside_a_grid_marks_the_point_that_it_equals_and_puts_it_first() -> None:
    found = trials(
        make(grid={"cam.source": ["cgnet", "oc"]}, baseline={"cam.source": "oc"}, seeds=2)
    )
    assert [(trial.variant, trial.baseline) for trial in found] == [("source=oc", True)] * 2 + [
        ("source=cgnet", False)
    ] * 2


def test_baseline_outside_the_grid_is_one_more_trial() -> None:
    spec = make(grid={"cgnet.lambda_start": [1, 2]}, baseline={"cam.source": "oc"})
    assert spec.combinations() == 3
    assert names(spec) == [
        "baseline · seed 0",
        "lambda_start=1 · seed 0",
        "lambda_start=2 · seed 0",
    ]


def test_baseline_alone_is_a_sweep_of_one_trial() -> None:
    assert names(make(baseline={})) == ["baseline · seed 0"]


def test_variants_that_need_the_same_artifacts_are_refused_by_name() -> None:
    variants = {"a": {"cgnet.lambda_start": 1}, "b": {"cgnet.lambda_start": 1.0}}
    with pytest.raises(ValueError, match=r"variants\.b: needs the same artifacts as 'a'"):
        trials(make(variants=variants))


def test_seeds_reach_every_stage_that_has_one() -> None:
    found = trials(make(baseline={}, seeds=[7, 1]))
    assert [trial.seed for trial in found] == [7, 1]
    for trial in found:
        assert {trained(trial, field).seed for field in ("oc", "cgnet", "affinity", "deeplab")} == {
            trial.seed
        }


def test_seed_stages_limit_which_seeds_vary() -> None:
    first, second = trials(make(baseline={}, seeds=2, seed_stages=["deeplab"]))
    shared = {field for field in first.nodes if first.nodes[field] == second.nodes[field]}
    assert set(first.nodes) - shared == {"deeplab", "seg"}
    assert len(trials(make(baseline={}, seeds=5, seed_stages=["deeplab"], targets=["crf"]))) == 1


def test_stage_outside_seed_stages_may_have_its_seed_as_an_axis() -> None:
    assert names(make(grid={"oc.seed": [4, 5]}, seed_stages=["deeplab"])) == [
        "seed=4 · seed 0",
        "seed=5 · seed 0",
    ]


def test_trials_that_swap_two_stages_are_not_the_same() -> None:
    variants = {
        "a": {"crf.alpha": 4, "crf_low.alpha": 24},
        "b": {"crf.alpha": 24, "crf_low.alpha": 4},
    }
    first, second = trials(make(variants=variants, targets=["crf", "crf_low"]))
    fingerprints = [
        {node.fingerprint for node in trial.nodes.values()} for trial in (first, second)
    ]
    assert fingerprints[0] == fingerprints[1]
    assert first.identity != second.identity


def test_resources_of_a_stage_come_from_its_entry_then_from_the_star_then_from_the_stage() -> None:
    spec = make(
        baseline={}, resources={"*": {"num_cpus": 2}, "oc": {"num_cpus": 3, "num_gpus": 0.5}}
    )
    trial = trials(spec)[0]
    granted = (
        spec.resources_of("oc", trial.nodes["oc"].stage),
        spec.resources_of("cgnet", trial.nodes["cgnet"].stage),
    )
    assert (granted[0].num_cpus, granted[0].num_gpus) == (3, 0.5)
    assert (granted[1].num_cpus, granted[1].num_gpus) == (2, 0)


def test_sweep_on_drawn_data_asks_for_no_gpu_unless_it_says_so() -> None:
    drawn = make(baseline={})
    real = Spec(name="s", question="why?", baseline={}, base={"data.kind": "voc"})
    either = make(base={}, grid={"data.kind": ["shapes", "voc"]})
    stage = default_pipeline().stage("cgnet")
    assert stage.resources().num_gpus == 1
    assert drawn.resources_of("cgnet", stage).num_gpus == 0
    assert real.resources_of("cgnet", stage).num_gpus == 1
    assert either.resources_of("cgnet", stage).num_gpus == 1
    asked = make(baseline={}, resources={"cgnet": {"num_gpus": 1}})
    assert asked.resources_of("cgnet", stage).num_gpus == 1


def test_a_batch_that_does_not_divide_among_the_gpus_of_a_training_is_refused() -> None:
    spec = make(baseline={}, resources={"*": {"num_gpus": 3}})
    (trial,) = trials(spec)
    assert spec.resources_of("cam", trial.nodes["cam"].stage).num_gpus == 3
    with pytest.raises(ValueError, match="cgnet would share a batch of 8 images among 3 GPUs"):
        spec.resources_of("cgnet", trial.nodes["cgnet"].stage)


def test_resources_are_no_part_of_the_identity() -> None:
    plain, rich = (
        trials(make(baseline={}, resources=wish))[0] for wish in ({}, {"*": {"num_cpus": 9}})
    )
    assert plain.identity == rich.identity


def test_another_data_tree_is_another_identity(tmp_path: Path) -> None:
    first, same, other = (
        make_voc(tmp_path / name, animal)
        for name, animal in (("a", "cat"), ("b", "cat"), ("c", "dog"))
    )
    identities = [
        trials(make(base=ONE_IMAGE, baseline={}, data_root=root))[0].identity
        for root in (first, same, other)
    ]
    assert identities[0] == identities[1] != identities[2]
    assert trials(make(base=ONE_IMAGE, baseline={}))[0].identity not in identities


def test_digest_that_the_user_wrote_is_kept(tmp_path: Path) -> None:
    root = make_voc(tmp_path / "a", "cat")
    trial = trials(make(base={"data.digest": "ab" * 32}, baseline={}, data_root=root))[0]
    assert trial.pipeline.data.model_dump()["digest"] == "ab" * 32


def test_the_content_of_a_weight_file_is_the_identity_and_its_place_is_not(tmp_path: Path) -> None:
    for folder, content in (("a", b"1"), ("b", b"1"), ("c", b"2")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "w.pth").write_bytes(content)
    base = SHAPES | {"oc.init": "w.pth"}
    folders = [tmp_path / name for name in "abc"]
    identities = [
        trials(make(base=base, baseline={}, weights=folder))[0].identity for folder in folders
    ]
    assert identities[0] == identities[1] != identities[2]
    assert trials(make(base=base, baseline={}))[0].identity not in identities, (
        "without the file it can be planned"
    )
    (tmp_path / "spec.yaml").write_text(HEAD + "baseline: {oc.init: w.pth}\nweights: a\n")
    assert load_spec(tmp_path / "spec.yaml").weights == tmp_path / "a"
    (tmp_path / "spec.yaml").write_text(HEAD + "baseline: {}\nweights: nowhere\n")
    with pytest.raises(
        ValueError,
        match=r"weights: expected the folder of the weight files; .*nowhere is not a folder",
    ):
        load_spec(tmp_path / "spec.yaml")


def test_cams_of_two_folders_are_two_variants_by_name_and_one_identity_by_content(
    tmp_path: Path,
) -> None:
    for method, content in (("irn", b"1"), ("seam", b"2"), ("copy", b"1")):
        (tmp_path / method).mkdir()
        (tmp_path / method / "a.npy").write_bytes(content)
    base = {**SHAPES, "cam.source": "cams"}

    def spec(*sources: str) -> Spec:
        grid = {"cams.source": list(sources)}
        return make(base=base, baseline={"cam.source": "oc"}, grid=grid, weights=tmp_path)

    both = spec("irn", "seam")
    _, irn, seam = trials(both)
    assert (irn.variant, seam.variant) == ("source=irn", "source=seam")
    assert trials(spec("copy"))[1].identity == irn.identity != seam.identity
    # a table can have them as rows
    variation = Variation(both, trials(both))
    sources = [variation.params(trial)["cams.source"] for trial in (irn, seam)]
    assert sources == ["irn", "seam"]


def test_identities_do_not_depend_on_the_process(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(HEAD + "profile: embedded\nseeds: 2\nvariants: {a: {}, b: {cam.source: oc}}\n")
    code = "import sys, pathlib; from sweeps.spec.trials import load_spec, trials\n"
    code += "print([(t.name, t.identity) for t in trials(load_spec(pathlib.Path(sys.argv[1])))])"
    printed = {
        subprocess.run(
            (sys.executable, "-c", code, str(path)),
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert printed == {f"{[(trial.name, trial.identity) for trial in trials(load_spec(path))]}\n"}


def test_shipped_quickstart_has_five_variants_of_two_seeds_and_starts_with_its_baseline() -> None:
    found = trials(load_spec(SPECS / "quickstart.yaml"))
    assert len(found) == 10
    assert len({trial.variant for trial in found}) == 5
    assert [trial.baseline for trial in found] == [True, True] + [False] * 8


def test_shipped_ablation_compares_four_variants_with_a_baseline() -> None:
    variants = dict.fromkeys(trial.variant for trial in trials(load_spec(SPECS / "ablation.yaml")))
    assert list(variants) == [
        "baseline",
        "no erasing",
        "class-agnostic",
        "CSE",
        "CSE, maximum per batch",
    ]


def test_relative_data_root_starts_from_the_folder_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "voc").mkdir()
    (tmp_path / "spec.yaml").write_text(HEAD + "baseline: {}\ndata_root: voc\n")
    assert load_spec(tmp_path / "spec.yaml").data_root == tmp_path / "voc"


def test_data_root_that_no_trial_reads_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"data_root: no trial reads .*; expected data\.kind: voc or"
    ):
        trials(make(base={"data.kind": "shapes"}, baseline={}, data_root=tmp_path))


def trained(trial: Trial, field: str) -> TrainedStage:
    stage = trial.nodes[field].stage
    assert isinstance(stage, TrainedStage)
    return stage


# Batches that the data set of `make_voc` can fill.
ONE_IMAGE = {"*.batch_size": 1}


def make_voc(root: Path, animal: str) -> Path:
    """A data set of one image per split."""
    for folder in ("JPEGImages", "Annotations", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    for split, listed in {"train": "t", "train_aug": "t", "val": "v"}.items():
        (root / "ImageSets/Segmentation" / f"{split}.txt").write_text(f"{listed}\n")
        Image.new("RGB", (8, 8)).save(root / "JPEGImages" / f"{listed}.jpg")
        Image.new("P", (8, 8)).save(root / "SegmentationClass" / f"{listed}.png")
        annotation = f"<annotation><object><name>{animal}</name></object></annotation>"
        (root / "Annotations" / f"{listed}.xml").write_text(annotation)
    return root


def test_gate_may_stand_after_a_stage_that_these_knobs_need(tmp_path: Path) -> None:
    text = f"{HEAD}base: {{pseudo.source: crf}}\nbaseline: {{}}\ntargets: [seg]\n"
    (tmp_path / "spec.yaml").write_text(text + "gates:\n- {after: crf, asha: 2}\n")
    (trial,) = trials(load_spec(tmp_path / "spec.yaml"))
    assert "crf" in trial.nodes
