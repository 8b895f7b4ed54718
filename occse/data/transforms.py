"""Random views of an image for training. Every random number comes from the generator that is
passed in.
"""

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped, UInt8
from PIL import Image, ImageEnhance
from torch import Generator, Tensor

from occse.data.normalize import to_tensor


def uniform(low: float, high: float, generator: Generator) -> float:
    """A number drawn uniformly from [low, high)."""
    return low + (high - low) * float(torch.rand((), generator=generator, dtype=torch.float64))


def rescale(image: UInt8[np.ndarray, "H W 3"], size: tuple[int, int]) -> UInt8[np.ndarray, "h w 3"]:
    """The image at (height, width) `size`, bicubic."""
    if size == image.shape[:2]:
        return image
    return np.array(Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BICUBIC))


def color_jitter(
    image: UInt8[np.ndarray, "H W 3"], *, jitter: float, hue: float, generator: Generator
) -> UInt8[np.ndarray, "H W 3"]:
    """Change brightness, contrast and saturation by up to `jitter`, the hue by up to `hue` turns,
    in random order.
    """
    picture = Image.fromarray(image)
    for change in torch.randperm(4, generator=generator).tolist():
        if change < 3 and jitter > 0:
            enhancer = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)[change]
            picture = enhancer(picture).enhance(uniform(1 - jitter, 1 + jitter, generator))
        elif change == 3 and hue > 0:  # by far the slowest: there and back between colour spaces
            picture = _turn_hue(picture, uniform(-hue, hue, generator))
    return np.array(picture)


def _turn_hue(picture: Image.Image, turns: float) -> Image.Image:
    hue, saturation, value = picture.convert("HSV").split()
    # a byte runs over, as a hue does
    turned = np.array(hue) + np.int32(turns * 255).astype(np.uint8)
    return Image.merge("HSV", (Image.fromarray(turned), saturation, value)).convert("RGB")


def random_crop(
    maps: tuple[Shaped[Tensor, "_ H W"], ...],
    fills: tuple[float, ...],
    *,
    crop: int,
    generator: Generator,
) -> tuple[Shaped[Tensor, "_ crop crop"], ...]:
    """Cut the same random window from each map; where the image is smaller it lies at a random
    place in the fill.
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
    for each, fill in zip(maps, fills, strict=True):
        out = each.new_full((each.shape[0], crop, crop), fill)
        out[:, into_rows, into_columns] = each[:, rows, columns]
        crops.append(out)
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
    """Long side drawn from `long_side` (both ends count), flip, color jitter, normalize, crop
    padded with the mean.
    """
    longest = int(torch.randint(long_side[0], long_side[1] + 1, (), generator=generator))
    factor = longest / max(image.shape[:2])
    image = rescale(image, (round(image.shape[0] * factor), round(image.shape[1] * factor)))
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
    crop: int,
    generator: Generator,
) -> tuple[Float[Tensor, "3 crop crop"], Int[Tensor, "crop crop"]]:
    """Scale drawn from `scale`, flip, normalize and crop of an image with its label map; beyond the
    image is void.
    """
    factor = uniform(*scale, generator)
    size = (round(image.shape[0] * factor), round(image.shape[1] * factor))
    image = rescale(image, size)
    labels = np.asarray(
        Image.fromarray(labels).resize((size[1], size[0]), Image.Resampling.NEAREST)
    )
    if torch.rand((), generator=generator) < 0.5:
        image, labels = image[:, ::-1], labels[:, ::-1]
    tensors = (
        to_tensor(np.ascontiguousarray(image)),
        torch.from_numpy(labels.astype(np.int64))[None],
    )
    view, target = random_crop(tensors, (0.0, 255), crop=crop, generator=generator)
    return view, target[0]
