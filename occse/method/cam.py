"""Class activation maps of an image, merged over scales and flips."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from PIL import Image
from torch import Tensor
from torch.nn import functional

from occse.data.normalize import to_tensor

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
    """The normalized CAMs A^c = relu(f^c) / (max + 1e-5) of each image's present classes, (K, H, W)
    in [0, 1].

    relu(f^c) is summed over the passes, one per scale and, with `flip`, one more for the mirrored
    image; each pass is enlarged to image size before its ReLU. `network` maps normalized images on
    `device` to signed cams (B, C, h, w) and must be in evaluation mode; image and mirror image go
    through it as one batch.

    Args:
        present: class indices of each image; the maps come in this order.
        scales: factors of the image size, rounded to whole pixels; bicubic.
    """
    counts = [len(classes) for classes in present]
    rows = torch.arange(len(images)).repeat_interleave(torch.tensor(counts)).to(device)
    columns = torch.tensor(
        [index for classes in present for index in classes], dtype=torch.long, device=device
    )
    height, width = images.shape[1:3]
    merged = torch.zeros(len(rows), height, width, device=device)
    for scale in scales:
        inputs = _rescale(images, scale).to(device)
        views = torch.cat([inputs, inputs.flip(-1)]) if flip else inputs
        for view, cams in enumerate(torch.split(network(views), len(images))):
            maps = cams[rows, columns].float()
            _add_activations(merged, maps.flip(-1) if view else maps)
    merged /= merged.amax(dim=(1, 2), keepdim=True) + EPSILON
    return [maps.numpy() for maps in torch.split(merged.cpu(), counts)]


def _rescale(images: UInt8[np.ndarray, "B H W 3"], scale: float) -> Float[Tensor, "B 3 _ _"]:
    """Network inputs at `scale`; resized as 8-bit images, which is what the official code does."""
    height, width = images.shape[1:3]
    size = round(width * scale), round(height * scale)
    resized = [
        np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
        for image in images
    ]
    return to_tensor(np.stack(resized))


def _add_activations(merged: Float32[Tensor, "M H W"], maps: Float32[Tensor, "M h w"]) -> None:
    """Add relu(upsample(f^c)) of the wanted maps; enlarging those of absent classes would dominate
    the cost.
    """
    # On a CPU one by one: an enlarged map stays in the cache until it is added, a batch of them
    # does not.
    together = 1 if merged.device.type == "cpu" else max(len(maps), 1)
    for total, part in zip(torch.split(merged, together), torch.split(maps, together), strict=True):
        enlarged = functional.interpolate(
            part.unsqueeze(1), total.shape[1:], mode="bilinear", align_corners=False
        )
        total += enlarged.squeeze(1).relu_()
