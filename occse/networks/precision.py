"""The precision that a network computes in. It changes numbers, so it is a knob of the stages that
run networks.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

Precision = Literal["float32", "bfloat16"]


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """Where a network computes: "bfloat16" lets convolutions and products round to 8 bits, weights
    stay float32.
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


def in_precision(
    network: Callable[[Tensor], Tensor], precision: Precision
) -> Callable[[Tensor], Tensor]:
    """`network`, computing in `precision`; its output is float32 again."""

    def run(images: Tensor) -> Tensor:
        with autocast(images.device, precision):
            return network(images).float()

    return run
