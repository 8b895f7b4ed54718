"""Parts of the loss, read from a device without making it wait.

A GPU runs behind the program that feeds it. A program that asks for each loss at once waits until
the GPU has caught up, and then the GPU waits for the program. So the values are copied in the
background and looked at one step later.
"""

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from occse.data.read_ahead import HostCopy


def defers(device: str) -> bool:
    """Tell if losses of a device are looked at one step later. Those of the CPU are there."""
    return device != "cpu"


@dataclass(frozen=True)
class _Pending:
    step: int
    names: tuple[str, ...]
    values: HostCopy


class Losses:
    """Losses of the last steps, on their way to the CPU."""

    def __init__(self, *, deferred: bool) -> None:
        self._deferred = deferred
        self._pending: deque[_Pending] = deque()

    def push(self, step: int, parts: dict[str, Tensor]) -> None:
        """Begin to copy the parts of a step's loss."""
        # One copy for all parts: each copy has its own start-up cost on a GPU.
        # Float64 holds a loss of any precision.
        values = torch.stack([part.detach().double() for part in parts.values()])
        self._pending.append(_Pending(step, tuple(parts), HostCopy(values)))

    def take(self, *, keep: int) -> Iterator[tuple[int, dict[str, float]]]:
        """Yield steps and values that were pushed, oldest first.

        Args:
            keep: number of steps that stay for later, where values are looked at later.

        Raises:
            FloatingPointError: a value is not finite.
        """
        while len(self._pending) > (keep if self._deferred else 0):
            pending = self._pending.popleft()
            values = dict(zip(pending.names, pending.values.wait().tolist(), strict=True))
            if not all(map(math.isfinite, values.values())):
                listed = ", ".join(f"{name} {value:g}" for name, value in values.items())
                raise FloatingPointError(
                    f"the loss is not finite at step {pending.step}: {listed}; "
                    "try a smaller learning rate"
                )
            yield pending.step, values
