"""The segmentation heads, the merging of scales, and what the checkpoints carry."""

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from occse.data.normalize import to_tensor
from occse.data.resize import opencv_cubic
from occse.networks.backbones import build_backbone
from occse.networks.deeplab import (
    DeepLab,
    load_deeplab,
    multi_scale_scores,
    save_deeplab,
    segmentation_loss,
)
from occse.networks.deeplab_heads import LargeFov, SummedAspp, build_head
from occse.networks.names import HeadName
from occse.pipeline import Pipeline, override, plan
from occse.stages.deeplab import TrainSegmentation
from occse.stages.seg import Segment

HEADS: tuple[HeadName, ...] = get_args(HeadName)
ODD = (50, 67)


def network(head: str, backbone: str = "tiny") -> DeepLab:
    torch.manual_seed(0)
    options = {"width": 16, "dilation": 4} if head == "largefov" else {}
    return DeepLab(backbone, 5, head, **options)


@pytest.mark.parametrize("head", HEADS)
def test_every_head_learns_and_comes_back_from_its_checkpoint(head: str, tmp_path: Path) -> None:
    model = network(head)
    images, labels = torch.randn(2, 3, *ODD), torch.randint(0, 6, (2, *ODD))
    loss = segmentation_loss(model(images), labels)
    loss.backward()
    silent = [
        name
        for name, value in model.named_parameters()
        if value.grad is None or not value.grad.any()
    ]
    assert not silent
    save_deeplab(model, tmp_path / "model.safetensors")
    loaded = load_deeplab(tmp_path / "model.safetensors")
    assert loaded.architecture["head"] == head
    expected = model.eval().to(memory_format=torch.channels_last)(images)
    assert torch.equal(loaded(images), expected)


@pytest.mark.parametrize(("head", "stride"), [("largefov", 16), ("aspp", 16), ("deeplabv3plus", 4)])
def test_only_the_decoder_of_deeplabv3plus_has_the_resolution_of_the_shallow_map(
    head: str, stride: int
) -> None:
    model = network(head, "resnet50_s16").eval()
    with torch.no_grad():
        scores = model(torch.zeros(1, 3, *ODD))
    assert scores.shape == (1, 6, -(-ODD[0] // stride), -(-ODD[1] // stride))


def test_large_fov_is_seams() -> None:
    """3x3 dilated by 12 and 1x1, each with batch norm and without bias, then dropout and 1x1; 512
    channels.
    """
    head = LargeFov(4096, 21, width=512, dilation=12)
    layers = [each for each in head.modules() if not list(each.children())]
    assert [type(each) for each in layers] == [
        *(nn.Conv2d, nn.BatchNorm2d, nn.ReLU),
        *(nn.Conv2d, nn.BatchNorm2d, nn.ReLU),
        *(nn.Dropout, nn.Conv2d),
    ]
    convs = [each for each in layers if isinstance(each, nn.Conv2d)]
    assert [(each.kernel_size, each.dilation, each.bias is None) for each in convs] == [
        ((3, 3), (12, 12), True),
        ((1, 1), (1, 1), True),
        ((1, 1), (1, 1), False),
    ]
    assert [each.out_channels for each in convs] == [512, 512, 21]


def test_aspp_sums_four_dilated_convolutions() -> None:
    torch.manual_seed(0)
    head, deep = SummedAspp(8, 3), torch.randn(2, 8, 30, 41)
    expected = sum(
        functional.conv2d(deep, branch.weight, branch.bias, padding=rate, dilation=rate)
        for branch, rate in zip(head.branches, (6, 12, 18, 24), strict=True)
    )
    torch.testing.assert_close(head(deep, deep), expected)


@pytest.mark.parametrize(
    ("backbone", "rates"), [("resnet50_s16", (6, 12, 18)), ("resnet50", (12, 24, 36))]
)
def test_rates_of_deeplabv3plus_grow_as_the_stride_falls(
    backbone: str, rates: tuple[int, ...]
) -> None:
    head = build_head("deeplabv3plus", build_backbone(backbone), num_labels=6, width=8, dilation=1)
    found = [
        each.dilation[0]
        for each in head.modules()
        if isinstance(each, nn.Conv2d) and each.dilation != (1, 1)
    ]
    assert tuple(found) == rates


def test_an_unknown_head_is_refused_with_those_there_are() -> None:
    with pytest.raises(
        ValueError, match="no head 'psp'; the heads are largefov, aspp, deeplabv3plus"
    ):
        DeepLab("tiny", 5, "psp")


def test_one_image_per_batch_cannot_be_normalized_by_deeplabv3plus() -> None:
    with pytest.raises(ValueError, match="batch_size 1 needs freeze_bn"):
        TrainSegmentation(head="deeplabv3plus", batch_size=1)
    assert TrainSegmentation(head="deeplabv3plus", batch_size=1, freeze_bn=True).batch_size == 1


@pytest.mark.parametrize(
    ("change", "base", "same"),
    [
        ({"deeplab.width": 64}, {"deeplab.head": "aspp"}, True),
        ({"deeplab.dilation": 6}, {"deeplab.head": "deeplabv3plus"}, True),
        ({"deeplab.width": 64}, {}, False),
        ({"deeplab.head": "aspp"}, {}, False),
        ({"deeplab.freeze_bn": True}, {"deeplab.head": "aspp", "deeplab.backbone": "vgg16"}, True),
        ({"deeplab.freeze_bn": True}, {"deeplab.head": "aspp"}, False),
        ({"seg.merge": "max"}, {"seg.scales": [1.0], "seg.flip": False}, True),
        ({"seg.merge": "max"}, {"seg.scales": [1.0]}, False),
        ({"seg.crf": "seam"}, {}, False),
        ({"seg.split": "test"}, {}, False),
    ],
)
def test_knobs_without_effect_leave_the_fingerprint(change: dict, base: dict, same: bool) -> None:
    before = plan(override(Pipeline(), base))["seg"].fingerprint
    assert (plan(override(Pipeline(), base | change))["seg"].fingerprint == before) == same


def test_a_crf_that_does_not_exist_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"seg\.crf: Input should be 'none', 'psa', 'irn'.*got True"
    ):
        override(Pipeline(), {"seg.crf": True})


def answers(calls: list[Tensor]) -> nn.Module:
    """A strided convolution that notes what it is given."""
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 4, 3, stride=4, padding=1).eval()
    conv.register_forward_pre_hook(lambda _, arguments: calls.append(arguments[0].detach()))
    return conv


@pytest.mark.parametrize("flip", [True, False])
@pytest.mark.parametrize("merge", ["mean", "max"])
def test_scales_are_merged_as_defined(merge: str, flip: bool) -> None:
    calls: list[Tensor] = []
    conv = answers(calls)
    images = np.random.default_rng(0).integers(0, 256, (2, 21, 30, 3), np.uint8)
    found = multi_scale_scores(
        conv, images, scales=(0.5, 1.0, 1.5), flip=flip, merge=merge, device="cpu"
    )
    inputs, passes = tuple(calls), []
    with torch.no_grad():
        for batch in inputs:
            scores = functional.interpolate(
                conv(batch), (21, 30), mode="bilinear", align_corners=False
            )
            passes += [scores[:2], scores[2:].flip(-1)] if flip else [scores]
    assert len(passes) == (6 if flip else 3)
    stacked = torch.stack(passes)
    expected = stacked.mean(0).softmax(1) if merge == "mean" else stacked.softmax(2).amax(0)
    torch.testing.assert_close(found, expected)


def test_one_pass_has_nothing_to_merge() -> None:
    images = np.random.default_rng(0).integers(0, 256, (1, 21, 30, 3), np.uint8)
    mean, largest = (
        multi_scale_scores(
            answers([]), images, scales=(0.75,), flip=False, merge=merge, device="cpu"
        )
        for merge in ("mean", "max")
    )
    assert torch.equal(mean, largest)
    assert "merge" in Segment(scales=(0.75,), flip=False).inactive()


def test_align_corners_is_kept_by_the_checkpoint_and_used_by_loss_and_inference(
    tmp_path: Path,
) -> None:
    """SEAM's network enlarges its scores to its input, its test enlarges these to the image."""
    torch.manual_seed(0)
    model = DeepLab("tiny", 5, width=16, dilation=4, align_corners=True).eval()
    save_deeplab(model, tmp_path / "model.safetensors")
    loaded = load_deeplab(tmp_path / "model.safetensors")
    assert loaded.align_corners
    assert not network("aspp").align_corners
    images = np.random.default_rng(0).integers(0, 256, (1, *ODD, 3)).astype(np.uint8)
    seen: list[Tensor] = []

    def official(inputs: Tensor) -> Tensor:
        scores = loaded(inputs)
        enlarged = functional.interpolate(
            scores, inputs.shape[2:], mode="bilinear", align_corners=True
        )
        seen.append(functional.interpolate(enlarged, ODD, mode="bilinear", align_corners=True))
        return scores

    ours = multi_scale_scores(
        official, images, scales=(0.75,), flip=False, align_corners=True, device="cpu"
    )
    torch.testing.assert_close(ours, seen[0].softmax(1))
    labels = torch.randint(0, 6, (1, *ODD))
    with torch.no_grad():
        scores = loaded(torch.randn(1, 3, *ODD))
    aligned, plain = (
        segmentation_loss(scores, labels, align_corners=corners) for corners in (True, False)
    )
    full = functional.interpolate(scores, ODD, mode="bilinear", align_corners=True)
    torch.testing.assert_close(aligned, functional.cross_entropy(full, labels))
    assert aligned != plain


def test_inference_with_opencv_s_resampling_resizes_normalized_images() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, *ODD, 3)).astype(np.uint8)
    inputs: list[Tensor] = []

    def network(batch: Tensor) -> Tensor:
        inputs.append(batch)
        return batch

    multi_scale_scores(
        network, images, scales=(1.25,), flip=False, resampling="opencv", device="cpu"
    )
    torch.testing.assert_close(inputs[0], opencv_cubic(to_tensor(images), 1.25))
