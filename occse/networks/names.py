"""Names of networks, as knobs take them; reading them needs no torch."""

from typing import Annotated, Literal, get_args

from pydantic import AfterValidator

from occse.stage import PLUGIN_SOURCES

# A name fixes the stride too, 8 or (`_s16`, `_irn`) 16, so that a checkpoint need not carry
# more than it.
BackboneName = Literal[
    "tiny",
    "resnet38",
    "resnet50",
    "resnet50_s16",
    "resnet50_irn",
    "resnet101",
    "resnet101_s16",
    "vgg16",
    "vgg16_s16",
    "convnext_tiny",
    "convnext_tiny_s16",
]
TIMM = "timm/"
"""First letters of the names of timm's models, such as `timm/resnest101e`."""


def known_backbone(name: str) -> str:
    """Return the name of a backbone: one of ours, one of timm's, or a plugin's (`module:Class`).

    Raises:
        ValueError: it is none of these, or the plugin is not loaded.
    """
    module, colon, _ = name.partition(":")
    if name in get_args(BackboneName) or (name.startswith(TIMM) and name != TIMM):
        return name
    if not colon:
        ours = ", ".join(get_args(BackboneName))
        raise ValueError(
            f"no backbone {name!r}; expected {ours}, one of timm's (timm/NAME) or a plugin's "
            "(module:Class)"
        )
    if not any(module == plugin or module.startswith(f"{plugin}.") for plugin in PLUGIN_SOURCES):
        raise ValueError(
            f"the backbone {name!r} is in no plugin; expected {module} among the sweep's "
            "`plugins`, or in OCCSE_PLUGINS"
        )
    return name


AnyBackbone = Annotated[str, AfterValidator(known_backbone)]
NetworkName = Literal[
    "psa",  # AffinityNet
    "irn",  # class boundaries
]
"""Networks of the stage `affinity`."""
HeadName = Literal["largefov", "aspp", "deeplabv3plus"]
"""Heads of the stage `deeplab`."""
Precision = Literal[
    "float32",
    "tf32",  # on GPUs, convolutions and products round their inputs to 10 bits
    "bfloat16",  # convolutions and products round to 8 bits; weights and sums stay float32
]
"""Precision that a network computes in."""

# Written out, because asking a network would need torch; a test compares them.
STRIDES: dict[str, int] = {
    "tiny": 4,
    "resnet38": 8,
    "resnet50": 8,
    "resnet50_s16": 16,
    "resnet50_irn": 16,
    "resnet101": 8,
    "resnet101_s16": 16,
    "vgg16": 8,
    "vgg16_s16": 16,
    "convnext_tiny": 8,
    "convnext_tiny_s16": 16,
}
"""Pixels of the image per pixel of the deepest feature map, of our own backbones."""
LEVEL_STRIDES: dict[str, int] = {name: 8 if name == "resnet38" else 4 for name in STRIDES}
"""Pixels of the image per pixel of the first map that IRN's boundaries read."""
WITHOUT_IMAGENET: frozenset[BackboneName] = frozenset({"tiny", "resnet38"})
"""Backbones for which torchvision publishes no ImageNet weights."""
WITHOUT_BATCH_NORM: frozenset[BackboneName] = frozenset(
    {"vgg16", "vgg16_s16", "convnext_tiny", "convnext_tiny_s16"}
)
