"""Every backbone: sizes, gradients, CAMs, checkpoints, and dilation against torchvision's strided
networks.
"""

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models import resnet50
from torchvision.ops import StochasticDepth

from occse.method.cam import multi_scale_cam
from occse.networks.affinity import AffinityNet
from occse.networks.backbones import BUILDERS, build_backbone
from occse.networks.boundary import BoundaryNet
from occse.networks.classifier import Classifier, load_classifier, logits, save_classifier
from occse.networks.names import WITHOUT_BATCH_NORM, BackboneName
from occse.stages.deeplab import TrainSegmentation
from occse.stages.oc import TrainClassifier

NAMES: tuple[BackboneName, ...] = get_args(BackboneName)
ODD = (50, 67)
DILATED = {
    "resnet50": (torchvision.models.resnet50, "ResNet50_Weights"),
    "resnet101": (torchvision.models.resnet101, "ResNet101_Weights"),
    "vgg16": (torchvision.models.vgg16, "VGG16_Weights"),
    "convnext_tiny": (torchvision.models.convnext_tiny, "ConvNeXt_Tiny_Weights"),
}


@pytest.mark.parametrize("name", NAMES)
def test_a_backbone_learns_makes_cams_and_comes_back_from_its_checkpoint(
    name: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = Classifier(name, 3)
    stride = model.backbone.stride
    images = torch.randn(2, 3, *ODD)
    taps = model.backbone.taps(images)
    assert [tap.shape[1] for tap in taps] == list(model.backbone.channels)
    assert taps[-1].shape[2:] == (-(-ODD[0] // stride), -(-ODD[1] // stride))
    low, deep = model.backbone.low_and_deep(images)
    assert low.shape[1] == model.backbone.low_channels
    assert low.shape[2] >= deep.shape[2] == taps[-1].shape[2]

    for module in model.modules():
        if isinstance(module, StochasticDepth):
            module.eval()  # a block that is left out gets no gradient
    logits(model(images)).square().sum().backward()
    silent = [
        key for key, value in model.named_parameters() if value.grad is None or not value.grad.any()
    ]
    assert not silent

    model.eval()
    pixels = np.random.default_rng(0).integers(0, 256, (2, *ODD, 3), np.uint8)
    cams = multi_scale_cam(
        model, pixels, present=[[2, 0], [1]], scales=(1.0, 1.3), flip=True, device="cpu"
    )
    assert [cam.shape for cam in cams] == [(2, *ODD), (1, *ODD)]
    assert all(np.isfinite(cam).all() for cam in cams)

    save_classifier(model, tmp_path / "model.safetensors")
    loaded = load_classifier(tmp_path / "model.safetensors")
    assert loaded.architecture == {"backbone": name, "num_classes": 3}
    for (key, ours), theirs in zip(
        model.state_dict().items(), loaded.state_dict().values(), strict=True
    ):
        assert torch.equal(ours, theirs), key
    for ours, theirs in zip(
        model.to(memory_format=torch.channels_last)(images), loaded(images), strict=True
    ):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("name", NAMES)
def test_affinity_net_takes_the_taps_of_every_backbone(name: str) -> None:
    net = AffinityNet(name).eval()
    with torch.no_grad():
        assert net(torch.zeros(1, 3, *ODD)).shape[2:] == (
            -(-ODD[0] // net.stride),
            -(-ODD[1] // net.stride),
        )


@pytest.mark.parametrize("name", NAMES)
def test_boundary_net_takes_the_levels_of_every_backbone(name: str) -> None:
    net = BoundaryNet(name).eval()
    with torch.no_grad():
        levels = net.backbone.levels(torch.zeros(1, 3, *ODD))
        assert tuple(level.shape[1] for level in levels) == net.backbone.level_channels
        assert net(torch.zeros(1, 3, *ODD)).shape[1:] == (
            -(-ODD[0] // net.stride),
            -(-ODD[1] // net.stride),
        )


def strided_features(name: str, net: nn.Module, images: Tensor) -> Tensor:
    """The last map of torchvision's own network; VGG's without its last pooling, at stride 16."""
    if name == "vgg16":
        return net.features[:-1](images)
    if name == "convnext_tiny":
        return net.classifier[0](net.features(images))
    return nn.Sequential(*list(net.children())[:-2])(images)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Torch's cache of downloads, empty."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize("name", DILATED)
def test_dilation_keeps_what_the_network_of_the_imagenet_weights_computes(
    name: str, cache: Path
) -> None:
    torch.manual_seed(0)
    build, enum = DILATED[name]
    original = build(num_classes=2).eval()
    for module in original.modules():  # as if trained: no statistic is that of an untrained network
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    for key, parameter in original.named_parameters():
        if key.endswith("layer_scale"):
            nn.init.constant_(parameter, 0.3)
    weights = original.state_dict()
    if name == "vgg16":
        del weights["classifier.0.weight"]  # 400 MB that nobody reads
    url = torchvision.models.get_weight(f"{enum}.IMAGENET1K_V1").url
    torch.save(weights, cache / Path(url).name)
    images = torch.randn(1, 3, 96, 64)
    expected = strided_features(name, original, images)
    for variant in (name, f"{name}_s16"):
        backbone = build_backbone(variant)
        backbone.load_imagenet()
        step = (16 if name == "vgg16" else 32) // backbone.stride
        with torch.no_grad():
            features = backbone.eval()(images)[..., ::step, ::step]
        torch.testing.assert_close(
            features, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item()
        )


def test_imagenet_weights_out_of_reach_say_which_file_belongs_where(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    with pytest.raises(
        ValueError, match=r"ResNet50_Weights.IMAGENET1K_V1 cannot be loaded.*resnet50-\w+\.pth into"
    ):
        build_backbone("resnet50").load_imagenet()


class Hostile:
    def __reduce__(self) -> tuple[object, ...]:
        return print, ("executed",)


def test_a_cached_file_is_never_unpickled(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = torchvision.models.get_weight("ResNet50_Weights.IMAGENET1K_V1").url
    torch.save({"conv1.weight": Hostile()}, cache / Path(url).name)
    with pytest.raises(ValueError, match="cannot be loaded"):
        build_backbone("resnet50").load_imagenet()
    assert "executed" not in capsys.readouterr().out


def test_a_new_head_is_spread_as_psa_and_oc_cse_spread_theirs() -> None:
    # xavier_uniform: U(-b, b), b = sqrt(6 / (inputs + outputs))
    weight = Classifier("tiny", 1000).head.weight
    bound = (6 / (64 + 1000)) ** 0.5
    assert 0.99 * bound < weight.abs().max().item() <= bound
    assert weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.01)


def test_the_names_are_those_that_can_be_built() -> None:
    assert set(BUILDERS) == set(NAMES)
    with pytest.raises(
        ValueError, match=r"no backbone 'resnet51'; the backbones are tiny, resnet38, resnet50"
    ):
        build_backbone("resnet51")


@pytest.mark.parametrize("name", NAMES)
def test_freezing_batch_norm_is_a_knob_only_where_there_is_one(name: BackboneName) -> None:
    has = any(isinstance(module, nn.BatchNorm2d) for module in build_backbone(name).modules())
    assert (name not in WITHOUT_BATCH_NORM) == has
    assert ("freeze_bn" in TrainClassifier(backbone=name).config()) == has
    assert ("freeze_bn" in TrainSegmentation(backbone=name, head="aspp").config()) == has
    assert "freeze_bn" in TrainSegmentation(backbone=name).config()


def test_a_stride_that_no_network_has_is_refused() -> None:
    with pytest.raises(ValueError, match="a stride of 32 is not allowed; expected 8 or 16"):
        BUILDERS["resnet50"](stride=32)  # type: ignore[call-arg]


def test_resnet50_irn_drops_its_last_stride_without_dilation() -> None:
    """irn's ResNet-50: torchvision's, with stride 1 in layer4 and nothing else changed."""
    ours = build_backbone("resnet50_irn").double().eval()
    theirs = resnet50().double().eval()
    theirs.layer4[0].conv2.stride = theirs.layer4[0].downsample[0].stride = (1, 1)
    theirs.load_state_dict(ours.resnet.state_dict(), strict=False)
    images = torch.randn(1, 3, 50, 66, dtype=torch.float64)
    with torch.no_grad():
        pooled = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(images))))
        expected = theirs.layer4(theirs.layer3(theirs.layer2(theirs.layer1(pooled))))
        torch.testing.assert_close(ours(images), expected)
        dilated = build_backbone("resnet50_s16").double().eval()
        dilated.load_state_dict(ours.state_dict())
        assert not torch.allclose(dilated(images), expected)
