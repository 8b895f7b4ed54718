"""Feature extractors that a sweep can vary."""

from typing import Literal, get_args

from occse.backbones.backbone import Backbone
from occse.backbones.resnet import DilatedResNet
from occse.backbones.resnet38 import ResNet38
from occse.backbones.tiny import Tiny

BackboneName = Literal["tiny", "resnet50", "resnet38"]

__all__ = ["Backbone", "BackboneName", "build_backbone"]


def build_backbone(name: str) -> Backbone:
    """An untrained backbone.

    Raises:
        ValueError: there is no backbone of that name.
    """
    if name == "tiny":
        return Tiny()
    if name == "resnet50":
        return DilatedResNet()
    if name == "resnet38":
        return ResNet38()
    raise ValueError(f"no backbone {name!r}; the backbones are {', '.join(get_args(BackboneName))}")
