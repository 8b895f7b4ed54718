"""Batches that fit into the memory of a device, whatever its size.

How many images go through a network at once does not change their results but for the order of
sums, so it is not a knob. It follows from the memory that one image takes and from the memory that
is free, both measured.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

# Share of the free memory that is used: the rest is for fragments between the tensors, and for the
# workspaces that cuDNN chooses by what is free.
SHARE = 0.8


@runtime_checkable
class Meter(Protocol):
    """Measures the memory of a device, in bytes."""

    def free(self) -> int | None:
        """Return the memory that could still be allocated; None: unknown."""

    def taken_by(self, call: Callable[[], Tensor]) -> tuple[Tensor, int]:
        """Return the result of a call, and the most memory that it took at once."""


class CudaMeter:
    """The memory of a GPU, as torch's allocator counts it."""

    def __init__(self, device: str) -> None:
        self.device = torch.device(device)

    def free(self) -> int | None:
        """Return the memory that the driver or torch's cache could still give."""
        at_driver = int(torch.cuda.mem_get_info(self.device)[0])
        reserved = torch.cuda.memory_reserved(self.device)
        return at_driver + reserved - torch.cuda.memory_allocated(self.device)

    def taken_by(self, call: Callable[[], Tensor]) -> tuple[Tensor, int]:
        """Return the result of a call, and the peak of the memory above that before it."""
        torch.cuda.reset_peak_memory_stats(self.device)
        before = torch.cuda.memory_allocated(self.device)
        result = call()
        return result, torch.cuda.max_memory_allocated(self.device) - before


class HostMeter:
    """The memory of a CPU, which is not measured: batches are not split."""

    def free(self) -> int | None:
        """Return None."""
        return None

    def taken_by(self, call: Callable[[], Tensor]) -> tuple[Tensor, int]:
        """Return the result of a call, and 0."""
        return call(), 0


def meter_of(device: str) -> Meter:
    """Return the meter of a device."""
    return CudaMeter(device) if device.startswith("cuda") else HostMeter()


@dataclass
class Portions:
    """Computes batches in portions that fit into memory.

    The first item of a size is computed alone and measured. The next portion is as large as the
    free memory allows. A portion that does not fit is halved and computed again, and no later
    portion of that size is larger.

    Attributes:
        meter: of the device.
        limits: the largest portion by size of an item, as far as it is known.
    """

    meter: Meter
    limits: dict[tuple[int, ...], int] = field(default_factory=dict)

    def __call__(
        self, function: Callable[[Tensor], Tensor], items: Tensor, *, size: tuple[int, ...]
    ) -> Tensor:
        """Return the concatenated results of `function` on portions of `items`.

        Args:
            function: maps (P, ...) to (P, ...), item by item.
            items: (B, ...), at least one.
            size: (height, width) of the images behind the items: items of one size take the same
                memory.

        Raises:
            ValueError: one item alone does not fit into memory.
        """
        results: list[Tensor] = []
        first = 0
        while first < len(items):
            count = min(self._limit(size), len(items) - first)
            result = self._try(function, items[first : first + count], size)
            if result is None:
                self._halve(size, count)
            else:
                results.append(result)
                first += count
        return results[0] if len(results) == 1 else torch.cat(results)

    def _limit(self, size: tuple[int, ...]) -> int:
        if size in self.limits:
            return self.limits[size]
        # An unknown size on a device that can be measured starts with one item.
        return 1 if self.meter.free() is not None else 1 << 30

    def _try(
        self, function: Callable[[Tensor], Tensor], portion: Tensor, size: tuple[int, ...]
    ) -> Tensor | None:
        """Return the result of a portion; None if it does not fit into memory.

        The exception is left behind in this call: while it is alive, its traceback keeps the
        tensors of the failed portion in memory, and no smaller portion would fit either.
        """
        try:
            result, taken = self.meter.taken_by(lambda: function(portion))
        except torch.OutOfMemoryError:
            return None
        if size not in self.limits and taken > 0:
            free = self.meter.free() or 0
            self.limits[size] = max(1, int(SHARE * free * len(portion) / taken))
        return result

    def _halve(self, size: tuple[int, ...], count: int) -> None:
        if count == 1:
            free = self.meter.free()
            left = "" if free is None else f" ({free / 2**30:.1f} GiB are free)"
            raise ValueError(
                f"one image of {' x '.join(map(str, size))} (height x width) does not fit into the "
                f"memory of the device{left}; expected smaller scales, smaller images or more "
                "memory"
            )
        self.limits[size] = count // 2
        if torch.cuda.is_available():
            # The blocks of the failed portion have the wrong sizes for a smaller one.
            torch.cuda.empty_cache()


def in_portions(network: Callable[[Tensor], Tensor], device: str) -> Callable[[Tensor], Tensor]:
    """Return `network` as a function that computes batches of images in portions that fit."""
    portions = Portions(meter_of(device))

    def run(images: Tensor) -> Tensor:
        return portions(network, images, size=tuple(images.shape[2:]))

    return run
