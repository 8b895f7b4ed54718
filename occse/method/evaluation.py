"""The one evaluator of CAMs, CRF scores, pseudo labels and segmentations: confusion counts per
image, then scores.

The counts are stored with the artifact; every threshold, subset and class table follows from them
without another look at a pixel."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64, Int64, UInt8

from occse.data.array_archive import ArrayReader, ArrayWriter

VOID = 255
EPSILON = 1e-10
NUM_VALUES = 256
ENTRIES = "counts"
TEXTS = ("names", "classes")


@dataclass(frozen=True, kw_only=True, eq=False)
class Counts:
    """Pixels per image, ground truth, prediction and threshold; void is left out.

    Entry e says: in image `image[e]`, `count[e]` pixels of the label `gt[e]` are predicted as
    `pred[e]` at the first `bin[e]` thresholds and as background at the others. So one histogram
    holds the confusion at every threshold. Label maps have no threshold (T = 0); their pixels count
    as if there were one."""

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
        """Pixels by [threshold, ground truth, prediction], summed over the images `names` (None:
        all).

        Label maps have one level.

        Raises:
            ValueError: an image is not among the counted.
        """
        entries = slice(None) if names is None else np.isin(self.image, self._indices(names))
        labels = len(self.classes) + 1
        histogram = np.zeros((_levels(self.thresholds) + 1, labels, labels), np.int64)
        np.add.at(
            histogram,
            (self.bin[entries], self.gt[entries], self.pred[entries]),
            self.count[entries],
        )
        # Foreground at threshold t: all pixels in bins above t. The rest of each ground truth is
        # background.
        foreground = histogram[::-1].cumsum(axis=0)[::-1][1:]
        foreground[:, :, 0] += histogram.sum(axis=(0, 2)) - foreground.sum(axis=2)
        return foreground

    def _indices(self, names: Collection[str]) -> list[int]:
        position = {name: index for index, name in enumerate(self.names)}
        if unknown := [name for name in names if name not in position]:
            raise ValueError(
                f"no counts of the image {unknown[0]!r}; {len(self.names)} other images were counted"
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
        """The counts that `save` wrote.

        Raises:
            ValueError: the file is broken or holds something else; the message names it.
        """
        arrays = ArrayReader(path)[ENTRIES]
        try:
            _validate(arrays)
        except ValueError as error:
            raise ValueError(f"{path} holds no counts, or they are damaged: {error}") from error
        names, classes = (tuple(arrays.pop(key).tolist()) for key in TEXTS)
        return cls(names=names, classes=classes, **arrays)


class CountsBuilder:
    """Counts one image after another: CAMs where there are `thresholds`, label maps where there are
    none.

    Raises:
        ValueError: thresholds that are not ascending in [0, 1), an image twice, a ground truth of
            another size or with labels out of range; the message names the image.
    """

    def __init__(self, classes: Sequence[str], *, thresholds: Sequence[float] = ()) -> None:
        self._classes = tuple(classes)
        # The reference puts the threshold into a float32 array: compare with what it compared with.
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
        """Count the CAMs of the present `classes` (ascending indices from 0) at every threshold.

        A pixel belongs to the class of its best score where that exceeds the threshold; the first
        class wins a tie between classes, background one with the threshold. All thresholds take one
        pass."""
        if (
            np.any(np.diff(classes) <= 0)
            or np.any(classes < 0)
            or np.any(classes >= len(self._classes))
        ):
            raise ValueError(
                f"{name}: classes {classes.tolist()}; expected ascending indices below the class count"
            )
        self._check(name, size=cam.shape[1:], gt=gt)
        best, winner = _best(cam)
        if not np.isfinite(best).all():
            raise ValueError(f"{name}: the CAM has scores that are not finite")
        bins = _bins(best, self._thresholds)
        shape = (self._thresholds.size + 1, len(classes) + 1, NUM_VALUES)
        histogram = _histogram((bins, winner, gt), shape)
        # A pixel below all thresholds is background whatever its best class.
        histogram[0, 0] += histogram[0, 1:].sum(axis=0)
        histogram[0, 1:] = 0
        self._add(name, histogram, labels=np.concatenate(([0], classes + 1)))

    def add_labels(
        self, name: str, prediction: UInt8[np.ndarray, "H W"], *, gt: UInt8[np.ndarray, "..."]
    ) -> None:
        """Count a predicted label map; each of its pixels must carry a label, void is none."""
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
        # The second of two bins: predicted so at the one level that label maps have.
        levels = np.stack((np.zeros_like(histogram), histogram))
        self._add(name, levels, labels=np.arange(NUM_VALUES))

    def build(self) -> Counts:
        """The counts of all images so far."""
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
        """Store the filled cells of a histogram over [bin, slot in `labels`, ground truth]."""
        if histogram[:, :, len(self._classes) + 1 : VOID].any():
            found = np.flatnonzero(histogram.sum(axis=(0, 1)))
            raise ValueError(
                f"{name}: ground truth labels {found.tolist()}; allowed are {self._allowed} and {VOID}"
            )
        counted = histogram[:, :, :VOID]
        bins, slot, gt = np.nonzero(counted)
        image = np.full(bins.size, len(self._names))
        self._entries.append(np.stack((image, bins, gt, labels[slot], counted[bins, slot, gt])))
        self._names[name] = None


def iou(
    confusion: Int64[np.ndarray, "*levels labels labels"],
) -> Float64[np.ndarray, "*levels labels"]:
    """Intersection over union per label, TP / (T + P - TP + 1e-10).

    A label that is in neither ground truth nor prediction has 0 and counts in the mean, as in the
    reference."""
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    return np.asarray(hits / (confusion.sum(axis=-1) + confusion.sum(axis=-2) - hits + EPSILON))


def precision(
    confusion: Int64[np.ndarray, "*levels labels labels"],
) -> Float64[np.ndarray, "*levels labels"]:
    """The part of each label's predicted pixels that is right, TP / (P + 1e-10)."""
    return np.asarray(
        np.diagonal(confusion, axis1=-2, axis2=-1) / (confusion.sum(axis=-2) + EPSILON)
    )


def recall(
    confusion: Int64[np.ndarray, "*levels labels labels"],
) -> Float64[np.ndarray, "*levels labels"]:
    """The part of each label's pixels that is found, TP / (T + 1e-10)."""
    return np.asarray(
        np.diagonal(confusion, axis1=-2, axis2=-1) / (confusion.sum(axis=-1) + EPSILON)
    )


def summarize(counts: Counts, *, multi_label: Collection[str]) -> dict[str, float]:
    """The scores of `counts` by metric name, as fractions, at the threshold with the best mIoU (the
    first of equals).

    The threshold is chosen on the ground truth that scores it. `multi_label` names the images with
    at least two classes; `miou_multi` is their mIoU at the same threshold."""
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
        metrics["threshold"] = float(str(counts.thresholds[best]))  # 0.17, not 0.17000000178813934
    if multi := set(multi_label).intersection(counts.names):
        metrics["miou_multi"] = float(iou(counts.confusion(multi)[best]).mean())
    return metrics


def _levels(thresholds: np.ndarray) -> int:
    return max(thresholds.size, 1)


def _validate(arrays: dict[str, np.ndarray]) -> None:
    """Refuse arrays from a file that contradict each other, before anything is built from them."""
    if arrays.keys() != (expected := Counts.__dataclass_fields__.keys()):
        raise ValueError(f"expected the arrays {', '.join(expected)}, found {', '.join(arrays)}")
    for key in TEXTS:
        if (
            arrays[key].ndim != 1
            or arrays[key].dtype.kind != "U"
            or len(set(arrays[key])) != arrays[key].size
        ):
            raise ValueError(f"{key}: expected a list of distinct texts")
    _check_thresholds(arrays["thresholds"])
    num_entries, num_labels = arrays["count"].size, arrays["classes"].size + 1
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
    good = (
        thresholds.ndim == 1
        and thresholds.dtype == np.float32
        and bool(np.all(np.diff(thresholds) > 0))
    )
    if not good or not np.all((thresholds >= 0) & (thresholds < 1)):
        raise ValueError(
            f"thresholds: expected ascending numbers in [0, 1), not {thresholds.tolist()}"
        )


def _best(cam: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Per pixel the best score and its place from 1; the first wins, and 0 at place 0 where none is
    positive.
    """
    best = np.zeros(cam.shape[1:], cam.dtype)
    winner = np.zeros(cam.shape[1:], np.uint8)
    for place, scores in enumerate(cam, start=1):
        np.copyto(winner, place, where=scores > best)
        np.maximum(best, scores, out=best)
    return best, winner


def _bins(best: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """How many thresholds each score exceeds."""
    # Vector comparisons and 8-bit sums: a binary search per pixel takes twice as long.
    bins = np.zeros(best.shape, np.min_scalar_type(thresholds.size))
    for threshold in thresholds:
        bins += best > threshold
    return bins


def _histogram(values: tuple[np.ndarray, ...], shape: tuple[int, ...]) -> np.ndarray:
    """How many pixels have each combination of values below `shape`."""
    index = values[0].astype(np.intp)
    for value, size in zip(values[1:], shape[1:], strict=True):
        index *= size
        index += value
    return np.bincount(index.ravel(), minlength=int(np.prod(shape))).reshape(shape)
