"""Backbones of timm: a convolutional network, dilated, and a transformer at its own stride."""

import pytest
import torch

from occse.data.normalize import normalized
from occse.networks.affinity import AffinityNet
from occse.networks.backbones import build_backbone
from occse.networks.classifier import Classifier
from occse.networks.names import known_backbone

# Small models of both kinds, and the stride that each allows.
MODELS = {"timm/resnet10t": 8, "timm/pvt_v2_b0": 32}


@pytest.mark.parametrize("name", MODELS)
def test_timm_backbone_gives_taps_of_the_channels_and_stride_that_it_states(name: str) -> None:
    backbone = build_backbone(known_backbone(name)).eval()
    assert backbone.stride == MODELS[name]
    with torch.no_grad():
        taps = backbone.taps(torch.zeros(2, 3, 64, 96))
    assert tuple(tap.shape[1] for tap in taps) == backbone.channels
    assert taps[-1].shape[2:] == (64 // backbone.stride, 96 // backbone.stride)
    assert any(True for _ in backbone.stem_layers()[0].parameters())


def test_timm_model_gets_images_in_the_normalization_that_it_was_trained_with() -> None:
    image = torch.randint(0, 256, (1, 64, 96, 3), dtype=torch.uint8)
    # timm trained it with a mean and a deviation of 0.5.
    backbone = build_backbone("timm/tf_efficientnet_lite0").eval()
    own_input = (image.movedim(-1, -3) / 255 - 0.5) / 0.5
    with torch.no_grad():
        deep = backbone(normalized(image))
        expected = backbone.model(own_input)[-1]
    assert torch.allclose(deep, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
    assert not torch.allclose(deep, backbone.model(normalized(image))[-1], rtol=1e-3)


@pytest.mark.parametrize("name", MODELS)
def test_timm_classifier_learns_through_its_backbone(name: str) -> None:
    torch.manual_seed(0)
    model = Classifier(name, 3, dropout=0.0)
    model(torch.randn(2, 3, 64, 64)).mean().backward()
    gradients = [
        weights.grad for weights in model.backbone.parameters() if weights.grad is not None
    ]
    assert any(bool(gradient.abs().sum() > 0) for gradient in gradients)


def test_timm_model_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="has no model 'resnet10x'"):
        build_backbone("timm/resnet10x")


def test_timm_model_of_one_image_size_is_refused() -> None:
    with pytest.raises(ValueError, match="gives no feature maps for images of any size"):
        build_backbone("timm/swin_tiny_patch4_window7_224")


def test_backbone_that_is_none_is_refused_with_the_ways_to_name_one() -> None:
    with pytest.raises(ValueError, match=r"no backbone 'resnet51'.*timm/NAME.*module:Class"):
        known_backbone("resnet51")


def test_timm_backbone_feeds_the_affinity_network() -> None:
    network = AffinityNet("timm/resnet10t").eval()
    features = network(torch.zeros(1, 3, 64, 64))
    assert features.shape[2:] == (64 // network.stride, 64 // network.stride)
    assert torch.isfinite(features).all()
