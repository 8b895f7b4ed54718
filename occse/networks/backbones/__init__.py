"""Feature extractors that a sweep can vary."""

import importlib
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import get_args

from occse.networks.backbones.backbone import Backbone
from occse.networks.backbones.convnext import DilatedConvNeXt
from occse.networks.backbones.resnet import DilatedResNet
from occse.networks.backbones.resnet38 import ResNet38
from occse.networks.backbones.tiny import Tiny
from occse.networks.backbones.vgg import DilatedVgg
from occse.networks.names import TIMM, BackboneName

BUILDERS: Mapping[str, Callable[[], Backbone]] = MappingProxyType(
    {
        "tiny": Tiny,
        "resnet38": ResNet38,
        "resnet50": partial(DilatedResNet, 50, stride=8),
        "resnet50_s16": partial(DilatedResNet, 50, stride=16),
        "resnet50_irn": partial(DilatedResNet, 50, stride=16, dilate=False),
        "resnet101": partial(DilatedResNet, 101, stride=8),
        "resnet101_s16": partial(DilatedResNet, 101, stride=16),
        "vgg16": partial(DilatedVgg, stride=8),
        "vgg16_s16": partial(DilatedVgg, stride=16),
        "convnext_tiny": partial(DilatedConvNeXt, stride=8),
        "convnext_tiny_s16": partial(DilatedConvNeXt, stride=16),
    }
)
__all__ = ["Backbone", "build_backbone"]


def build_backbone(name: str) -> Backbone:
    """Return an untrained backbone: one of ours, one of timm's, or a plugin's (`module:Class`).

    Raises:
        ValueError: there is no backbone of that name.
    """
    if name in BUILDERS:
        return BUILDERS[name]()
    if name.startswith(TIMM):
        # Imported here: timm is an extra.
        from occse.networks.backbones.timm_features import TimmBackbone

        return TimmBackbone(name.removeprefix(TIMM))
    module, colon, own = name.partition(":")
    if not colon:
        raise ValueError(
            f"no backbone {name!r}; the backbones are {', '.join(get_args(BackboneName))}"
        )
    classes = vars(importlib.import_module(module))
    backbone = classes[own]() if own in classes else None
    if isinstance(backbone, Backbone):
        return backbone
    raise ValueError(f"{name} is not a backbone; expected a subclass of {Backbone.__name__}")
