"""The dense CRF (Krähenbühl and Koltun, NIPS 2011) that fits scores to the image's edges.

Runs in processes of its own, one per core: nothing here imports torch, which would cost each of
them a second and hundreds of megabytes."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from types import MappingProxyType
from typing import Literal, NamedTuple, TypeVar

import numpy as np
from jaxtyping import Float32, UInt8
from pydensecrf.densecrf import DenseCRF2D

Task = TypeVar("Task")
Result = TypeVar("Result")
PresetName = Literal["psa", "irn", "deeplab", "seam", "mctformer"]

MIN_SCORE = 1e-5


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Parameters of one CRF: the smoothness kernel (`gaussian_*`) and the appearance kernel
    (`bilateral_*`).

    `sxy` is a standard deviation in pixels, `srgb` one in 8-bit color levels, `compat` the weight
    of the kernel."""

    iterations: int
    gaussian_sxy: float
    gaussian_compat: float
    bilateral_sxy: float
    bilateral_srgb: float
    bilateral_compat: float


def _preset(
    iterations: int, gaussian: tuple[float, float], bilateral: tuple[float, float, float]
) -> Preset:
    return Preset(
        iterations=iterations,
        gaussian_sxy=gaussian[0],
        gaussian_compat=gaussian[1],
        bilateral_sxy=bilateral[0],
        bilateral_srgb=bilateral[1],
        bilateral_compat=bilateral[2],
    )


# (iterations, (sxy, compat), (sxy, srgb, compat)) as the code of each name has them.
PRESETS: Mapping[PresetName, Preset] = MappingProxyType(
    {
        "psa": _preset(10, (3, 3), (80, 13, 10)),  # jiwoon-ahn/psa, OC-CSE's too
        "irn": _preset(10, (3, 3), (50, 5, 10)),  # jiwoon-ahn/irn, on label maps
        # kazuto1011/deeplab-pytorch, DeepLabv2 at test time
        "deeplab": _preset(10, (1, 3), (67, 3, 4)),
        # YudeWang/semantic-segmentation-codebase, at test time
        "seam": _preset(1, (3, 3), (32, 13, 10)),
        "mctformer": _preset(10, (4, 3), (83, 5, 3)),  # xulianuwa/MCTformer, at test time
    }
)


def with_background(
    cam: Float32[np.ndarray, "K H W"], alpha: float
) -> Float32[np.ndarray, "K+1 H W"]:
    """The power background (1 - max_c A^c)^alpha, stacked before the CAMs `cam` (in [0, 1]).

    An image without any class is all background.
    """
    background = (1 - cam.max(axis=0, keepdims=True, initial=0)) ** np.float32(alpha)
    return np.concatenate((background, cam))


def implied_threshold(alpha: float) -> float:
    """The score t = (1 - t)^alpha above which a class beats the power background.

    Raises:
        ValueError: alpha is not positive.
    """
    if not 0 < alpha < float("inf"):
        raise ValueError(f"alpha must be positive and finite, not {alpha}")
    low, high = 0.0, 1.0
    for _ in range(60):  # t - (1 - t)^alpha grows with t: halve until a float64 has no more digits
        middle = (low + high) / 2
        low, high = (low, middle) if middle > (1 - middle) ** alpha else (middle, high)
    return high


def alpha_text(alpha: float) -> str:
    """An alpha, and beside it the threshold that it implies."""
    return f"{alpha:g} (threshold {implied_threshold(alpha):.3f})"


def bracket_fault(threshold: float, *, low: float, high: float) -> str:
    """What is wrong with the affinity labels' alphas `low` and `high`, given the CAM's best
    threshold; "": nothing.

    The labels trust foreground above the threshold of the low alpha and background below that of
    the high one; a best threshold that is not between the two says that one of them is trusted too
    easily."""
    if implied_threshold(high) < threshold < implied_threshold(low):
        return ""
    return (
        f"the CAM's best threshold {threshold:g} is not between those of alpha {alpha_text(high)} and alpha "
        f"{alpha_text(low)}: the affinity labels trust "
        f"{'foreground' if threshold >= implied_threshold(low) else 'background'} too easily"
    )


def dense_crf(
    image: UInt8[np.ndarray, "..."], scores: Float32[np.ndarray, "..."], *, preset: Preset
) -> Float32[np.ndarray, "L H W"]:
    """Marginals of the L labels after mean-field inference, for an (H, W, 3) image and (L, H, W)
    scores.

    The unary energy is -log of the scores, clipped to [1e-5, 1]. They need not sum to 1: a constant
    factor per pixel changes nothing.

    Raises:
        ValueError: the shapes do not fit, or a score is not finite.
    """
    _check(image, scores)
    num_labels, height, width = scores.shape
    unary = -np.log(np.clip(scores, MIN_SCORE, 1))
    crf = DenseCRF2D(width, height, num_labels)
    crf.setUnaryEnergy(np.ascontiguousarray(unary.reshape(num_labels, -1), dtype=np.float32))
    crf.addPairwiseGaussian(sxy=preset.gaussian_sxy, compat=preset.gaussian_compat)
    crf.addPairwiseBilateral(
        sxy=preset.bilateral_sxy,
        srgb=preset.bilateral_srgb,
        rgbim=np.ascontiguousarray(image),
        compat=preset.bilateral_compat,
    )
    # A copy: the marginals live in memory that belongs to the library.
    return np.array(crf.inference(preset.iterations), dtype=np.float32).reshape(
        num_labels, height, width
    )


def refine_labels(
    image: UInt8[np.ndarray, "..."],
    labels: UInt8[np.ndarray, "..."],
    *,
    num_labels: int,
    preset: Preset = PRESETS["irn"],
    confidence: float = 0.7,
) -> UInt8[np.ndarray, "H W"]:
    """The label map (values below `num_labels`) fitted to the image, as irn does between its two
    steps.

    Each pixel's own label has the score `confidence`; the other labels share the rest.

    Raises:
        ValueError: a label is out of range, or the sizes differ.
    """
    if labels.ndim != 2 or labels.max(initial=0) >= num_labels:
        raise ValueError(
            f"labels: expected an (H, W) map of values below {num_labels}, "
            f"not {labels.shape} with values up to {labels.max(initial=0)}"
        )
    if num_labels == 1:
        return labels
    own = labels == np.arange(num_labels)[:, None, None]
    scores = np.where(own, confidence, (1 - confidence) / (num_labels - 1)).astype(np.float32)
    refined: np.ndarray = dense_crf(image, scores, preset=preset).argmax(axis=0).astype(np.uint8)
    return refined


def refine_many(
    tasks: Iterable[Task], function: Callable[[Task], Result], *, workers: int
) -> Iterator[Result]:
    """`function` of each task, in order, in `workers` processes (0 or 1: in this one).

    No more than four tasks per process are taken from `tasks` ahead of the results, so a data set
    is never held in memory. An exception in `function` reaches the caller. `function` must be
    importable: it is found by its name."""
    if workers <= 1:
        yield from map(function, tasks)
        return
    # Spawn: a fork would copy the locks of torch's and Ray's threads in whatever state they are.
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
    pending: deque[Future[Result]] = deque()
    try:
        for task in tasks:
            pending.append(pool.submit(function, task))
            if len(pending) >= 4 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


class CamTask(NamedTuple):
    """One image for the CRF."""

    name: str
    image: UInt8[np.ndarray, "H W 3"]
    cam: Float32[np.ndarray, "K H W"]
    classes: tuple[int, ...]
    alpha: float
    preset: PresetName


class RefinedCam(NamedTuple):
    """What the CRF made of it: marginals in 255ths, background first, and their label map."""

    name: str
    classes: tuple[int, ...]
    scores: UInt8[np.ndarray, "L H W"]
    labels: UInt8[np.ndarray, "H W"]


def refine_cam(task: CamTask) -> RefinedCam:
    """Run the CRF on one image."""
    scores = dense_crf(
        task.image, with_background(task.cam, task.alpha), preset=PRESETS[task.preset]
    )
    values = np.array([0, *(index + 1 for index in task.classes)], np.uint8)
    return RefinedCam(
        task.name, task.classes, np.rint(scores * 255).astype(np.uint8), values[scores.argmax(0)]
    )


class ScoresTask(NamedTuple):
    """One image whose scores of background and `classes` become a label map, through the CRF
    `preset` if there is one.

    The CRF takes the scores as they are, or with `unary` "labels" their label map with 0.7 for each
    pixel's own label."""

    name: str
    image: UInt8[np.ndarray, "H W 3"]
    scores: Float32[np.ndarray, "L H W"]
    classes: tuple[int, ...]
    preset: PresetName | Literal["none"]
    unary: Literal["scores", "labels"]


def label_scores(task: ScoresTask) -> tuple[str, UInt8[np.ndarray, "H W"]]:
    """The name of the image and its label map."""
    places = task.scores.argmax(axis=0)
    if task.preset != "none" and task.unary == "scores":
        places = dense_crf(task.image, task.scores, preset=PRESETS[task.preset]).argmax(axis=0)
    elif task.preset != "none":
        labels = places.astype(np.uint8)
        places = refine_labels(
            task.image, labels, num_labels=len(task.scores), preset=PRESETS[task.preset]
        )
    values = np.array([0, *(index + 1 for index in task.classes)], np.uint8)
    return task.name, values[places]


def _check(image: np.ndarray, scores: np.ndarray) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ValueError(f"image: expected the shape (H, W, 3), not {image.shape}")
    if scores.ndim != 3 or scores.shape[0] == 0 or scores.shape[1:] != image.shape[:2]:
        raise ValueError(
            f"scores: expected the shape (L, {image.shape[0]}, {image.shape[1]}), not {scores.shape}"
        )
    if not np.isfinite(scores).all():
        raise ValueError("scores: expected finite numbers, found NaN or infinity")
