"""The deterministic inputs and weights of the parity arrays: integers hashed to exact float32
numbers.
"""

import math
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

PARITY = Path(__file__).parent / "parity"
CHUNK = 1 << 15  # fits a cache: ten times faster on the 105 M weights of a network


def parity(name: str) -> dict[str, np.ndarray]:
    """The arrays of tests/parity/<name>.npz."""
    with np.load(PARITY / f"{name}.npz", allow_pickle=False) as arrays:
        return dict(arrays)


def hashed(name: str, shape: tuple[int, ...], *, scale: float = 1.0, offset: float = 0.0) -> Tensor:
    """offset + scale * u(name) as float32; u in [-1, 1) has 24 bits: SplitMix64 of the name's CRC32
    and the index.
    """
    first = np.uint64(((zlib.crc32(name.encode()) << 32) + 0x9E3779B97F4A7C15) % 2**64)
    values = np.empty(math.prod(shape), np.float32)
    for start in range(0, len(values), CHUNK):
        z = np.arange(start, min(start + CHUNK, len(values)), dtype=np.uint64)
        z += first
        z ^= z >> np.uint64(30)
        z *= np.uint64(0xBF58476D1CE4E5B9)
        z ^= z >> np.uint64(27)
        z *= np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
        z >>= np.uint64(40)
        values[start : start + CHUNK] = offset + scale * (z / 2**23 - 1)
    return torch.from_numpy(values.reshape(shape))
