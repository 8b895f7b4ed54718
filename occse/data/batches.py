"""Images grouped for inference, and read ahead of the network."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from occse.data.dataset import Dataset
from occse.data.normalize import normalized
from occse.data.read_ahead import read_ahead
from occse.data.resize import opencv_cubic, resize, scaled_size
from occse.data.view_names import Resampling

# Pixels of the images of one batch, in total: 32 images of 500 x 500 fit, and one photograph of 12
# megapixels, whose views at all scales take 0.3 GB.
BATCH_PIXELS = 32 * 500 * 500
# On a CPU: two images of VOC, or 32 of the embedded data. Activations of more leave its caches, and
# malloc gives their memory back after each layer: `seg` of 16 images then took half as long again.
CPU_BATCH_PIXELS = 2 * 500 * 400


class View(NamedTuple):
    """Images at one scale, as bytes, still on the CPU.

    `scale` is the part of the scaling that is left for the device.
    """

    pixels: UInt8[Tensor, "B _ _ 3"]
    scale: float

    def on(self, device: str) -> Float[Tensor, "B 3 _ _"]:
        """Return the network's input, on the device."""
        inputs = normalized(self.pixels.to(device, non_blocking=True))
        return inputs if self.scale == 1 else opencv_cubic(inputs, self.scale)


@dataclass(frozen=True, kw_only=True)
class ImageBatch:
    """Images of one size, and their views at every scale."""

    names: Sequence[str]
    images: UInt8[np.ndarray, "B H W 3"]
    views: Sequence[View]


def views_of(
    images: UInt8[np.ndarray, "B H W 3"],
    scales: Sequence[float],
    *,
    resampling: Resampling = "pillow",
    device: str = "cpu",
) -> list[View]:
    """Return the images at each scale, rounded to whole pixels; bicubic.

    Args:
        images: of one size.
        scales: factors of the size.
        resampling: "pillow" resizes the 8-bit images here. "opencv" resizes the normalized images
            without antialiasing, as SEAM does, on the device.
        device: the device that the views go to.
    """
    if resampling == "opencv":
        pixels = pinned(torch.from_numpy(images), device)
        return [View(pixels, scale) for scale in scales]
    views = []
    for scale in scales:
        size = scaled_size(images.shape[1:3], scale)
        resized = np.stack([resize(image, size) for image in images])
        views.append(View(pinned(torch.from_numpy(resized), device), 1.0))
    return views


def pinned(values: Tensor, device: str) -> Tensor:
    """Return `values` in memory from which a copy to `device` does not wait for the device."""
    # Only from pinned memory can a copy run beside what the GPU and this thread compute.
    return values.pin_memory() if device.startswith("cuda") else values


def batch_pixels(device: str) -> int:
    """Return the number of pixels of a batch's images that a device computes best."""
    return BATCH_PIXELS if device.startswith("cuda") else CPU_BATCH_PIXELS


def same_size_batches(
    dataset: Dataset, names: Sequence[str], *, limit: int, pixels: int = BATCH_PIXELS
) -> Iterator[list[str]]:
    """Yield names of images of one size, at most `limit` together, with at most so many `pixels`.

    The images are grouped by size over all `names`, because neighbours in a data set such as VOC
    rarely have the same size. Sizes come in the order of their first image, images of one size in
    the order of `names`. Sizes are read from the headers of the files. An image that has more
    pixels is a batch of its own.
    """
    by_size: dict[tuple[int, int], list[str]] = {}
    for name in names:
        by_size.setdefault(dataset.size(name), []).append(name)
    for (height, width), group in by_size.items():
        count = min(limit, max(1, pixels // (height * width)))
        for first in range(0, len(group), count):
            yield group[first : first + count]


def read_batches(
    dataset: Dataset,
    batches: Iterable[Sequence[str]],
    *,
    scales: Sequence[float],
    resampling: Resampling = "pillow",
    device: str,
    threads: int,
) -> Iterator[ImageBatch]:
    """Yield batches of images with their views, decoded and resized in threads ahead of the caller.

    Args:
        dataset: the images.
        batches: names of images of one size.
        scales: of the views (see `views_of`).
        resampling: of the views.
        device: the device that the views go to.
        threads: number of threads, at least 1.
    """
    read = partial(_read, dataset, scales=scales, resampling=resampling, device=device)
    return read_ahead(read, batches, threads=threads)


def _read(
    dataset: Dataset,
    names: Sequence[str],
    *,
    scales: Sequence[float],
    resampling: Resampling,
    device: str,
) -> ImageBatch:
    images = np.stack([dataset.image(name) for name in names])
    views = views_of(images, scales, resampling=resampling, device=device)
    return ImageBatch(names=names, images=images, views=views)
