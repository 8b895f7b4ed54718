"""Every stage, run for real on a few images of the embedded data set."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from occse.artifacts.execute import execute
from occse.artifacts.manifest import artifact_folder, load_manifest
from occse.data.array_archive import ArrayReader
from occse.data.dataset import load_dataset
from occse.method.crf import implied_threshold
from occse.method.evaluation import Counts, summarize
from occse.pipeline import STAGES, Node, Pipeline, override, plan
from occse.stage import Context, Stage
from occse.stages.cams import ReadCams
from occse.stages.crf import RefineCam
from occse.stages.data import InPlace

SCORED = ("cam", "crf", "crf_low", "crf_high", "pseudo", "seg")


@pytest.mark.parametrize("field", SCORED)
def test_scores_are_those_of_the_stored_counts(
    field: str, small_store: Path, small_node: dict[str, Node]
) -> None:
    node = small_node[field]
    manifest = load_manifest(small_store, node)
    counts = Counts.load(artifact_folder(small_store, node) / "counts.npz")
    dataset = load_dataset(artifact_folder(small_store, small_node["data"]), data_root=None)
    assert counts.names == dataset.splits["val" if field == "seg" else "train"]
    several = {name for name in counts.names if len(dataset.labels[name]) > 1}
    assert manifest is not None
    alpha = (
        {"implied_threshold": implied_threshold(node.stage.alpha)}
        if isinstance(node.stage, RefineCam)
        else {}
    )
    assert manifest.metrics == summarize(counts, multi_label=several) | alpha
    valid = sum(int((dataset.mask(name) != 255).sum()) for name in counts.names)
    assert counts.confusion()[0].sum() == valid, "every pixel that is not void is counted once"


@pytest.mark.parametrize("field", ["crf", "pseudo", "seg"])
def test_label_maps_show_what_was_counted(
    field: str, small_store: Path, small_node: dict[str, Node]
) -> None:
    folder = artifact_folder(small_store, small_node[field])
    counts = Counts.load(folder / "counts.npz")
    dataset = load_dataset(artifact_folder(small_store, small_node["data"]), data_root=None)
    total = np.zeros((6, 6), np.int64)
    for name in counts.names:
        with Image.open(folder / "labels" / f"{name}.png") as image:
            predicted = np.array(image)
        truth = dataset.mask(name)
        np.add.at(total, (truth[truth != 255], predicted[truth != 255]), 1)
    assert np.array_equal(total, counts.confusion()[0])


def test_pseudo_labels_hold_only_the_image_s_classes(
    small_store: Path, small_node: dict[str, Node]
) -> None:
    folder = artifact_folder(small_store, small_node["pseudo"]) / "labels"
    dataset = load_dataset(artifact_folder(small_store, small_node["data"]), data_root=None)
    assert {path.stem for path in folder.iterdir()} == set(dataset.splits["train_aug"])
    for path in folder.iterdir():
        with Image.open(path) as image:
            found = set(np.unique(np.array(image)).tolist())
        assert found <= {0, *(index + 1 for index in dataset.labels[path.stem])}


def test_cams_are_of_the_present_classes_and_normalized(
    small_store: Path, small_node: dict[str, Node]
) -> None:
    dataset = load_dataset(artifact_folder(small_store, small_node["data"]), data_root=None)
    cams = ArrayReader(artifact_folder(small_store, small_node["cam"]) / "cams.zip")
    for name in dataset.splits["train_aug"]:
        stored = cams[name]
        assert tuple(stored["classes"]) == dataset.labels[name]
        assert stored["cam"].dtype == np.float16
        assert stored["cam"].shape == (len(dataset.labels[name]), 40, 40)
        assert 0 <= stored["cam"].min() <= stored["cam"].max() <= 1


@pytest.mark.parametrize("field", ["pretrain", "oc", "cgnet", "affinity", "deeplab"])
def test_training_leaves_a_curve_point_per_epoch(
    field: str, small_store: Path, small_node: dict[str, Node]
) -> None:
    curves = json.loads(
        (artifact_folder(small_store, small_node[field]) / "curves.json").read_text()
    )
    assert [point["step"] for point in curves] == [1]
    assert all(math.isfinite(value) for point in curves for value in point.values())


def test_a_training_stage_gives_the_same_weights_twice(
    small_store: Path, small_node: dict[str, Node], tmp_path: Path
) -> None:
    copies = []
    for attempt in ("first", "second"):
        output, scratch = tmp_path / attempt, tmp_path / f"{attempt}-scratch"
        output.mkdir()
        scratch.mkdir()
        torch.rand(7)
        small_node["cgnet"].stage.run(
            context_of(small_node["cgnet"], small_node, small_store, output, scratch)
        )
        copies.append((output / "model.safetensors").read_bytes())
    assert copies[0] == copies[1]
    assert (
        copies[0]
        == (artifact_folder(small_store, small_node["cgnet"]) / "model.safetensors").read_bytes()
    )


def context_of(
    node: Node, nodes: dict[str, Node], root: Path, output: Path, scratch: Path
) -> Context:
    inputs = {field: artifact_folder(root, nodes[field]) for field in node.inputs}
    return Context(inputs=inputs, output=output, scratch=scratch)


# `cams` reads files that this pipeline does not have: test_cams_stage.py has them.
@pytest.mark.parametrize(
    "kind", [kind for kind, stage in STAGES.items() if not issubclass(stage, InPlace | ReadCams)]
)
def test_every_active_knob_is_read(
    kind: str,
    small_store: Path,
    small_node: dict[str, Node],
    small_pipeline: Pipeline,
    tmp_path: Path,
) -> None:
    everything = plan(small_pipeline, targets=tuple(Pipeline.model_fields))
    node = next(node for node in everything.values() if node.kind == kind)
    seen: set[str] = set()
    knobs = set(type(node.stage).model_fields)

    class Recording(type(node.stage)):  # type: ignore[misc]
        def __getattribute__(self, name: str) -> Any:
            if name in knobs:
                seen.add(name)
            return super().__getattribute__(name)

    stage = Recording.model_validate(node.stage.model_dump())
    output, scratch = tmp_path / "output", tmp_path / "scratch"
    output.mkdir()
    scratch.mkdir()
    seen.clear()
    stage.run(context_of(node, small_node, small_store, output, scratch))
    # `kind` says which data it is, and is read by the pipeline that chose the class.
    assert seen | {"kind"} >= knobs - node.stage.inactive()


@pytest.mark.parametrize(
    "change",
    [
        {"cgnet.erasing": "class_agnostic"},
        {"cgnet.lambda_start": 0},
        {"cgnet.mask": "hard", "cgnet.draw": "balanced", "cgnet.remaining": "oc"},
        {"cgnet.init": "pretrain"},
        {"cgnet.mask_max": "batch", "cgnet.optimizer": "sgd"},
        {"cam.source": "oc"},
        {"pseudo.source": "crf"},
        {"pseudo.source": "cam"},
        {"pseudo.crf": "psa", "pseudo.alpha_walk": 5},
        {
            "affinity.network": "irn",
            "affinity.radius": 6,
            "affinity.scale_min": 0.5,
            "pseudo.beta": 10,
        },
        {"seg.crf": "seam", "seg.flip": False},
        {"seg.crf": "mctformer", "seg.merge": "max"},
        {"deeplab.head": "aspp"},
        {"deeplab.head": "deeplabv3plus"},
        {
            "*.backbone": "resnet50",
            "*.init": "random",
            "*.batch_size": 2,
            "data.num_train": 2,
            "data.num_scored": 2,
        },
    ],
    ids=lambda change: ",".join(f"{key}={value}" for key, value in change.items()),
)
def test_variants_of_the_pipeline_run(
    change: dict[str, Any], own_store: Path, small_pipeline: Pipeline
) -> None:
    pipeline = override(small_pipeline, change)
    targets = ("seg",) if "deeplab" in str(change) or "seg.crf" in change else ("pseudo",)
    for node in plan(pipeline, targets=targets).values():
        manifest = execute(node, root=own_store)
    assert 0 <= manifest.metrics["miou"] <= 1


def test_a_finished_artifact_is_not_run_again(
    small_store: Path, small_node: dict[str, Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Stage, ctx: Context) -> dict[str, float]:
        raise AssertionError("ran again")

    monkeypatch.setattr(STAGES["MakeCam"], "run", fail)
    assert execute(small_node["cam"], root=small_store).metrics["miou"] >= 0
