"""Names of networks, as knobs take them. Reading a knob needs no torch, so neither does this file."""

from typing import Literal

# A name fixes the stride too, 8 or (`_s16`) 16, so that a checkpoint need not carry more than it.
BackboneName = Literal[
    "tiny",
    "resnet38",
    "resnet50",
    "resnet50_s16",
    "resnet101",
    "resnet101_s16",
    "vgg16",
    "vgg16_s16",
    "convnext_tiny",
    "convnext_tiny_s16",
]
NetworkName = Literal[
    "psa",  # AffinityNet
    "irn",  # class boundaries
]
"""Networks of the stage `affinity`."""
HeadName = Literal["largefov", "aspp", "deeplabv3plus"]
"""Heads of the stage `deeplab`."""
Precision = Literal[
    "float32",
    "bfloat16",  # convolutions and products round to 8 bits; weights and sums stay float32
]
"""Precision that a network computes in."""

WITHOUT_BATCH_NORM: frozenset[BackboneName] = frozenset(
    {"vgg16", "vgg16_s16", "convnext_tiny", "convnext_tiny_s16"}
)
