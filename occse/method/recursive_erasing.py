"""Recursive erasing with a classifier as it is: the paper's motivation (figure 2)."""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from occse.data.normalize import IMAGENET_MEAN, to_tensor
from occse.method.cam import multi_scale_cam
from occse.method.evaluation import Counts, iou
from occse.networks.classifier import logits

# The colour that normalization turns into 0, so that an erased pixel says nothing.
MEAN_COLOR = 255 * np.array(IMAGENET_MEAN, np.float32)


def recursive_cams(
    network: Callable[[Tensor], Tensor],
    images: UInt8[np.ndarray, "B H W 3"],
    *,
    present: Sequence[Sequence[int]],
    num_erasures: int,
    mask_threshold: float | None,
    min_probability: float,
    scales: Sequence[float],
    flip: bool,
    device: str,
) -> Iterator[tuple[list[Float32[np.ndarray, "_ H W"]], Float32[np.ndarray, " M"]]]:
    """Yield each image's merged CAMs and the classes' probabilities after 0, 1, ... erasures.

    Each of the M present classes of the images is erased from a copy of its own. V is the share of
    each pixel that is left, 1 at first, and B is the merged map, 0 at first. A step takes the CAM A
    of V * image + (1 - V) * mean colour, makes B the maximum of B and A, and multiplies V by 1 - M,
    where M is A, or [A > `mask_threshold`] if that is a number. A class whose probability fell
    below `min_probability` has A = 0 from then on: the CAM of a class that the network no longer
    sees is noise, blown up to 1.
    """
    counts = [len(classes) for classes in present]
    # A copy of the image for each class: erasing one class must not take away another's evidence.
    alone = [[index] for index in chain.from_iterable(present)]
    pixels = images.repeat(counts, axis=0).astype(np.float32)
    visible = np.ones(pixels.shape[:3], np.float32)
    merged = np.zeros_like(visible)
    for number in range(num_erasures + 1):
        # Erased in 8 bits, in the image: each scale of the CAM then resizes the erased image
        # itself.
        left = np.rint(MEAN_COLOR + visible[..., None] * (pixels - MEAN_COLOR)).astype(np.uint8)
        probability = _probabilities(network, left, np.concatenate(alone), device=device)
        cam = np.concatenate(
            multi_scale_cam(network, left, present=alone, scales=scales, flip=flip, device=device)
        )
        if number > 0:
            cam[probability < min_probability] = 0
        merged = np.maximum(merged, cam)
        visible *= 1 - (cam if mask_threshold is None else cam > mask_threshold)
        yield np.split(merged, np.cumsum(counts)[:-1]), probability


@torch.inference_mode()
def _probabilities(
    network: Callable[[Tensor], Tensor],
    images: UInt8[np.ndarray, "M H W 3"],
    classes: np.ndarray,
    *,
    device: str,
) -> Float32[np.ndarray, " M"]:
    """Return the classifier's probability of one class of each image, at the image's own size."""
    scores = logits(network(to_tensor(images).to(device))).sigmoid().cpu().numpy()
    chosen: Float32[np.ndarray, " M"] = scores[np.arange(len(classes)), classes]
    return chosen


def activations(counted: Sequence[Counts]) -> Iterator[dict[str, float]]:
    """Yield `covered` and `false_activation` of each of `counted`.

    All are taken at the threshold that is best for the first of them.
    """
    confusions = [counts.confusion() for counts in counted]
    # One threshold for all: with a new one each time, the number of erasures and the threshold
    # would change together, and a curve over erasures would mean nothing.
    best = int(iou(confusions[0]).mean(axis=-1).argmax())
    for confusion in confusions:
        hits = int(np.trace(confusion[best]) - confusion[best, 0, 0])
        objects = int(confusion[best, 1:].sum())
        activated = int(confusion[best, :, 1:].sum())
        yield {
            "covered": hits / max(objects, 1),
            "false_activation": (activated - hits) / max(activated, 1),
        }
