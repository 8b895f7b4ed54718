"""The dense CRF (Krähenbühl and Koltun, NIPS 2011), which fits scores to the edges of the image.

It appears three times in the method: it refines CAMs into the scores that supervise AffinityNet,
it may refine pseudo labels, and it may refine the predictions of the segmentation network. The
only parameter that the paper varies is alpha, the exponent of the background score.

pydensecrf computes one image on one core, so data sets are refined in one process per core. This
module does not import torch, which would cost each of these processes a second and hundreds of
megabytes. The backend for GPUs is `occse.method.crf_torch`; both give the same labels.
`occse.method.refinement` chooses between the two.
"""

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

from occse.data.array_archive import SCORE_STEPS

Task = TypeVar("Task")
Result = TypeVar("Result")
PresetName = Literal["psa", "irn", "deeplab", "seam", "mctformer"]
Unary = Literal[
    "scores",  # the CRF takes the scores as they are
    "labels",  # it takes the label map of the best scores, with a confidence
]

# Scores are clipped to this before the logarithm: psa, irn and OC-CSE clip at the same value.
MIN_SCORE = 1e-5
# The score of each pixel's own label where a label map enters the CRF (irn).
CONFIDENCE = 0.7
# Tasks that are read ahead for each process. A few, so that no process waits for the next image,
# and no more, so that a data set is never held in memory.
TASKS_AHEAD = 4


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Parameters of a dense CRF with two kernels.

    Attributes:
        iterations: mean-field iterations.
        gaussian_sxy: standard deviation of the smoothness kernel, in pixels.
        gaussian_compat: weight of the smoothness kernel.
        bilateral_sxy: standard deviation of the appearance kernel in position, in pixels.
        bilateral_srgb: its standard deviation in color, in 8-bit levels.
        bilateral_compat: weight of the appearance kernel.
    """

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


# Iterations, (sxy, compat) and (sxy, srgb, compat), as the code of each name has them.
PRESETS: Mapping[PresetName, Preset] = MappingProxyType(
    {
        # jiwoon-ahn/psa, and OC-CSE after it
        "psa": _preset(10, (3, 3), (80, 13, 10)),
        # jiwoon-ahn/irn, on label maps
        "irn": _preset(10, (3, 3), (50, 5, 10)),
        # kazuto1011/deeplab-pytorch: DeepLabv2 at test time
        "deeplab": _preset(10, (1, 3), (67, 3, 4)),
        # YudeWang/semantic-segmentation-codebase: SEAM's DeepLab at test time
        "seam": _preset(1, (3, 3), (32, 13, 10)),
        # xulianuwa/MCTformer: its segmentation network at test time
        "mctformer": _preset(10, (4, 3), (83, 5, 3)),
    }
)


def with_background(
    cam: Float32[np.ndarray, "K H W"], alpha: float
) -> Float32[np.ndarray, "K+1 H W"]:
    """Return [(1 - max_c A^c)^alpha, A]: the power background, stacked before the CAMs in [0, 1].

    An image without any class is all background.
    """
    background = (1 - cam.max(axis=0, keepdims=True, initial=0)) ** np.float32(alpha)
    return np.concatenate((background, cam))


def implied_threshold(alpha: float) -> float:
    """Return the score t = (1 - t)^alpha, above which a class beats the power background.

    Raises:
        ValueError: alpha is not positive.
    """
    if not 0 < alpha < float("inf"):
        raise ValueError(f"alpha must be positive and finite, not {alpha}")
    low, high = 0.0, 1.0
    # t - (1 - t)^alpha grows with t, so bisection finds its root. After 60 halvings a float64 has
    # no digit left to gain. scipy has this too, but commands that only print an alpha would import
    # it.
    for _ in range(60):
        middle = (low + high) / 2
        if middle > (1 - middle) ** alpha:
            high = middle
        else:
            low = middle
    return high


def alpha_text(alpha: float) -> str:
    """Return an alpha with its implied threshold, such as "6 (threshold 0.222)"."""
    return f"{alpha:g} (threshold {implied_threshold(alpha):.3f})"


def bracket_fault(threshold: float, *, low: float, high: float) -> str:
    """Return the fault of the affinity labels' alphas, or "" if there is none.

    Foreground is trusted above the threshold that the alpha `low` implies, background below the
    one that `high` implies. The CAM's best threshold `threshold` should lie between the two:
    outside, one side of the labels is trusted too easily.
    """
    if implied_threshold(high) < threshold < implied_threshold(low):
        return ""
    trusted = "foreground" if threshold >= implied_threshold(low) else "background"
    return (
        f"the CAM's best threshold {threshold:g} is not between those of alpha {alpha_text(high)} "
        f"and alpha {alpha_text(low)}: the affinity labels trust {trusted} too easily"
    )


def dense_crf(
    image: UInt8[np.ndarray, "..."], scores: Float32[np.ndarray, "..."], *, preset: Preset
) -> Float32[np.ndarray, "L H W"]:
    """Return the marginals of L labels after mean-field inference, with pydensecrf.

    The unary energy is -log of the scores, clipped to [1e-5, 1]. The scores of a pixel need not
    sum to 1: a factor that all labels share changes nothing.

    Args:
        image: RGB, (H, W, 3). It may be read-only.
        scores: (L, H, W), in [0, 1].
        preset: the parameters of the CRF.

    Raises:
        ValueError: the shapes do not fit, or a score is not finite.
    """
    check_crf_input(image, scores)
    num_labels, height, width = scores.shape
    unary = -np.log(np.clip(scores, MIN_SCORE, 1))
    crf = DenseCRF2D(width, height, num_labels)
    crf.setUnaryEnergy(np.ascontiguousarray(unary.reshape(num_labels, -1), dtype=np.float32))
    crf.addPairwiseGaussian(sxy=preset.gaussian_sxy, compat=preset.gaussian_compat)
    crf.addPairwiseBilateral(
        sxy=preset.bilateral_sxy,
        srgb=preset.bilateral_srgb,
        # pydensecrf reads the image through a writable buffer: a read-only array is copied.
        rgbim=np.require(image, requirements=("C", "W")),
        compat=preset.bilateral_compat,
    )
    # A copy, because the marginals lie in memory that belongs to the library.
    marginals = np.array(crf.inference(preset.iterations), dtype=np.float32)
    return marginals.reshape(num_labels, height, width)


def refine_labels(
    image: UInt8[np.ndarray, "..."],
    labels: UInt8[np.ndarray, "..."],
    *,
    num_labels: int,
    preset: Preset = PRESETS["irn"],
    confidence: float = CONFIDENCE,
) -> UInt8[np.ndarray, "H W"]:
    """Return a label map fitted to the image, as irn does between its two steps.

    The scores that enter the CRF are `confidence` for the label of the pixel, and equal shares of
    the rest for the other labels. Source: `crf_inference_label` of jiwoon-ahn/irn.

    Args:
        image: RGB, (H, W, 3).
        labels: (H, W), values below `num_labels`.
        num_labels: number of labels, background included.
        preset: the parameters of the CRF.
        confidence: score of each pixel's label, in (0, 1).

    Raises:
        ValueError: a label is out of range, or the sizes differ.
    """
    if labels.ndim != 2 or labels.max(initial=0) >= num_labels:
        raise ValueError(
            f"labels: expected an (H, W) map of values below {num_labels}, "
            f"not {labels.shape} with values up to {labels.max(initial=0)}"
        )
    # The rest of the score would be divided among no other label.
    if num_labels == 1:
        return labels
    is_label = labels == np.arange(num_labels)[:, None, None]
    scores = np.where(is_label, confidence, (1 - confidence) / (num_labels - 1))
    marginals = dense_crf(image, scores.astype(np.float32), preset=preset)
    refined: np.ndarray = marginals.argmax(axis=0).astype(np.uint8)
    return refined


def refine_many(
    tasks: Iterable[Task], function: Callable[[Task], Result], *, workers: int
) -> Iterator[Result]:
    """Yield `function` of each task, in order, computed in `workers` processes.

    With 0 or 1 workers everything happens in this process. At most four tasks per process are
    taken from `tasks` ahead of the results. An exception in `function` reaches the caller.

    Args:
        tasks: the arguments, picklable.
        function: found by its name in each process, so it must be importable.
        workers: number of processes.
    """
    if workers <= 1:
        yield from map(function, tasks)
        return
    # Spawn, because a fork would copy the locks of torch's and Ray's threads in whatever state
    # they are, and a copied lock that is held is never released.
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
    pending: deque[Future[Result]] = deque()
    try:
        for task in tasks:
            pending.append(pool.submit(function, task))
            if len(pending) >= TASKS_AHEAD * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        # Without the cancellation a failed or abandoned iteration would first compute all tasks
        # that are waiting in the pool.
        pool.shutdown(cancel_futures=True)


class CamTask(NamedTuple):
    """The CAMs of one image, to be refined at one alpha."""

    name: str
    image: UInt8[np.ndarray, "H W 3"]
    cam: Float32[np.ndarray, "K H W"]
    classes: tuple[int, ...]
    alpha: float
    preset: PresetName


class RefinedCam(NamedTuple):
    """The result of a `CamTask`: marginals in 255ths, background first, and their label map."""

    name: str
    classes: tuple[int, ...]
    scores: UInt8[np.ndarray, "L H W"]
    labels: UInt8[np.ndarray, "H W"]


def refine_cam(task: CamTask) -> RefinedCam:
    """Run the CRF on the CAMs of one image."""
    scores = dense_crf(
        task.image, with_background(task.cam, task.alpha), preset=PRESETS[task.preset]
    )
    # Eight bits take a quarter of the disk of float32, and the two backends agree within one step
    # of them. The labels come from the scores before rounding, which makes ties.
    stored = np.rint(scores * SCORE_STEPS).astype(np.uint8)
    labels = label_values(task.classes)[scores.argmax(axis=0)]
    return RefinedCam(task.name, task.classes, stored, labels)


class ScoresTask(NamedTuple):
    """The scores of one image's background and `classes`, to be made a label map.

    `preset` names the CRF in between, or "none". The CRF takes the scores as they are (`unary`
    "scores"), or the label map of the best scores with a confidence of 0.7 (`unary` "labels").
    """

    name: str
    image: UInt8[np.ndarray, "H W 3"]
    scores: Float32[np.ndarray, "L H W"]
    classes: tuple[int, ...]
    preset: PresetName | Literal["none"]
    unary: Unary


def label_scores(task: ScoresTask) -> tuple[str, UInt8[np.ndarray, "H W"]]:
    """Return the name of the image and its label map."""
    positions = task.scores.argmax(axis=0)
    if task.preset != "none" and task.unary == "scores":
        marginals = dense_crf(task.image, task.scores, preset=PRESETS[task.preset])
        positions = marginals.argmax(axis=0)
    elif task.preset != "none":
        positions = refine_labels(
            task.image,
            positions.astype(np.uint8),
            num_labels=len(task.scores),
            preset=PRESETS[task.preset],
        )
    return task.name, label_values(task.classes)[positions]


def label_values(classes: tuple[int, ...]) -> UInt8[np.ndarray, " L"]:
    """Return the label of each position in a stack of scores: 0, then class index + 1."""
    return np.array([0, *(index + 1 for index in classes)], np.uint8)


def check_crf_input(image: np.ndarray, scores: np.ndarray) -> None:
    """Raise ValueError unless the image is (H, W, 3) and the scores are finite and (L, H, W)."""
    if image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ValueError(f"image: expected the shape (H, W, 3), not {image.shape}")
    if scores.ndim != 3 or scores.shape[0] == 0 or scores.shape[1:] != image.shape[:2]:
        height, width = image.shape[:2]
        raise ValueError(f"scores: expected the shape (L, {height}, {width}), not {scores.shape}")
    if not np.isfinite(scores).all():
        raise ValueError("scores: expected finite numbers, found NaN or infinity")
