"""Uncertainty of an mIoU and of a difference of two: the paired bootstrap over images, with the
seeds nested in it.

mIoU is a ratio of sums, not a mean of images, so each resample sums the counts of the drawn images
and computes the ratios anew; all seeds and both systems share the drawn images. That gives the
variance that comes from the images. The variance of a mean over seeds is added as it was measured,
and the interval is that of Student's t with Satterthwaite's degrees of freedom: drawing two or
three seeds with replacement would pretend to know their spread. Where seeds differ by stage, runs
that share one are no independent replicates (`analysis.statistics.seed_design`). How often the
interval holds the truth is counted in tests/analysis/statistics/test_bootstrap.py. With one seed it
speaks of the images alone, and says so."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from analysis.read.counts import Floats, Ints, PerImage, iou, miou
from analysis.statistics.seed_design import Design

RESAMPLES = 10_000
LEVEL = 0.95
CHUNK = 500


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A score or a difference of scores, as fractions.

    Attributes:
        value: as measured.
        low, high: the ends of the interval.
        p: two-sided p-value of "no difference"; None for a single system.
        seeds: how many replicates went in.
        images: how many images.
        images_sd: standard error of `value` that comes from the choice of the images.
        seed_sd: standard deviation over the replicates; None for one.
    """

    value: float
    low: float
    high: float
    p: float | None
    seeds: int
    images: int
    images_sd: float
    seed_sd: float | None

    @property
    def covers(self) -> str:
        """Which chance the interval speaks of."""
        return "images and seeds" if self.seeds > 1 else "images, not seeds"


def interval(
    system: Mapping[int, PerImage],
    *,
    design: Design | None = None,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Interval:
    """The mean mIoU of a system over its seeds, whose counts are `system`; of seeds by stage,
    `design` tells which.

    Raises:
        ValueError: the seeds were scored on different images.
    """
    tables = _stack(list(system.values()))
    measured = miou(tables.sum(axis=1))
    return _summarize(
        measured,
        _resampled(tables, resamples, seed),
        images=tables.shape[1],
        level=level,
        p=False,
        design=design,
    )


def difference(
    system: Mapping[int, PerImage],
    other: Mapping[int, PerImage],
    *,
    design: Design | None = None,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Interval:
    """How much better `system` is than `other` in mean mIoU, paired by image, and by the seeds that
    both have.

    Args:
        system: counts by number of the replicate. other: the same, on the same images. design: the
        seeds by stage of the replicates that both have, in order; by default each is one of its
        own. resamples: how often images are drawn. level: of the interval. seed: of the draws.

    Raises:
        ValueError: they share no seed, or were scored on different images.
    """
    tables = _paired(system, other)
    measured, drawn = miou(tables.sum(axis=1)), _resampled(tables, resamples, seed)
    half, images = len(tables) // 2, tables.shape[1]
    return _summarize(
        measured[:half] - measured[half:],
        drawn[:, :half] - drawn[:, half:],
        images=images,
        level=level,
        p=True,
        design=design,
    )


def class_differences(
    system: Mapping[int, PerImage],
    other: Mapping[int, PerImage],
    *,
    design: Design | None = None,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> dict[str, Interval]:
    """The same for the IoU of the background and of every class, each by itself: p-values are not
    adjusted.

    Raises:
        ValueError: they share no seed, or were scored on different images.
    """
    tables = _paired(system, other)
    measured, drawn = iou(tables.sum(axis=1)), _resampled(tables, resamples, seed, score=iou)
    half, images = len(tables) // 2, tables.shape[1]
    measured, drawn = measured[:half] - measured[half:], drawn[:, :half] - drawn[:, half:]
    return {
        name: _summarize(
            measured[:, label],
            drawn[:, :, label],
            images=images,
            level=level,
            p=True,
            design=design,
        )
        for label, name in enumerate(("background", *next(iter(system.values())).classes))
    }


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment: with these, the chance of any false claim among all stays at the
    level.
    """
    order = np.argsort(p_values)
    factors = np.arange(len(p_values), 0, -1)
    adjusted = np.minimum(1, np.maximum.accumulate(np.asarray(p_values, float)[order] * factors))
    result = np.empty(len(p_values))
    result[order] = adjusted
    return [float(value) for value in result]


def _paired(system: Mapping[int, PerImage], other: Mapping[int, PerImage]) -> Ints:
    """(2 S, I, 3, L) counts of the common seeds: those of `system`, then those of `other`."""
    seeds = sorted(system.keys() & other.keys())
    if not seeds:
        raise ValueError(f"no seed is common to both: {sorted(system)} and {sorted(other)}")
    return _stack([system[each] for each in seeds] + [other[each] for each in seeds])


def _stack(parts: Sequence[PerImage]) -> Ints:
    """(S, I, 3, L) counts over the same images in the same order."""
    first = parts[0]
    for part in parts[1:]:
        if set(part.names) != set(first.names) or part.classes != first.classes:
            raise ValueError(
                f"scored on different images or classes: {len(first.names)} images of {len(first.classes)} classes, "
                f"and {len(part.names)} of {len(part.classes)}"
            )
    return np.stack(
        [
            part.table if part.names == first.names else part.only(first.names).table
            for part in parts
        ]
    )


def _resampled(
    tables: Ints, resamples: int, seed: int, *, score: Callable[[Floats], Floats] = miou
) -> Floats:
    """(R, S) mIoU, or (R, S, L) IoU, of every seed in each resample of the images."""
    seeds, images, parts, labels = tables.shape
    # exact: sums stay far below 2^53
    flat = tables.transpose(1, 0, 2, 3).reshape(images, -1).astype(np.float64)
    generator = np.random.default_rng(seed)
    drawn = []
    for start in range(0, resamples, CHUNK):
        rows = min(CHUNK, resamples - start)
        picks = generator.integers(images, size=(rows, images)) + images * np.arange(rows)[:, None]
        weights = np.bincount(picks.ravel(), minlength=rows * images).reshape(rows, images)
        sums = (weights.astype(np.float64) @ flat).reshape(rows, seeds, parts, labels)
        drawn.append(score(sums))
    return np.concatenate(drawn)


def _summarize(
    measured: Floats, drawn: Floats, *, images: int, level: float, p: bool, design: Design | None
) -> Interval:
    value, seeds = float(measured.mean()), len(measured)
    of_images = float(drawn.mean(axis=1).var(ddof=1))
    of_seeds, freedom = _of_seeds(measured, design)
    error, freedom = math.sqrt(of_images + of_seeds), satterthwaite(of_images, of_seeds, freedom)
    reach = float(stats.t.ppf((1 + level) / 2, freedom)) * error
    return Interval(
        value=value,
        low=value - reach,
        high=value + reach,
        p=_p_value(value, error, freedom) if p else None,
        seeds=seeds,
        images=images,
        images_sd=math.sqrt(of_images),
        seed_sd=float(measured.std(ddof=1)) if seeds > 1 else None,
    )


def _of_seeds(measured: Floats, design: Design | None) -> tuple[float, float]:
    """Variance of the mean over seeds, and its degrees of freedom."""
    if len(measured) == 1:
        return 0.0, math.inf
    if design is not None and len(design.sources) > 1:
        return design.of_mean(measured)
    return float(measured.var(ddof=1)) / len(measured), len(measured) - 1


def satterthwaite(of_images: float, of_seeds: float, freedom: float) -> float:
    """Degrees of freedom of the sum of the two variances, from those of the seeds'; the images' are
    without end.
    """
    if of_seeds == 0:
        return math.inf
    return (of_images + of_seeds) ** 2 / (of_seeds**2 / freedom)


def _p_value(value: float, error: float, freedom: float) -> float:
    """Two-sided: the level at which the interval would just touch 0; 1 for two systems that are the
    same.
    """
    return float(2 * stats.t.sf(abs(value) / error, freedom)) if error else float(value == 0)
