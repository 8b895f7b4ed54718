"""A whole trial with the profile `reference` on a VOC tree: smaller images and networks, everything
else as it is.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from voc_tree import annotation, write_list

from occse.__main__ import main
from occse.artifacts.manifest import artifact_folder, load_manifest
from occse.data.layouts.voc import VOC_CLASSES, write_label_map
from occse.networks.classifier import Classifier
from occse.pipeline import Node, Pipeline, override, plan, profile
from occse.stages.trained import TrainedStage

SIZE = {
    "*.backbone": "resnet50",
    "*.init": "resnet50.pth",
    "oc.init": "od_cam.pth",
    "cgnet.epochs": 1,
    "affinity.epochs": 1,
    "deeplab.epochs": 1,
    "cgnet.crop": 48,
    "cgnet.resize_min": 40,
    "cgnet.resize_max": 56,
    "affinity.crop": 80,
    "deeplab.crop": 64,
}
HEIGHT, WIDTH = 40, 56
SPLITS = {"train_aug": range(10), "train": range(4), "val": range(10, 12)}
STAGES = [
    "data",
    "oc",
    "cgnet",
    "cam",
    "crf",
    "crf_low",
    "crf_high",
    "affinity",
    "pseudo",
    "deeplab",
    "seg",
]


def write_tree(root: Path) -> Path:
    """Twelve photographs of rectangles: two classes in each, one half of the picture for each of
    them.
    """
    for folder in ("JPEGImages", "Annotations", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(12):
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        left, right = 1 + number % 20, 1 + (number + 7) % 20
        mask[8:32, 6:26], mask[8:32, 30:50] = left, right
        mask[7], mask[32] = 255, 255
        colors = rng.integers(0, 256, (256, 3))
        pixels = np.clip(colors[mask] + rng.normal(0, 12, (HEIGHT, WIDTH, 3)), 0, 255).astype(
            np.uint8
        )
        name = f"2007_{number:06d}"
        Image.fromarray(pixels).save(root / "JPEGImages" / f"{name}.jpg")
        write_label_map(root / "SegmentationClass" / f"{name}.png", mask)
        objects = VOC_CLASSES[left - 1], VOC_CLASSES[right - 1]
        (root / "Annotations" / f"{name}.xml").write_text(annotation(objects))
    for split, numbers in SPLITS.items():
        write_list(root, split, tuple(f"2007_{number:06d}" for number in numbers))
    return root


def write_weights(folder: Path) -> Path:
    """Drawn weights in the two files that the profile asks for: a backbone, and a classifier."""
    folder.mkdir()
    torch.manual_seed(0)
    model = Classifier("resnet50", len(VOC_CLASSES))
    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d) and name.endswith("bn3"):
            # frozen, they do not keep a drawn network's features in bounds
            nn.init.constant_(module.weight, 0.2)
    torch.save(model.backbone.state_dict(), folder / "resnet50.pth")
    torch.save(model.state_dict(), folder / "od_cam.pth")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Weights and artifacts are half a gigabyte: they do not stay behind."""
    folder = tmp_path_factory.mktemp("reference")
    write_tree(folder / "VOC2012")
    write_weights(folder / "weights")
    yield folder
    shutil.rmtree(folder)


def run(folder: Path) -> int:
    assignments = [text for knob, value in SIZE.items() for text in ("--set", f"{knob}={value}")]
    paths = ("--data-root", "VOC2012"), ("--weights", "weights"), ("--store", "store")
    options = [text for option, name in paths for text in (option, str(folder / name))]
    return main(["run", "--profile", "reference", *options, *assignments, "--device", "cpu"])


@pytest.fixture(scope="module")
def nodes(folder: Path) -> dict[str, Node]:
    """The trial, run."""
    assert run(folder) == 0
    pipeline = override(Pipeline(), profile("reference") | SIZE)
    return plan(pipeline.resolve(folder / "VOC2012", folder / "weights"))


def test_every_stage_leaves_its_artifact_and_the_scored_ones_a_score(
    folder: Path, nodes: dict[str, Node]
) -> None:
    manifests = {field: load_manifest(folder / "store", node) for field, node in nodes.items()}
    assert sorted(manifests) == sorted(STAGES)
    for field in ("cam", "crf", "crf_low", "crf_high", "pseudo"):
        manifest = manifests[field]
        assert manifest is not None
        assert 0 < manifest.metrics["miou"] < 1
    predicted = artifact_folder(folder / "store", nodes["seg"]) / "labels"
    assert {path.stem for path in predicted.iterdir()} == {
        f"2007_{number:06d}" for number in SPLITS["val"]
    }
    cgnet = manifests["cgnet"]
    assert cgnet is not None
    assert cgnet.metrics["lambda"] == pytest.approx(0.3)
    assert cgnet.metrics["classification"] > 0
    assert cgnet.metrics["erasing"] > 0


def test_nothing_but_the_size_differs_from_the_profile(nodes: dict[str, Node]) -> None:
    reference = override(Pipeline(), profile("reference"))
    different = {
        f"{field}.{knob}"
        for field, node in nodes.items()
        for knob, value in node.stage
        if value != getattr(reference.stage(field), knob)
    }
    trained = [field for field, node in nodes.items() if isinstance(node.stage, TrainedStage)]
    of_size = {f"{field}.{knob}" for field in trained for knob in ("backbone", "init")}
    assert different == {"data.digest", "seg.digest"} | of_size | {
        knob for knob in SIZE if "*" not in knob
    }


def test_again_everything_comes_from_the_store(
    folder: Path, nodes: dict[str, Node], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(folder) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("[")]
    assert len(lines) == len(STAGES)
    assert all(line.endswith("from the store") for line in lines)
