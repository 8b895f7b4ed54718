"""Combinations of knobs that cannot run are refused by the plan, not by the eighth stage."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from occse.data.shapes.write import shape
from occse.networks.backbones import BUILDERS, build_backbone
from occse.networks.names import LEVEL_STRIDES, STRIDES, WITHOUT_IMAGENET
from occse.pipeline import check_files, default_pipeline, doubts, override, plan
from occse.stages.data import SCENE_SIDE

VOC = {"data.kind": "voc"}


@pytest.mark.parametrize(
    ("profile", "knobs", "message"),
    [
        (
            "modern",
            {"*.init": "random", "*.crop": 64},
            "affinity: crop is 64, which is 8 cells at stride 8 of resnet50; radius 5 needs 9: "
            "expected crop above 64",
        ),
        ("embedded", {"affinity.radius": 12}, "affinity: crop is 80, .* radius 12 needs 23"),
        (
            "modern",
            {"affinity.network": "irn", "affinity.radius": 10, "affinity.crop": 72},
            "affinity: crop is 72, which is 18 cells at stride 4 of resnet50; radius 10 needs 19",
        ),
        (
            "embedded",
            {"cgnet.batch_size": 301},
            "cgnet: batch_size is 301, but train_aug has 300 images: expected at most 300",
        ),
        (
            "embedded",
            {"pretrain.batch_size": 2000},
            "pretrain: batch_size is 2000, but object_centric has 1500 images",
        ),
        (
            "embedded",
            {"cam.scales": [1.0, 0.001]},
            "cam: scales has 0.001, which leaves no pixel of an image whose shorter side is 80",
        ),
        ("modern", {"seg.scales": [0.001]}, "seg: scales has 0.001, .* shorter side is 375"),
        ("embedded", {"deeplab.scale_min": 0.001}, "deeplab: scale_min has 0.001"),
        (
            "embedded",
            {"oc.init": "imagenet"},
            "oc: init is 'imagenet', but there are no ImageNet weights of tiny",
        ),
        ("embedded", {"seg.split": "test"}, "seg: split is 'test', which the data do not have"),
        (
            "embedded",
            VOC,
            r"pretrain: it needs a split 'object_centric', which only the data 'shapes' has",
        ),
        ("embedded", {"*.seed": 2**64}, r"\*.seed: Input should be less than 18446744073709551616"),
    ],
)
def test_knobs_that_exclude_each_other_are_named(
    profile: str, knobs: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        plan(override(default_pipeline(profile), knobs))


@pytest.mark.parametrize(
    ("profile", "knobs"),
    [
        ("modern", {"*.crop": 65}),
        ("embedded", {"cgnet.batch_size": 300, "*.seed": 2**64 - 1}),
        ("modern", {"affinity.network": "irn", "affinity.radius": 10, "affinity.crop": 73}),
        ("embedded", {"cam.scales": [0.01]}),
        ("modern", VOC | {"seg.split": "test"}),
        ("reference", {}),
        ("paper", {}),
    ],
)
def test_knobs_at_the_bound_are_allowed(profile: str, knobs: dict[str, Any]) -> None:
    assert plan(override(default_pipeline(profile), knobs))


def test_a_stage_that_is_not_planned_has_no_say() -> None:
    pipeline = override(default_pipeline("modern"), {"*.crop": 64})
    assert "affinity" not in plan(pipeline, targets=("cam",))


def test_weight_file_without_its_folder_is_doubted() -> None:
    made = override(default_pipeline("embedded"), {"deeplab.init": "convnext_tiny.pth"})
    (doubt,) = doubts(plan(made))
    assert "deeplab: init is the file convnext_tiny.pth, which is not checked yet" in doubt


def test_random_weights_that_stay_frozen_are_doubted() -> None:
    pipeline = override(default_pipeline("modern"), {"*.init": "random"})
    lines = doubts(plan(pipeline))
    for knob in ("freeze_bn", "freeze_stem"):
        doubted = [line.split(":")[0] for line in lines if f"{knob} keeps" in line]
        assert doubted == ["oc", "cgnet", "affinity"]
    mended = override(pipeline, {"*.freeze_bn": False, "*.freeze_stem": False})
    assert doubts(plan(mended)) == []


@pytest.mark.parametrize("name", list(BUILDERS))
def test_strides_of_the_names_are_those_of_the_networks(name: str) -> None:
    with torch.device("meta"):
        backbone = build_backbone(name)
    assert (STRIDES[name], LEVEL_STRIDES[name]) == (backbone.stride, backbone.level_stride)


@pytest.mark.parametrize("name", sorted(WITHOUT_IMAGENET))
def test_backbones_without_imagenet_weights_refuse_them(name: str) -> None:
    with pytest.raises(ValueError, match="no ImageNet weights"):
        build_backbone(name).load_imagenet()


def test_drawn_images_have_the_side_that_the_knobs_promise() -> None:
    assert shape("train", 0, drawing=0).image.shape[:2] == (SCENE_SIDE, SCENE_SIDE)


def test_the_images_of_a_folder_are_known_once_it_was_read(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    rows = ["image,split,labels"]
    for number in range(8):
        split = "train" if number < 6 else "val"
        rows.append(f"photo{number},{split},cat")
        pixels = np.random.default_rng(number).integers(0, 255, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"photo{number}.jpg")
        Image.fromarray(pixels[..., 0] % 3).save(tmp_path / "masks" / f"photo{number}.png")
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    knobs = {"data.kind": "folder", "*.init": "random", "*.batch_size": 8}
    pipeline = override(default_pipeline("modern"), knobs)
    assert plan(pipeline)
    with pytest.raises(ValueError, match="batch_size is 8, but train_aug has 6 images"):
        plan(pipeline.resolve(tmp_path))


def test_weights_of_another_backbone_are_refused_before_anything_runs(tmp_path: Path) -> None:
    save_file(build_backbone("tiny").state_dict(), tmp_path / "tiny.safetensors")
    knobs = {"*.init": "tiny.safetensors"}
    fitting = override(default_pipeline("embedded"), knobs).resolve(None, tmp_path)
    check_files(plan(fitting).values(), tmp_path)
    other = override(default_pipeline("embedded"), knobs | {"deeplab.backbone": "resnet50"})
    with pytest.raises(ValueError, match=r"deeplab\.init: .*does not fill the backbone resnet50"):
        check_files(plan(other.resolve(None, tmp_path)).values(), tmp_path)
