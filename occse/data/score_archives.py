"""CAMs and CRF scores as their artifacts keep them: the present classes only, and few bits.

CAMs are float16 and smaller than the image, CRF scores take a byte.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor
from torch.nn import functional

from occse.data.array_archive import SCORE_STEPS, ArrayReader
from occse.data.dataset import Dataset

CAMS = "cams.zip"
SCORES = "scores.zip"


def reduce(maps: Float[Tensor, "M H W"], factor: int) -> Float[Tensor, "M h w"]:
    """Return maps at 1/`factor` of their sides (rounded up), float16, on their device.

    That is all the detail that the network's stride left of them.
    """
    if factor == 1:
        return maps.half()
    return functional.avg_pool2d(maps[None], factor, ceil_mode=True, count_include_pad=False)[
        0
    ].half()


def enlarge(maps: Float[Tensor, "M h w"], size: tuple[int, int]) -> Float32[Tensor, "M H W"]:
    """Return stored maps at (height, width) `size`, float32, on their device."""
    maps = maps.float()
    if tuple(maps.shape[1:]) == size:
        return maps
    return functional.interpolate(maps[None], size, mode="bilinear", align_corners=False)[0]


def read_reduced(
    reader: ArrayReader, name: str
) -> tuple[Float[np.ndarray, "K h w"], tuple[int, ...]]:
    """Return the CAM of an image as it is stored, and its classes."""
    stored = reader[name]
    return stored["cam"], tuple(int(index) for index in stored["classes"])


def read_cam(
    reader: ArrayReader, name: str, size: tuple[int, int]
) -> tuple[Float[np.ndarray, "K H W"], tuple[int, ...]]:
    """Return the CAM of an image at (height, width) `size`, float32, and its classes."""
    reduced, classes = read_reduced(reader, name)
    return enlarge(torch.from_numpy(reduced), size).numpy(), classes


@dataclass(frozen=True, kw_only=True)
class CamBatch:
    """CAMs of the `classes` of images of one size, as they are stored."""

    names: Sequence[str]
    images: UInt8[np.ndarray, "B H W 3"]
    cams: Sequence[Float[np.ndarray, "_ h w"]]
    classes: Sequence[tuple[int, ...]]


def read_cams(dataset: Dataset, reader: ArrayReader, names: Sequence[str]) -> CamBatch:
    """Return images of one size and their stored CAMs."""
    stored = [read_reduced(reader, name) for name in names]
    return CamBatch(
        names=names,
        images=np.stack([dataset.image(name) for name in names]),
        cams=[cam for cam, _ in stored],
        classes=[classes for _, classes in stored],
    )


class PairedScores:
    """Low-alpha and high-alpha CRF scores of an image as one stack.

    Only the background and the present classes are in it: with zeros for all other classes of VOC a
    stack takes 30 MB, and its copies more time than all else that a view costs.
    """

    def __init__(self, low: Path, high: Path) -> None:
        self.paths = (low, high)
        self.readers = (ArrayReader(low), ArrayReader(high))

    def read(self, name: str) -> tuple[Float[Tensor, "_ H W"], UInt8[Tensor, " L"]]:
        """Return (2 * L, H, W) scores of the image `name` in [0, 1], and the label of each L.

        The background is the first of each half.

        Raises:
            ValueError: the two files name different classes.
        """
        low, high = (reader[name] for reader in self.readers)
        if not np.array_equal(low["classes"], high["classes"]):
            raise ValueError(
                f"{name}: expected the same classes in {self.paths[0]} and {self.paths[1]}, "
                f"got {low['classes'].tolist()} and {high['classes'].tolist()}"
            )
        stack = np.concatenate([low["scores"], high["scores"]]) / np.float32(SCORE_STEPS)
        values = np.concatenate(([0], low["classes"] + 1)).astype(np.uint8)
        return torch.from_numpy(stack), torch.from_numpy(values)
