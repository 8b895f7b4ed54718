"""Label maps and refined CAMs of many images: the CRF on a GPU in batches, or in CPU processes.

Results leave a GPU one batch late: while the next batch computes, the last one is copied.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Literal, TypeVar

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

from occse.data.array_archive import SCORE_STEPS
from occse.data.read_ahead import HostCopy
from occse.data.score_archives import CamBatch, enlarge
from occse.method.crf import (
    CONFIDENCE,
    PRESETS,
    CamTask,
    PresetName,
    RefinedCam,
    ScoresTask,
    Unary,
    label_scores,
    label_values,
    refine_cam,
    refine_many,
)
from occse.method.crf_torch import refine_batch
from occse.method.random_walk import with_background

Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True)
class ScoreBatch:
    """Scores of the background and the `classes` of images of one size, on a device."""

    names: Sequence[str]
    images: UInt8[np.ndarray, "B H W 3"]
    scores: Sequence[Float[Tensor, "_ H W"]]
    classes: Sequence[tuple[int, ...]]


def label_maps(
    batches: Iterable[ScoreBatch],
    *,
    preset: PresetName | Literal["none"],
    unary: Unary,
    device: str,
    workers: int,
) -> Iterator[tuple[str, UInt8[np.ndarray, "H W"]]]:
    """Yield the name of each image and the label map of its best scores, in order.

    Args:
        batches: the scores.
        preset: the CRF in between, or "none".
        unary: input of the CRF.
        device: the device of the scores. The CRF runs there too, unless it is a CPU.
        workers: number of processes for the CRF on a CPU.
    """
    if preset != "none" and not device.startswith("cuda"):
        tasks = chain.from_iterable(map(partial(_tasks, preset=preset, unary=unary), batches))
        yield from refine_many(tasks, label_scores, workers=workers)
        return
    # `map` forgets a batch as soon as it is computed. A generator expression would keep its scores,
    # which take up to 1 GiB, while the next ones are made.
    computed = map(partial(_labels_on_their_way, preset=preset, unary=unary), batches)
    for name, classes, copy in chain.from_iterable(one_late(computed)):
        yield name, label_values(classes)[copy.wait().numpy()]


def _labels_on_their_way(
    batch: ScoreBatch, *, preset: PresetName | Literal["none"], unary: Unary
) -> list[tuple[str, tuple[int, ...], HostCopy]]:
    """Return name, classes and positions of each image; the scores are not kept."""
    copies = [HostCopy(best) for best in best_labels(batch, preset=preset, unary=unary)]
    return list(zip(batch.names, batch.classes, copies, strict=True))


def best_labels(
    batch: ScoreBatch, *, preset: PresetName | Literal["none"], unary: Unary
) -> list[UInt8[Tensor, "H W"]]:
    """Return the positions of the best scores, after the CRF in torch; all of it on the device.

    Raises:
        ValueError: a score is not finite.
    """
    if preset == "none":
        return [_best(scores) for scores in batch.scores]
    _check_finite(batch.scores, batch.names)
    scores = batch.scores
    if unary == "labels":
        scores = [_confident(_best(of_image), len(of_image)) for of_image in batch.scores]
    images = torch.from_numpy(batch.images).to(batch.scores[0].device)
    return refine_batch(images, scores, _best, preset=PRESETS[preset])


def refined_cams(
    batches: Iterable[CamBatch],
    *,
    alpha: float,
    preset: PresetName,
    device: str,
    workers: int,
) -> Iterator[RefinedCam]:
    """Yield the CRF's scores and labels of each image's [(1 - max CAM)^alpha, CAM], in order.

    Args:
        batches: the CAMs.
        alpha: exponent of the background's score.
        preset: the parameters of the CRF.
        device: where to compute.
        workers: number of processes on a CPU.
    """
    if not device.startswith("cuda"):
        tasks = chain.from_iterable(_cam_tasks(batch, alpha, preset) for batch in batches)
        yield from refine_many(tasks, refine_cam, workers=workers)
        return
    computed = (
        (batch, refine_cams_on(device, batch, alpha=alpha, preset=preset)) for batch in batches
    )
    for batch, copies in one_late(computed):
        for name, classes, (stored, best) in zip(batch.names, batch.classes, copies, strict=True):
            labels = label_values(classes)[best.wait().numpy()]
            yield RefinedCam(name, classes, stored.wait().numpy(), labels)


def refine_cams_on(
    device: str, batch: CamBatch, *, alpha: float, preset: PresetName
) -> list[tuple[HostCopy, HostCopy]]:
    """Return the 8-bit scores of each image and the positions of the best ones, on their way.

    Raises:
        ValueError: a score is not finite.
    """
    size = (batch.images.shape[1], batch.images.shape[2])
    scores = []
    for cam in batch.cams:
        # The stored maps are copied: they are smaller by the square of the reduction.
        full = enlarge(torch.from_numpy(cam).to(device, non_blocking=True), size)
        scores.append(with_background(full[None], alpha)[0])
    _check_finite(scores, batch.names)

    def finish(marginals: Tensor) -> tuple[HostCopy, HostCopy]:
        # The labels come from the scores before rounding, which makes ties.
        stored = (marginals * SCORE_STEPS).round().to(torch.uint8)
        return HostCopy(stored), HostCopy(_best(marginals))

    images = torch.from_numpy(batch.images).to(device)
    return refine_batch(images, scores, finish, preset=PRESETS[preset])


def one_late(items: Iterable[Item]) -> Iterator[Item]:
    """Yield each item once the next one has been computed."""
    last: list[Item] = []
    for item in items:
        yield from last
        last = [item]
    yield from last


def _tasks(batch: ScoreBatch, preset: PresetName, unary: Unary) -> Iterator[ScoresTask]:
    for name, image, scores, classes in zip(
        batch.names, batch.images, batch.scores, batch.classes, strict=True
    ):
        # A copy: the scores of an image are a part of those of the batch, and a task that waits
        # would keep all of them.
        yield ScoresTask(name, image, scores.numpy().copy(), classes, preset, unary)


def _cam_tasks(batch: CamBatch, alpha: float, preset: PresetName) -> Iterator[CamTask]:
    for name, image, cam, classes in zip(
        batch.names, batch.images, batch.cams, batch.classes, strict=True
    ):
        full = enlarge(torch.from_numpy(cam), image.shape[:2]).numpy()
        yield CamTask(name, image, full, classes, alpha, preset)


def _best(scores: Float[Tensor, "L H W"]) -> UInt8[Tensor, "H W"]:
    """Return the position of the best score; the first of equal ones."""
    return scores.argmax(0).to(torch.uint8)


def _confident(labels: UInt8[Tensor, "H W"], num_labels: int) -> Float[Tensor, "L H W"]:
    """Return scores of 0.7 for each pixel's label and equal ones for the others (irn)."""
    is_label = functional.one_hot(labels.long(), num_labels).movedim(-1, 0).bool()
    rest = (1 - CONFIDENCE) / max(num_labels - 1, 1)
    return torch.where(is_label, CONFIDENCE, rest)


def _check_finite(scores: Sequence[Tensor], names: Sequence[str]) -> None:
    # This waits for the device. The lattice, which is built next, waits for it anyway.
    for name, finite in zip(names, [of_image.isfinite().all() for of_image in scores], strict=True):
        if not finite:
            raise ValueError(f"scores of {name}: expected finite numbers, found NaN or infinity")
