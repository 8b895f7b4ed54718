"""Resizing of images and label maps, as Pillow does and as OpenCV does.

The official codes of the classifiers resize with Pillow, SEAM's segmentation code with OpenCV. The
two differ: Pillow averages over all pixels that a smaller image covers (antialiasing), OpenCV reads
four pixels in each direction at any scale.
"""

import numpy as np
import torch
from jaxtyping import Float, Shaped, UInt8
from PIL import Image
from torch import Tensor

# The parameter a of the cubic kernel (Keys, 1981) in OpenCV.
CUBIC = -0.75


def scaled_size(size: tuple[int, ...], scale: float) -> tuple[int, int]:
    """Return (height, width) `size` times `scale`, rounded to whole pixels, halves to even."""
    height, width = size
    return round(height * scale), round(width * scale)


def resize(image: UInt8[np.ndarray, "H W 3"], size: tuple[int, int]) -> UInt8[np.ndarray, "h w 3"]:
    """Return the image at (height, width) `size`, with Pillow's bicubic filter."""
    if size == image.shape[:2]:
        return image
    return np.array(Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BICUBIC))


def resize_labels(
    labels: UInt8[np.ndarray, "H W"], size: tuple[int, int]
) -> UInt8[np.ndarray, "h w"]:
    """Return the label map at (height, width) `size`, with Pillow's nearest filter."""
    return np.array(Image.fromarray(labels).resize((size[1], size[0]), Image.Resampling.NEAREST))


def opencv_cubic(maps: Float[Tensor, "*B H W"], scale: float) -> Float[Tensor, "*B h w"]:
    """Return maps at `scale` as `cv2.resize(..., fx=scale, fy=scale, INTER_CUBIC)` of floats does.

    Pixels beyond the border repeat the border. The positions follow from `scale` itself, not from
    the rounded size.
    """
    for axis in (-2, -1):
        length = maps.shape[axis]
        positions = (torch.arange(round(length * scale), device=maps.device) + 0.5) / scale - 0.5
        first = positions.floor()
        fraction = positions - first
        taps = []
        for offset in (-1, 0, 1, 2):
            index = (first.long() + offset).clamp(0, length - 1)
            weight = _cubic_weight(fraction - offset).to(maps)
            values = maps.index_select(axis, index)
            # Weights (length,) broadcast along columns; along rows they need a second axis.
            taps.append(values * (weight[:, None] if axis == -2 else weight))
        maps = torch.stack(taps).sum(0)
    return maps


def opencv_image(image: UInt8[np.ndarray, "H W 3"], scale: float) -> UInt8[np.ndarray, "h w 3"]:
    """Return an 8-bit image at `scale` as OpenCV's cubic filter does, up to one level of rounding.

    OpenCV computes 8-bit images with weights of 11 bits.
    """
    maps = torch.from_numpy(image).movedim(-1, 0).float()
    resized = opencv_cubic(maps, scale).round().clamp(0, 255).to(torch.uint8)
    return resized.movedim(0, -1).contiguous().numpy()


def opencv_labels(labels: Shaped[np.ndarray, "H W"], scale: float) -> Shaped[np.ndarray, "h w"]:
    """Return a label map at `scale` as OpenCV's INTER_NEAREST does."""
    rows, columns = (
        np.minimum(np.floor(np.arange(round(side * scale)) / scale).astype(int), side - 1)
        for side in labels.shape
    )
    return np.ascontiguousarray(labels[rows[:, None], columns])


def _cubic_weight(distance: Float[Tensor, " N"]) -> Float[Tensor, " N"]:
    """Return the weight of a pixel at a distance of at most 2 (Keys, 1981)."""
    x = distance.abs()
    near = (CUBIC + 2) * x**3 - (CUBIC + 3) * x**2 + 1
    far = CUBIC * x**3 - 5 * CUBIC * x**2 + 8 * CUBIC * x - 4 * CUBIC
    return torch.where(x <= 1, near, far)
