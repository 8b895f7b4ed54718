"""Tables that the counts of one scored stage give, as CSV: by class, the confusion matrix, and by
threshold.
"""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from occse.method.evaluation import Counts, iou, precision, recall

BY_CLASS = ("class", "iou", "precision", "recall", "tp", "fp", "fn")
BY_THRESHOLD = ("threshold", "miou", "precision", "recall")
CsvRow = Sequence[object]


def write_tables(counts: Counts, folder: Path) -> None:
    """Write classes.csv and confusion.csv at the best threshold, and thresholds.csv where there are
    thresholds.
    """
    levels = counts.confusion()
    labels = ("background", *counts.classes)
    confusion = levels[int(iou(levels).mean(axis=-1).argmax())]
    folder.mkdir(parents=True)
    write_csv(folder / "classes.csv", BY_CLASS, zip(labels, *_by_class(confusion), strict=True))
    rows = ((label, *row) for label, row in zip(labels, confusion.tolist(), strict=True))
    write_csv(folder / "confusion.csv", ("truth", *labels), rows)
    if counts.thresholds.size:
        scores = (
            each.mean(axis=-1).tolist() for each in (iou(levels), precision(levels), recall(levels))
        )
        write_csv(
            folder / "thresholds.csv",
            BY_THRESHOLD,
            zip(map(str, counts.thresholds), *scores, strict=True),
        )


def write_csv(path: Path, head: CsvRow, rows: Iterable[CsvRow]) -> None:
    """A table with one line of names above it."""
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows((head, *rows))


def _by_class(confusion: Int64[np.ndarray, "labels labels"]) -> list[list[float]]:
    """The columns of BY_CLASS but the first; the last three are pixels."""
    hits = np.diagonal(confusion)
    wrong, missed = confusion.sum(axis=0) - hits, confusion.sum(axis=1) - hits
    columns = (iou(confusion), precision(confusion), recall(confusion), hits, wrong, missed)
    return [column.tolist() for column in columns]
