"""Random views of an image for training.

Every random number comes from the generator that is passed in, so a sample depends on nothing but
its image and its generator.
"""

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped, UInt8
from PIL import Image, ImageEnhance
from torch import Generator, Tensor

from occse.data.normalize import to_tensor
from occse.data.resize import (
    opencv_image,
    opencv_labels,
    resize,
    resize_labels,
    scaled_size,
)
from occse.data.view_names import Resampling


def uniform(low: float, high: float, generator: Generator) -> float:
    """Draw a number uniformly from [low, high)."""
    return low + (high - low) * float(torch.rand((), generator=generator, dtype=torch.float64))


def color_jitter(
    image: UInt8[np.ndarray, "H W 3"], *, jitter: float, hue: float, generator: Generator
) -> UInt8[np.ndarray, "H W 3"]:
    """Change brightness, contrast, saturation and hue in random order.

    The first three are multiplied by a factor in [1 - jitter, 1 + jitter]; the hue is turned by at
    most `hue` of a full turn.
    """
    picture = Image.fromarray(image)
    for change in torch.randperm(4, generator=generator).tolist():
        if change < 3 and jitter > 0:
            enhancer = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)[change]
            picture = enhancer(picture).enhance(uniform(1 - jitter, 1 + jitter, generator))
        elif change == 3 and hue > 0:
            # by far the slowest of the four, because it changes the colour space twice
            picture = _turn_hue(picture, uniform(-hue, hue, generator))
    return np.array(picture)


def _turn_hue(picture: Image.Image, turns: float) -> Image.Image:
    hue, saturation, value = picture.convert("HSV").split()
    # The sum of bytes wraps around at 256, as a hue does at a full turn.
    # By way of int32: a negative float has no defined value as a byte.
    turned = np.array(hue) + np.int32(turns * 255).astype(np.uint8)
    return Image.merge("HSV", (Image.fromarray(turned), saturation, value)).convert("RGB")


def random_crop(
    maps: tuple[Shaped[Tensor, "_ H W"], ...],
    fills: tuple[float | Float[Tensor, "_ 1 1"], ...],
    *,
    crop: int,
    generator: Generator,
) -> tuple[Shaped[Tensor, "_ crop crop"], ...]:
    """Cut the same random window from each map.

    A side that is shorter than the crop is placed at a random offset; the rest holds the map's
    fill.
    """
    height, width = maps[0].shape[1:]
    windows = []
    for side in (height, width):
        shift = int(torch.randint(abs(side - crop) + 1, (), generator=generator))
        source, target = (shift, 0) if side > crop else (0, shift)
        length = min(side, crop)
        windows.append((slice(source, source + length), slice(target, target + length)))
    (rows, into_rows), (columns, into_columns) = windows
    crops = []
    for source_map, fill in zip(maps, fills, strict=True):
        cropped = source_map.new_empty((source_map.shape[0], crop, crop))
        # A fill of (C, 1, 1) spreads over the whole window.
        cropped[:] = fill
        cropped[:, into_rows, into_columns] = source_map[:, rows, columns]
        crops.append(cropped)
    return tuple(crops)


def classification_view(
    image: UInt8[np.ndarray, "H W 3"],
    *,
    long_side: tuple[int, int],
    jitter: float,
    hue: float,
    crop: int,
    generator: Generator,
) -> Float[Tensor, "3 crop crop"]:
    """Return a view for the classifiers: rescaled, flipped, jittered, normalized and cropped.

    The long side is drawn from `long_side`, both ends included. Beyond the image the crop is 0, the
    mean colour. Source: `VOC12ClsDataset` of KAIST-vilab/OC-CSE.
    """
    longest = int(torch.randint(long_side[0], long_side[1] + 1, (), generator=generator))
    height, width = image.shape[:2]
    side = max(height, width)
    # The official code multiplies before it divides. The other order rounds one of 12,000 sizes to
    # another pixel.
    image = resize(image, (round(height * longest / side), round(width * longest / side)))
    if torch.rand((), generator=generator) < 0.5:
        image = image[:, ::-1]
    image = color_jitter(np.ascontiguousarray(image), jitter=jitter, hue=hue, generator=generator)
    tensor = to_tensor(image)
    return random_crop((tensor,), (0.0,), crop=crop, generator=generator)[0]


def segmentation_view(
    image: UInt8[np.ndarray, "H W 3"],
    labels: UInt8[np.ndarray, "H W"],
    *,
    scale: tuple[float, float],
    resampling: Resampling = "pillow",
    crop: int,
    generator: Generator,
) -> tuple[Float[Tensor, "3 crop crop"], Int[Tensor, "crop crop"]]:
    """Return a view for segmentation, and its label map: rescaled, flipped, normalized and cropped.

    The factor of the size is drawn from `scale`. Beyond the image the crop is 0, the mean colour,
    and void.
    """
    factor = uniform(*scale, generator)
    if resampling == "opencv":
        image, labels = opencv_image(image, factor), opencv_labels(labels, factor)
    else:
        size = scaled_size(labels.shape, factor)
        image, labels = resize(image, size), resize_labels(labels, size)
    if torch.rand((), generator=generator) < 0.5:
        image, labels = image[:, ::-1], labels[:, ::-1]
    # A flipped view has negative strides, which torch does not take.
    tensors = (
        to_tensor(np.ascontiguousarray(image)),
        torch.from_numpy(labels.astype(np.int64))[None],
    )
    view, target = random_crop(tensors, (0.0, 255), crop=crop, generator=generator)
    return view, target[0]
