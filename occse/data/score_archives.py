"""CAMs and CRF scores as their artifacts keep them: the present classes only, and few bits.

CAMs are float16 and smaller than the image, CRF scores take a byte.
"""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from occse.data.array_archive import ArrayReader

CAMS = "cams.zip"
SCORES = "scores.zip"
# CRF scores in [0, 1] are stored as bytes.
MAX_BYTE = 255


def reduce(cam: Float[np.ndarray, "K H W"], factor: int) -> Float[np.ndarray, "K h w"]:
    """Return the maps at 1/`factor` of their sides (rounded up), float16.

    That is all the detail that the network's stride left of them.
    """
    if factor == 1:
        return cam.astype(np.float16)
    pooled = functional.avg_pool2d(
        torch.from_numpy(cam)[None], factor, ceil_mode=True, count_include_pad=False
    )
    return pooled[0].numpy().astype(np.float16)


def read_cam(
    reader: ArrayReader, name: str, size: tuple[int, int]
) -> tuple[Float[np.ndarray, "K H W"], tuple[int, ...]]:
    """Return the CAM of an image at (height, width) `size`, float32, and its classes."""
    stored = reader[name]
    cam = torch.from_numpy(stored["cam"].astype(np.float32))[None]
    if cam.shape[2:] != size:
        cam = functional.interpolate(cam, size, mode="bilinear", align_corners=False)
    return cam[0].numpy(), tuple(int(index) for index in stored["classes"])


class PairedScores:
    """Low-alpha and high-alpha CRF scores of an image as one stack of all classes.

    The background is the first class of each half.
    """

    def __init__(self, low: Path, high: Path, num_classes: int) -> None:
        self.readers = (ArrayReader(low), ArrayReader(high))
        self.num_labels = num_classes + 1

    def read(self, name: str) -> Float[Tensor, "_ H W"]:
        """Return (2 * L, H, W) scores of the image `name` in [0, 1]; absent classes are 0."""
        stacks = []
        for reader in self.readers:
            stored = reader[name]
            full = np.zeros((self.num_labels, *stored["scores"].shape[1:]), np.float32)
            full[[0, *(stored["classes"] + 1)]] = stored["scores"] / np.float32(MAX_BYTE)
            stacks.append(torch.from_numpy(full))
        return torch.cat(stacks)
