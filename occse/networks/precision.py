"""The precision in which a network computes.

It changes numbers, so it is a knob of every stage that runs a network.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from occse.networks.names import Precision


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """Return the context in which a network computes in `precision`."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


def in_precision(
    network: Callable[[Tensor], Tensor], precision: Precision
) -> Callable[[Tensor], Tensor]:
    """Return `network` as a function that computes in `precision` and returns float32."""

    def run(images: Tensor) -> Tensor:
        with autocast(images.device, precision):
            return network(images).float()

    return run
