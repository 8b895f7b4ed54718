"""The deterministic inputs and weights of the parity arrays: integers hashed to exact float32 numbers."""

import math
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

PARITY = Path(__file__).parent / "parity"


def parity(name: str) -> dict[str, np.ndarray]:
    """The arrays of tests/parity/<name>.npz."""
    with np.load(PARITY / f"{name}.npz", allow_pickle=False) as arrays:
        return dict(arrays)


def hashed(name: str, shape: tuple[int, ...], *, scale: float = 1.0, offset: float = 0.0) -> Tensor:
    """offset + scale * u(name) as float32; u in [-1, 1) has 24 bits: SplitMix64 of the name's CRC32 and the index."""
    index = np.arange(math.prod(shape), dtype=np.uint64)
    with np.errstate(over="ignore"):
        z = np.uint64(zlib.crc32(name.encode()) << 32) + index + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    unit = (z >> np.uint64(40)).astype(np.float64) / 2**23 - 1
    return torch.from_numpy((offset + scale * unit).astype(np.float32).reshape(shape))
