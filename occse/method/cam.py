"""Class activation maps (CAMs) of whole images, merged over scales and mirror images.

The paper's section 3.1: A^c = relu(f^c) / max relu(f^c), where f^c is the signed map that the last
convolution of a classifier gives for class c. At test time f^c is computed at several scales and
for the mirror image, and the maps are summed before the division.
"""

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor
from torch.nn import functional

from occse.data.batches import View, views_of

# Added to every maximum that a CAM is divided by, as in the official code: an empty map stays 0.
EPSILON = 1e-5


def multi_scale_cam(
    network: Callable[[Tensor], Tensor],
    images: UInt8[np.ndarray, "B H W 3"],
    *,
    present: Sequence[Sequence[int]],
    scales: Sequence[float],
    flip: bool,
    device: str,
) -> list[Float32[np.ndarray, "_ H W"]]:
    """Return the normalized CAMs of each image's present classes, one (K, H, W) array per image.

    Args:
        network: maps normalized images (B, 3, H, W) on `device` to signed cams (B, C, h, w). It
            must be in evaluation mode.
        images: RGB images of one size, 8 bits per channel.
        present: the class indices of each image. Its K maps come in this order.
        scales: factors of the image size. Each size is rounded to whole pixels; bicubic.
        flip: add the mirror image at every scale.
        device: where the network lives and the maps are merged.
    """
    merged = merged_cams(
        network,
        views_of(images, scales),
        size=(images.shape[1], images.shape[2]),
        present=present,
        flip=flip,
        device=device,
    )
    counts = [len(classes) for classes in present]
    return [maps.numpy() for maps in torch.split(merged.cpu(), counts)]


@torch.inference_mode()
def merged_cams(
    network: Callable[[Tensor], Tensor],
    views: Sequence[View],
    *,
    size: tuple[int, int],
    present: Sequence[Sequence[int]],
    flip: bool,
    device: str,
) -> Float[Tensor, "M H W"]:
    """Return the normalized CAMs of the M present classes of all images, image by image.

    A^c = R^c / (max R^c + 1e-5), in [0, 1], with R^c = sum over the passes of relu(upsample(f^c)).
    There is one pass per scale and, with `flip`, one more per scale for the mirror image, whose
    maps are mirrored back. An image and its mirror image go through the network as one batch.

    The maps are merged on `device` and stay there.

    Source: `model.infer_msf` of KAIST-vilab/OC-CSE.

    Args:
        network: maps normalized images (B, 3, H, W) on `device` to signed cams (B, C, h, w). It
            must be in evaluation mode.
        views: the images at every scale.
        size: (height, width) of the images.
        present: the class indices of each image.
        flip: add the mirror image at every scale.
        device: where the network lives.
    """
    counts = [len(classes) for classes in present]
    # One (row, column) pair for each present class of each image: images with unlike numbers of
    # classes then go through everything below as one stack of maps.
    rows = torch.arange(len(present)).repeat_interleave(torch.tensor(counts))
    columns = torch.tensor(list(itertools.chain.from_iterable(present)), dtype=torch.long)
    rows, columns = (index.to(device, non_blocking=True) for index in (rows, columns))
    merged = torch.zeros(len(rows), *size, device=device)
    for view in views:
        inputs = view.on(device)
        both = torch.cat([inputs, inputs.flip(-1)]) if flip else inputs
        # The first part of the batch holds the images, the second one (with `flip`) their mirrors.
        for part, cams in enumerate(torch.split(network(both), len(present))):
            maps = cams[rows, columns].float()
            _add_activations(merged, maps.flip(-1) if part == 1 else maps)
    # The sum is divided, not each pass: a scale at which the network is unsure weighs less.
    merged /= merged.amax(dim=(1, 2), keepdim=True) + EPSILON
    return merged


def _add_activations(merged: Float32[Tensor, "M H W"], maps: Float32[Tensor, "M h w"]) -> None:
    """Add relu(upsample(f^c)) of the M wanted maps to `merged`, in place.

    Only the maps of present classes are enlarged: enlarging all C would dominate the cost.
    """
    # A CPU enlarges one map at a time: one map stays in its cache until it is added, a batch does
    # not. Other devices take all maps at once.
    together = 1 if merged.device.type == "cpu" else max(len(maps), 1)
    for total, part in zip(torch.split(merged, together), torch.split(maps, together), strict=True):
        enlarged = functional.interpolate(
            part.unsqueeze(1), total.shape[1:], mode="bilinear", align_corners=False
        )
        total += enlarged.squeeze(1).relu_()
