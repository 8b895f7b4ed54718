"""The precision in which a network computes.

It changes numbers, so it is a knob of every stage that runs a network.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from occse.networks.names import Precision


@contextmanager
def autocast(device: torch.device, precision: Precision) -> Iterator[None]:
    """Let a network compute in `precision`.

    torch rounds the inputs of convolutions on GPUs to TF32 unless it is told not to, so "float32"
    says so, and only "tf32" allows it.
    """
    with (
        torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"),
        _tf32(precision == "tf32"),
    ):
        yield


@contextmanager
def _tf32(allowed: bool) -> Iterator[None]:
    convolutions = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    products = torch.backends.cuda.matmul
    before = (convolutions.fp32_precision, products.fp32_precision)
    rounding = "tf32" if allowed else "ieee"
    convolutions.fp32_precision = rounding
    products.fp32_precision = rounding
    try:
        yield
    finally:
        convolutions.fp32_precision, products.fp32_precision = before


@contextmanager
def tuned_convolutions() -> Iterator[None]:
    """Let cuDNN time its algorithms for each size of input and keep the fastest one.

    This pays where all inputs have one size, as the crops of a training do. Each new size costs a
    second, so inference on images of any size does without.
    """
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def in_precision(
    network: Callable[[Tensor], Tensor], precision: Precision
) -> Callable[[Tensor], Tensor]:
    """Return `network` as a function that computes in `precision` and returns float32."""

    def run(images: Tensor) -> Tensor:
        with autocast(images.device, precision):
            return network(images).float()

    return run
