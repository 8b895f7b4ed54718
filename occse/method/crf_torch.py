"""The dense CRF of `occse.method.crf` in torch: the backend for GPUs.

pydensecrf is the backend for CPUs and the reference of this one: on images the labels are equal,
and the marginals agree within one step of the 8-bit scores that stages store. So no identity
contains the backend.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from occse.method.crf import MIN_SCORE, Preset, check_crf_input
from occse.method.lattice import Lattice
from occse.networks.device_memory import CudaMeter

Finished = TypeVar("Finished")

# Memory for the tiles if the device does not tell how much is free, in bytes.
DEFAULT_MEMORY = 1 << 30
# Below this bound smaller tiles no longer help: one column of one image has been tried.
SMALLEST_MEMORY = 1 << 20
# Bytes per pixel while a lattice of 5 dimensions is built: 6 corners with an integer key, a
# position, a sorted copy and a weight each.
LATTICE_BYTES = 6 * (4 * 8 + 4 * 4)
# Values per pixel and label that live at once: unary, marginals, two filtered maps, their sum.
MARGINAL_VALUES = 5
# Values per vertex and column that live at once while a lattice blurs.
BLUR_VALUES = 4


def dense_crf_batch(
    images: Sequence[UInt8[np.ndarray, "..."]],
    scores: Sequence[Float32[np.ndarray, "..."]],
    *,
    preset: Preset,
    device: str,
    memory: int | None = None,
) -> list[Float32[np.ndarray, "_ H W"]]:
    """Return the marginals of each image's labels, as `occse.method.crf.dense_crf` does.

    Images of one size share a lattice; each image may have its own number of labels.

    Args:
        images: RGB, (H, W, 3), of one size.
        scores: (L, H, W) per image, in [0, 1].
        preset: the parameters of the CRF.
        device: where to compute.
        memory: bound on the bytes that are taken (see `refine_batch`).

    Raises:
        ValueError: the shapes do not fit, or a score is not finite.
    """
    for image, score in zip(images, scores, strict=True):
        check_crf_input(image, score)
    if not images:
        return []
    return refine_batch(
        torch.from_numpy(np.stack(images)).to(device),
        [torch.from_numpy(np.ascontiguousarray(score, np.float32)).to(device) for score in scores],
        lambda marginals: marginals.cpu().numpy(),
        preset=preset,
        memory=memory,
    )


def refine_batch(
    images: UInt8[Tensor, "B H W 3"],
    scores: Sequence[Float32[Tensor, "_ H W"]],
    finish: Callable[[Float32[Tensor, "_ H W"]], Finished],
    *,
    preset: Preset,
    memory: int | None = None,
) -> list[Finished]:
    """Return `finish` of each image's marginals, which stay on the device of the images.

    Images are computed in tiles that fit into memory, so `finish` returns only what is needed of
    the marginals, such as their best labels.

    Args:
        images: RGB, on the device that computes.
        scores: finite scores in [0, 1] of each image, on the same device.
        finish: called with the (L, H, W) marginals of one image.
        preset: the parameters of the CRF.
        memory: bound on the bytes that are taken; None: half of the free memory of a GPU, or 1 GiB.
            Images are computed in tiles within it, and the labels of one image too. The result does
            not depend on it but for rounding.

    Raises:
        ValueError: one image alone does not fit into memory.
    """
    height, width = images.shape[1:3]
    most_labels = max(len(score) for score in scores)
    image_bytes = height * width * (LATTICE_BYTES + 4 * MARGINAL_VALUES * most_labels)
    budget = _free(images.device) if memory is None else memory
    results: list[Finished] = []
    while len(results) < len(images):
        # At least one image, whatever the estimate: `_try` finds out if it fits after all.
        tile = max(1, budget // image_bytes)
        part = slice(len(results), len(results) + tile)
        finished = _try(images[part], scores[part], finish, preset=preset, budget=budget)
        if finished is not None:
            results += finished
        elif budget < SMALLEST_MEMORY:
            raise ValueError(
                f"the CRF of one image of {height} x {width} with {most_labels} labels does not "
                "fit into the memory of the device; expected smaller images or more memory"
            )
        else:
            # The same images are tried again, with smaller tiles and fewer columns at a time.
            budget //= 2
    return results


def _try(
    images: Tensor,
    scores: Sequence[Tensor],
    finish: Callable[[Tensor], Finished],
    *,
    preset: Preset,
    budget: int,
) -> list[Finished] | None:
    """Return the results of a tile; None if it does not fit into memory.

    The exception is left behind in this call, because its traceback keeps the tensors of the failed
    tile in memory.
    """
    try:
        return [finish(maps) for maps in _infer(images, scores, preset, budget=budget)]
    except torch.OutOfMemoryError:
        return None


def _free(device: torch.device) -> int:
    if device.type != "cuda":
        return DEFAULT_MEMORY
    free = CudaMeter(str(device)).free()
    return (free or 0) // 2


@torch.inference_mode()
def _infer(
    pixels: UInt8[Tensor, "B H W 3"],
    scores: Sequence[Float32[Tensor, "_ H W"]],
    preset: Preset,
    *,
    budget: int,
) -> list[Float32[Tensor, "_ H W"]]:
    """Run mean-field inference on a tile of images."""
    num_images, height, width, _ = pixels.shape
    position = _positions(height, width, pixels.device)
    smoothness = Lattice(position[None] / preset.gaussian_sxy)
    appearance = Lattice(
        torch.cat(
            (
                (position / preset.bilateral_sxy).expand(num_images, -1, -1),
                pixels.flatten(1, 2).float() / preset.bilateral_srgb,
            ),
            dim=2,
        )
    )
    logs = _log_scores(scores)
    num_labels = logs.shape[2]
    smooth_columns = _columns(budget, smoothness, height * width)
    appearance_columns = _columns(budget, appearance, num_images * height * width)
    # Mean field starts from the unary alone: Q = exp(-U) / Z.
    marginals = logs.softmax(dim=2)
    for _ in range(preset.iterations):
        # The smoothness lattice is the same for all images, so their labels are its columns.
        columns = marginals.movedim(0, 1).flatten(1)
        smooth = smoothness(columns, columns=smooth_columns)
        smooth = smooth.view(-1, num_images, num_labels).movedim(1, 0)
        similar = appearance(marginals.flatten(0, 1), columns=appearance_columns)
        similar = similar.view(num_images, height * width, num_labels)
        # Potts compatibility: a label gains what its kernels collect from pixels of that label.
        energy = logs + preset.gaussian_compat * smooth + preset.bilateral_compat * similar
        marginals = energy.softmax(dim=2)
    shape = (num_images, num_labels, height, width)
    maps = marginals.movedim(2, 1).reshape(shape)
    # Labels beyond an image's own were padded with -inf, so their marginals are exactly 0.
    return [maps[index, : len(score)] for index, score in enumerate(scores)]


def _positions(height: int, width: int, device: torch.device) -> Float[Tensor, "N 2"]:
    rows, columns = torch.meshgrid(
        torch.arange(height, device=device), torch.arange(width, device=device), indexing="ij"
    )
    return torch.stack((columns, rows), dim=-1).flatten(0, 1).float()


def _log_scores(scores: Sequence[Float32[Tensor, "_ H W"]]) -> Float[Tensor, "B N L"]:
    """Return the logarithms of the clipped scores; -inf for labels that an image does not have."""
    num_labels = max(len(score) for score in scores)
    logs = scores[0].new_full((len(scores), num_labels, scores[0][0].numel()), -torch.inf)
    for row, score in zip(logs, scores, strict=True):
        row[: len(score)] = score.flatten(1).clamp(MIN_SCORE, 1).log()
    return logs.movedim(1, 2).contiguous()


def _columns(budget: int, lattice: Lattice, num_pixels: int) -> int:
    """Return the number of columns that a lattice may filter at once."""
    values = BLUR_VALUES * lattice.num_vertices + 3 * num_pixels
    return max(1, budget // (4 * values))
