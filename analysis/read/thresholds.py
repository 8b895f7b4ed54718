"""Scores of CAMs at thresholds that the images which score them did not choose, from their counts.

`cam/miou@0.3` is the mIoU at that threshold. For `cam/miou@held-out-50` the threshold is the best
on 50 images, drawn once and the same for all trials, and the mIoU is that of the other images.
`cam/miou@best-without-50` is the mIoU of these other images at their own best threshold: both
scores are of the same images, while `cam/miou` is that of all images."""

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.read.artifacts import run_file
from analysis.read.counts import miou, read_counts, read_curve

WANTED = re.compile(
    r"(?P<field>\w+)/miou@"
    r"(?:(?P<fixed>0?\.\d+)|held-out-(?P<held_out>[1-9]\d*)|best-without-(?P<without>[1-9]\d*))"
)
# Thresholds are hundredths, stored in single precision.
CLOSE = 0.001
# The seed that draws the held-out images: one for all trials, so that scores can be compared.
DRAW = 0


def with_thresholds(
    trials: pd.DataFrame, metrics: Iterable[str], *, tracking: str | None = None
) -> pd.DataFrame:
    """Return `trials` (from `load`) with a column for each of `metrics` that has an `@`; missing
    where there is no score.

    Raises:
        ValueError: a name is not of the forms above, a run has no counts at thresholds, or not at
            this one, or not more images than shall be held out.
    """
    for metric in dict.fromkeys(metric for metric in metrics if "@" in metric):
        wanted = WANTED.fullmatch(metric)
        if wanted is None:
            raise ValueError(
                f"metric {metric!r}: expected such as cam/miou@0.3, cam/miou@held-out-50 or "
                "cam/miou@best-without-50"
            )
        scored = trials.get(
            f"{wanted['field']}/miou", pd.Series(np.nan, index=trials.index)
        ).notna()
        values = [
            _score(run, wanted, tracking) if there else np.nan
            for run, there in zip(trials["run_id"], scored, strict=True)
        ]
        trials = trials.assign(**{metric: values})
    return trials


def _score(run: str, wanted: re.Match[str], tracking: str | None) -> float:
    with run_file(run, f"counts/{wanted['field']}.npz", tracking=tracking) as path:
        try:
            if wanted["fixed"]:
                return _fixed(path, float(wanted["fixed"]))
            if wanted["held_out"]:
                return _held_out(path, int(wanted["held_out"]))
            return _best_without(path, int(wanted["without"]))
        except ValueError as error:
            raise ValueError(f"{wanted.string} of run {run}: {error}") from None


def _fixed(path: Path, threshold: float) -> float:
    there, scores = read_curve(path)
    nearest = int(np.abs(there - threshold).argmin())
    if abs(there[nearest] - threshold) > CLOSE:
        raise ValueError(
            f"no counts at the threshold {threshold:g}, "
            f"but from {there[0]:g} to {there[-1]:g} by hundredths"
        )
    return float(scores[nearest])


def _divided(path: Path, number: int) -> tuple[list[str], list[str]]:
    """Return the `number` images that are drawn, and the others."""
    # Only the names are read, which are the same at every threshold.
    names = read_counts(path, threshold=0).names
    if number >= len(names):
        raise ValueError(f"{number} of {len(names)} images held out leave none to score")
    drawn = np.random.default_rng(DRAW).permutation(len(names))[:number]
    chosen = {names[index] for index in drawn}
    return sorted(chosen), [name for name in names if name not in chosen]


def _best_without(path: Path, number: int) -> float:
    _, others = _divided(path, number)
    _, scores = read_curve(path, names=others)
    return float(scores.max())


def _held_out(path: Path, number: int) -> float:
    chosen, others = _divided(path, number)
    thresholds, scores = read_curve(path, names=chosen)
    # The first threshold of equals, as the official evaluation takes it.
    counts = read_counts(path, threshold=float(thresholds[scores.argmax()])).only(others)
    return float(miou(counts.table.sum(axis=0)))
