"""The one evaluator of CAMs, CRF scores, pseudo labels and segmentations.

It counts pixels per image, ground truth and prediction, and computes scores from these counts. The
counts are stored with the artifact, so every threshold, subset and class table follows from them
without reading a pixel again.

Source: `evaluation.do_python_eval` of KAIST-vilab/OC-CSE, whose confusions the tests compare with.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64, Int64, UInt8

from occse.data.array_archive import ArrayReader, ArrayWriter

# The label of pixels that are not scored, in every layout of masks.
VOID = 255
# Added to every denominator, as in the official code: a label that occurs nowhere scores 0.
EPSILON = 1e-10
# Masks and label maps have 8 bits per pixel.
NUM_VALUES = 256
# The name under which all arrays of a `Counts` stand in its archive.
ENTRIES = "counts"
TEXTS = ("names", "classes")


@dataclass(frozen=True, kw_only=True, eq=False)
class Counts:
    """Pixels per image, ground truth, prediction and threshold; void pixels are left out.

    Entry e means: in the image `image[e]`, `count[e]` pixels of the label `gt[e]` are predicted as
    `pred[e]` at the first `bin[e]` thresholds, and as background at the others. So one histogram
    holds the confusion at every threshold. Label maps have no thresholds (T = 0): they are counted
    at a single level.

    Attributes:
        names: of the images, in the order in which they were counted.
        classes: names of the foreground classes; label i + 1 is class i.
        thresholds: ascending, in [0, 1).
        image: index into `names`, by entry.
        bin: number of thresholds that the scores exceed, by entry.
        gt: label of the ground truth, by entry.
        pred: predicted label, by entry.
        count: number of pixels, by entry.
    """

    names: tuple[str, ...]
    classes: tuple[str, ...]
    thresholds: Float32[np.ndarray, " T"]
    image: Int64[np.ndarray, " E"]
    bin: Int64[np.ndarray, " E"]
    gt: Int64[np.ndarray, " E"]
    pred: Int64[np.ndarray, " E"]
    count: Int64[np.ndarray, " E"]

    def confusion(
        self, names: Collection[str] | None = None
    ) -> Int64[np.ndarray, "levels labels labels"]:
        """Return pixels by [threshold, ground truth, prediction], summed over images.

        Args:
            names: the images to sum over; None: all of them.

        Raises:
            ValueError: an image was not counted.
        """
        entries = slice(None) if names is None else np.isin(self.image, self._indices(names))
        labels = len(self.classes) + 1
        histogram = np.zeros((_levels(self.thresholds) + 1, labels, labels), np.int64)
        # `add.at`, since many entries share a cell: `histogram[...] += count` would add one of
        # them.
        np.add.at(
            histogram,
            (self.bin[entries], self.gt[entries], self.pred[entries]),
            self.count[entries],
        )
        # At threshold t, the pixels in bins above t are foreground. The other pixels of each
        # ground truth label are background.
        foreground = histogram[::-1].cumsum(axis=0)[::-1][1:]
        foreground[:, :, 0] += histogram.sum(axis=(0, 2)) - foreground.sum(axis=2)
        return foreground

    def _indices(self, names: Collection[str]) -> list[int]:
        position = {name: index for index, name in enumerate(self.names)}
        if unknown := [name for name in names if name not in position]:
            raise ValueError(
                f"no counts of the image {unknown[0]!r}; "
                f"{len(self.names)} other images were counted"
            )
        return [position[name] for name in names]

    def save(self, path: Path) -> None:
        """Write the counts as one compressed archive of arrays, which `numpy.load` can read too."""
        texts = {key: np.array(getattr(self, key), dtype=str) for key in TEXTS}
        arrays = {key: getattr(self, key) for key in self.__dataclass_fields__ if key not in texts}
        with ArrayWriter(path) as writer:
            writer.write(ENTRIES, **texts, **arrays)

    @classmethod
    def load(cls, path: Path) -> "Counts":
        """Read the counts that `save` wrote.

        Raises:
            ValueError: the file is damaged or holds something else; the message names it.
        """
        arrays = ArrayReader(path)[ENTRIES]
        try:
            _validate(arrays)
        except ValueError as error:
            raise ValueError(f"{path} holds no counts, or they are damaged: {error}") from error
        names, classes = (tuple(arrays.pop(key).tolist()) for key in TEXTS)
        return cls(names=names, classes=classes, **arrays)


class CountsBuilder:
    """Collects the counts of a data set, image by image.

    With `thresholds` it counts CAMs (`add_cam`), without it counts label maps (`add_labels`).

    Raises:
        ValueError: the thresholds are not ascending in [0, 1); an image is counted twice; a ground
            truth has another size than the prediction, or labels out of range. The message names
            the image.
    """

    def __init__(self, classes: Sequence[str], *, thresholds: Sequence[float] = ()) -> None:
        self._classes = tuple(classes)
        # The official code stores the threshold in a float32 array, so scores are compared with
        # the float32 value here too.
        self._thresholds = np.array(thresholds, dtype=np.float32)
        _check_thresholds(self._thresholds)
        if len(self._classes) >= VOID:
            raise ValueError(
                f"{len(self._classes)} classes do not fit 8-bit label maps; at most {VOID - 1} do"
            )
        self._names: dict[str, None] = {}
        self._entries = [np.empty((5, 0), np.int64)]

    def add_cam(
        self,
        name: str,
        cam: Float32[np.ndarray, "K H W"],
        *,
        classes: Int64[np.ndarray, " K"],
        gt: UInt8[np.ndarray, "..."],
    ) -> None:
        """Count the CAMs of an image at all thresholds, in one pass over its pixels.

        A pixel has its best class where that score is above the threshold, otherwise background.
        Ties between classes go to the first class, a score equal to the threshold is background.

        Args:
            name: of the image.
            cam: normalized CAMs of the present classes.
            classes: their indices, ascending.
            gt: the mask, (H, W).
        """
        ascending = bool(np.all(np.diff(classes) > 0))
        if not ascending or np.any(classes < 0) or np.any(classes >= len(self._classes)):
            raise ValueError(
                f"{name}: classes {classes.tolist()}; expected ascending indices "
                f"below {len(self._classes)}"
            )
        self._check(name, size=cam.shape[1:], gt=gt)
        best, winner = _best(cam)
        if not np.isfinite(best).all():
            raise ValueError(f"{name}: the CAM has scores that are not finite")
        bins = _bins(best, self._thresholds)
        shape = (self._thresholds.size + 1, len(classes) + 1, NUM_VALUES)
        histogram = _histogram((bins, winner, gt), shape)
        # A pixel that exceeds no threshold is background, whatever its best class is.
        histogram[0, 0] += histogram[0, 1:].sum(axis=0)
        histogram[0, 1:] = 0
        self._add(name, histogram, labels=np.concatenate(([0], classes + 1)))

    def add_labels(
        self, name: str, prediction: UInt8[np.ndarray, "H W"], *, gt: UInt8[np.ndarray, "..."]
    ) -> None:
        """Count a predicted label map. Every pixel must have a label: void is not a prediction."""
        if self._thresholds.size:
            raise ValueError(
                f"{name}: a label map has no scores that could be compared with thresholds"
            )
        self._check(name, size=prediction.shape, gt=gt)
        histogram = _histogram((prediction, gt), (NUM_VALUES, NUM_VALUES))
        if histogram[len(self._classes) + 1 :].any():
            raise ValueError(
                f"{name}: the prediction goes up to {prediction.max()}; allowed are {self._allowed}"
            )
        # Label maps have one level, so all their pixels are in the second of two bins.
        levels = np.stack((np.zeros_like(histogram), histogram))
        self._add(name, levels, labels=np.arange(NUM_VALUES))

    def build(self) -> Counts:
        """Return the counts of all images so far."""
        image, bins, gt, pred, count = np.concatenate(self._entries, axis=1)
        return Counts(
            names=tuple(self._names),
            classes=self._classes,
            thresholds=self._thresholds,
            image=image,
            bin=bins,
            gt=gt,
            pred=pred,
            count=count,
        )

    @property
    def _allowed(self) -> str:
        return f"0 to {len(self._classes)}"

    def _check(self, name: str, *, size: tuple[int, ...], gt: np.ndarray) -> None:
        if name in self._names:
            raise ValueError(f"{name}: this image was counted before")
        if gt.shape != size:
            raise ValueError(
                f"{name}: the ground truth has the size {gt.shape}, the prediction {size}"
            )

    def _add(self, name: str, histogram: np.ndarray, *, labels: np.ndarray) -> None:
        """Store the filled cells of a histogram over [bin, position in `labels`, ground truth]."""
        if histogram[:, :, len(self._classes) + 1 : VOID].any():
            found = np.flatnonzero(histogram.sum(axis=(0, 1)))
            raise ValueError(
                f"{name}: ground truth labels {found.tolist()}; "
                f"allowed are {self._allowed} and {VOID}"
            )
        # Void pixels are in no count, neither as hits nor as false positives.
        counted = histogram[:, :, :VOID]
        bins, positions, gt = np.nonzero(counted)
        image = np.full(bins.size, len(self._names))
        pixels = counted[bins, positions, gt]
        self._entries.append(np.stack((image, bins, gt, labels[positions], pixels)))
        self._names[name] = None


def iou(
    confusion: Int64[np.ndarray, "*levels labels labels"],
) -> Float64[np.ndarray, "*levels labels"]:
    """Return the intersection over union per label, TP / (T + P - TP + 1e-10).

    T and P are the pixels of a label in ground truth and prediction, TP those in both. A label that
    is in neither has 0 and counts in the mean, as in the official code.
    """
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    return np.asarray(hits / (confusion.sum(axis=-1) + confusion.sum(axis=-2) - hits + EPSILON))


def precision(
    confusion: Int64[np.ndarray, "*levels labels labels"],
) -> Float64[np.ndarray, "*levels labels"]:
    """Return the share of each label's predicted pixels that is right, TP / (P + 1e-10)."""
    return np.asarray(
        np.diagonal(confusion, axis1=-2, axis2=-1) / (confusion.sum(axis=-2) + EPSILON)
    )


def recall(
    confusion: Int64[np.ndarray, "*levels labels labels"],
) -> Float64[np.ndarray, "*levels labels"]:
    """Return the share of each label's true pixels that is found, TP / (T + 1e-10)."""
    return np.asarray(
        np.diagonal(confusion, axis1=-2, axis2=-1) / (confusion.sum(axis=-1) + EPSILON)
    )


def summarize(counts: Counts, *, multi_label: Collection[str]) -> dict[str, float]:
    """Return the scores of `counts` by metric name, as fractions in [0, 1].

    They hold at the threshold with the best mIoU, the first of equals. That threshold is chosen on
    the ground truth that scores it, as in the official code.

    Args:
        counts: of CAMs or of label maps.
        multi_label: the images with at least two classes. `miou_multi` is their mIoU at the same
            threshold.
    """
    confusion = counts.confusion()
    best = int(iou(confusion).mean(axis=-1).argmax())
    scores = iou(confusion[best])
    metrics = {
        "miou": float(scores.mean()),
        "precision": float(precision(confusion[best]).mean()),
        "recall": float(recall(confusion[best]).mean()),
    }
    metrics |= {
        f"iou/{label}": float(score)
        for label, score in zip(("background", *counts.classes), scores, strict=True)
    }
    if counts.thresholds.size:
        # By way of text, so that the float32 0.17 becomes 0.17 and not 0.17000000178813934.
        metrics["threshold"] = float(str(counts.thresholds[best]))
    if multi := set(multi_label).intersection(counts.names):
        metrics["miou_multi"] = float(iou(counts.confusion(multi)[best]).mean())
    return metrics


def _levels(thresholds: np.ndarray) -> int:
    return max(thresholds.size, 1)


def _validate(arrays: dict[str, np.ndarray]) -> None:
    """Refuse arrays from a file that contradict each other, before anything is built from them."""
    expected = Counts.__dataclass_fields__.keys()
    if arrays.keys() != expected:
        raise ValueError(f"expected the arrays {', '.join(expected)}, found {', '.join(arrays)}")
    for key in TEXTS:
        texts = arrays[key]
        if texts.ndim != 1 or texts.dtype.kind != "U" or len(set(texts)) != texts.size:
            raise ValueError(f"{key}: expected a list of distinct texts")
    _check_thresholds(arrays["thresholds"])
    num_entries = arrays["count"].size
    num_labels = arrays["classes"].size + 1
    limits = {
        "image": arrays["names"].size,
        "bin": _levels(arrays["thresholds"]) + 1,
        "count": np.inf,
    }
    for key, limit in (limits | {"gt": num_labels, "pred": num_labels}).items():
        values = arrays[key]
        if values.dtype != np.int64 or values.shape != (num_entries,):
            raise ValueError(f"{key}: expected {num_entries} 64-bit integers")
        if values.min(initial=0) < 0 or values.max(initial=-1) >= limit:
            raise ValueError(f"{key}: expected values from 0 to below {limit}")


def _check_thresholds(thresholds: np.ndarray) -> None:
    is_list = thresholds.ndim == 1 and thresholds.dtype == np.float32
    if (
        not is_list
        or not np.all(np.diff(thresholds) > 0)
        or not np.all((thresholds >= 0) & (thresholds < 1))
    ):
        raise ValueError(
            f"thresholds: expected ascending numbers in [0, 1), not {thresholds.tolist()}"
        )


def _best(cam: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each pixel's best score and the position of its class, from 1 on.

    The first of equal scores wins. Where no score is positive, the score and the position are 0.
    """
    best = np.zeros(cam.shape[1:], cam.dtype)
    winner = np.zeros(cam.shape[1:], np.uint8)
    for position, scores in enumerate(cam, start=1):
        # Strictly above: of equal scores the first class wins, as `argmax` does in the official
        # code.
        np.copyto(winner, position, where=scores > best)
        np.maximum(best, scores, out=best)
    return best, winner


def _bins(best: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Return the number of thresholds that each score exceeds."""
    # Comparisons of whole maps and 8-bit sums: a binary search per pixel takes twice as long.
    bins = np.zeros(best.shape, np.min_scalar_type(thresholds.size))
    for threshold in thresholds:
        np.add(bins, best > threshold, out=bins)
    return bins


def _histogram(values: tuple[np.ndarray, ...], shape: tuple[int, ...]) -> np.ndarray:
    """Return the number of pixels with each combination of values below `shape`."""
    index = values[0].astype(np.intp)
    for value, size in zip(values[1:], shape[1:], strict=True):
        index *= size
        index += value
    # One mixed-radix number per pixel, so that one pass counts all combinations in 64 bits.
    return np.bincount(index.ravel(), minlength=int(np.prod(shape))).reshape(shape)
