"""Class activation maps of an image, merged over scales and flips."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float, Float32, Int, UInt8
from PIL import Image
from torch import Tensor
from torch.nn import functional

from occse.images import to_tensor

EPSILON = 1e-5


@torch.inference_mode()
def multi_scale_cam(
    network: Callable[[Tensor], Tensor],
    images: UInt8[np.ndarray, "B H W 3"],
    *,
    present: Sequence[Sequence[int]],
    scales: Sequence[float],
    flip: bool,
    device: str,
) -> list[Float32[np.ndarray, "_ H W"]]:
    """The normalized CAMs A^c = relu(f^c) / (max + 1e-5) of each image's present classes, (K, H, W) in [0, 1].

    relu(f^c) is summed over the passes, one per scale and, with `flip`, one more for the mirrored image; each pass is
    enlarged to image size before its ReLU. `network` maps normalized images on `device` to signed cams (B, C, h, w) and
    must be in evaluation mode; image and mirror image go through it as one batch.

    Args:
        present: class indices of each image; the maps come in this order.
        scales: factors of the image size, rounded to whole pixels; bicubic.
    """
    counts = [len(classes) for classes in present]
    rows = torch.arange(len(images)).repeat_interleave(torch.tensor(counts))
    wanted = torch.stack([rows, torch.tensor([index for classes in present for index in classes], dtype=torch.long)])
    height, width = images.shape[1:3]
    merged = torch.zeros(len(rows), height, width, device=device)
    for scale in scales:
        inputs = _rescale(images, scale).to(device)
        views = torch.cat([inputs, inputs.flip(-1)]) if flip else inputs
        for view, cams in enumerate(torch.split(network(views), len(images))):
            merged += _activation(cams.flip(-1) if view else cams, wanted, size=(height, width))
    merged /= merged.amax(dim=(1, 2), keepdim=True) + EPSILON
    return [maps.numpy() for maps in torch.split(merged.cpu(), counts)]


def _rescale(images: UInt8[np.ndarray, "B H W 3"], scale: float) -> Float[Tensor, "B 3 _ _"]:
    """Network inputs at `scale`; resized as 8-bit images, which is what the official code does."""
    height, width = images.shape[1:3]
    size = round(width * scale), round(height * scale)
    resized = [np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)) for image in images]
    return to_tensor(np.stack(resized))


def _activation(
    cams: Float[Tensor, "B C h w"], wanted: Int[Tensor, "2 M"], *, size: tuple[int, int]
) -> Float32[Tensor, "M H W"]:
    """relu(upsample(f^c)) of the wanted (image, class) pairs; enlarging absent classes would dominate the cost."""
    rows, classes = wanted.to(cams.device)
    maps = cams[rows, classes].float().unsqueeze(1)
    return functional.relu(functional.interpolate(maps, size, mode="bilinear", align_corners=False)).squeeze(1)
