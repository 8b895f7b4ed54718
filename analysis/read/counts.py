"""Per-image confusion counts as the platform stores them: any subset, threshold or resample follows
from them.

The file is a plain archive of arrays (`numpy.load` reads it, without pickle). Entry e says: in
image `image[e]`, `count[e]` pixels of the label `gt[e]` are predicted as `pred[e]` at the first
`bin[e]` thresholds and as background at the others. Label maps have no thresholds; their pixels
count as if there were one."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

# The official evaluation adds it to the union, so that a class absent from both counts 0.
EPSILON = 1e-10
# COCO's 82,081 training images with ten label pairs each at a hundred thresholds stay below it;
# an archive that says more is damaged or hostile.
MAX_ENTRIES = 200_000_000
PREFIX = "counts/"
ENTRIES = ("image", "bin", "gt", "pred", "count")
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class PerImage:
    """Pixel counts behind an mIoU, image by image, at one threshold.

    Attributes:
        names: I images.
        classes: L - 1 foreground classes; label 0 is background.
        table: (I, 3, L) pixels: predicted and true, true, predicted.
    """

    names: tuple[str, ...]
    classes: tuple[str, ...]
    table: Ints

    def only(self, names: Collection[str]) -> "PerImage":
        """The same, of the images `names` alone, in this order.

        Raises:
            ValueError: an image was not counted.
        """
        position = {name: index for index, name in enumerate(self.names)}
        if missing := [name for name in names if name not in position]:
            raise ValueError(
                f"no counts of the image {missing[0]!r}; "
                f"{len(self.names)} other images were counted"
            )
        chosen = [position[name] for name in names]
        return PerImage(names=tuple(names), classes=self.classes, table=self.table[chosen])

    @property
    def multi(self) -> "PerImage":
        """The same, of the images alone in which at least two classes can be seen."""
        classes = (self.table[:, 1, 1:] > 0).sum(axis=1)
        return self.only(
            [name for name, number in zip(self.names, classes, strict=True) if number > 1]
        )


def read_counts(path: Path, *, threshold: float | None = None) -> PerImage:
    """Return the counts in the file `path`, at the threshold (of CAMs) nearest to `threshold`.

    Raises:
        ValueError: the file is damaged or no file of counts; or `threshold` is missing where there
            are thresholds.
    """
    arrays = _read(path)
    level = _level(path, arrays["thresholds"], threshold)
    image, bins, gt, pred, count = (arrays[key].astype(np.int64) for key in ENTRIES)
    # At threshold number `level` a pixel is foreground if it exceeds more than `level` thresholds.
    pred = np.where(bins > level, pred, 0)
    names = tuple(arrays["names"].tolist())
    classes = tuple(arrays["classes"].tolist())
    table = np.zeros((len(names), 3, len(classes) + 1), np.int64)
    hit = gt == pred
    # `add.at`, since an index occurs many times: `table[...] += count` would keep the last one
    # only.
    np.add.at(table[:, 0], (image[hit], gt[hit]), count[hit])
    np.add.at(table[:, 1], (image, gt), count)
    np.add.at(table[:, 2], (image, pred), count)
    return PerImage(names=names, classes=classes, table=table)


def read_curve(path: Path, *, names: Collection[str] | None = None) -> tuple[Floats, Floats]:
    """Return the thresholds in the file `path`, and at each of them the mIoU of the images
    `names` (by default all).

    Raises:
        ValueError: the file is damaged, no file of counts, or has no thresholds.
    """
    arrays = _read(path)
    levels = arrays["thresholds"].size
    labels = len(arrays["classes"]) + 1
    if not levels:
        raise ValueError(f"{path} has counts at no threshold: label maps have none")
    chosen = list(arrays["names"] if names is None else names)
    # By image first, then spread over the entries of each image.
    among = np.isin(arrays["names"], chosen)[arrays["image"].astype(np.int64)]
    bins, gt, pred, count = (arrays[key][among].astype(np.int64) for key in ENTRIES[1:])
    by_bin = np.zeros((levels + 1, labels, labels), np.int64)
    np.add.at(by_bin, (np.clip(bins, 0, levels), gt, pred), count)
    # at level l the entries with more than l bins are no background
    above = by_bin[::-1].cumsum(axis=0)[::-1][1:]
    confusion = above.copy()
    # Background at a level, by true label: its pixels that are not above the level.
    confusion[:, :, 0] += by_bin.sum(axis=(0, 2)) - above.sum(axis=2)
    # (levels, 3, L): hit, true (rows of the confusion), predicted (columns).
    table = np.stack(
        [np.diagonal(confusion, axis1=1, axis2=2), confusion.sum(axis=2), confusion.sum(axis=1)],
        axis=1,
    )
    return arrays["thresholds"].astype(np.float64), miou(table)


def iou(table: NDArray[np.int64] | Floats) -> Floats:
    """Return the (..., L) intersection over union from (..., 3, L) summed pixels.

    A class that is in neither map has 0.
    """
    hit, true, predicted = np.moveaxis(table, -2, 0)
    ratio: Floats = hit / (true + predicted - hit + EPSILON)
    return ratio


def miou(table: NDArray[np.int64] | Floats) -> Floats:
    """Return the (...) mean of `iou` over classes and background."""
    mean: Floats = iou(table).mean(axis=-1)
    return mean


def _read(path: Path) -> dict[str, NDArray[np.generic]]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {
                key: archive[PREFIX + key] for key in (*ENTRIES, "names", "classes", "thresholds")
            }
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise ValueError(f"{path} holds no counts, or they are damaged: {error}") from error
    # An index out of range would end in numpy with a message about an axis, and a negative one
    # would count pixels of another image without any sign.
    lengths = {len(arrays[key]) for key in ENTRIES}
    limits = {
        "image": len(arrays["names"]),
        "gt": len(arrays["classes"]) + 1,
        "pred": len(arrays["classes"]) + 1,
    }
    outside = [
        key for key, limit in limits.items() if ((arrays[key] < 0) | (arrays[key] >= limit)).any()
    ]
    if len(lengths) != 1 or max(lengths) > MAX_ENTRIES or outside or (arrays["count"] < 0).any():
        where = f": {outside[0]}" if outside else ""
        raise ValueError(f"{path} holds counts that contradict each other{where}")
    return arrays


def _level(path: Path, thresholds: NDArray[np.generic], threshold: float | None) -> int:
    # Label maps are stored with bin 1, which is above level 0.
    if not thresholds.size:
        return 0
    if threshold is None:
        raise ValueError(f"{path} has counts at {thresholds.size} thresholds; say at which one")
    return int(np.abs(thresholds.astype(np.float64) - threshold).argmin())
