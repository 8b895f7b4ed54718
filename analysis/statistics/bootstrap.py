"""Uncertainty of an mIoU and of a difference of two: paired bootstrap over images, and seeds.

mIoU is a ratio of sums, not a mean of images, so each resample sums the counts of the drawn images
and computes the ratios anew; all seeds and both systems share the drawn images. That gives the
variance that the images bring to all seeds alike. The variance of a mean over seeds is estimated
beside it (`analysis.statistics.seed_design`), from this difference alone or pooled over all that
are compared together, and both make the error of `analysis.statistics.behrens_fisher`. Drawing two
or three seeds with replacement would underestimate their spread. With one seed the interval covers
the choice of images alone, and `covers` says so. tests/benchmarks/bench_false_claims.py counts how
often intervals hold the truth, and how often a difference is claimed where there is none."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from analysis.read.counts import Floats, Ints, PerImage, iou, miou
from analysis.statistics.behrens_fisher import Error
from analysis.statistics.seed_design import Design, SeedNoise, seed_noise

# Only the standard error is taken from the resamples; that of 2,000 is known to 1.6 %.
RESAMPLES = 2_000
# The chance with which an interval holds the truth; a claim is made at 1 - LEVEL.
LEVEL = 0.95
# Resamples at a time: 500 x 10,582 images (VOC's train_aug) of float64 take 42 MB.
CHUNK = 500


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A score or a difference of scores, as fractions.

    Attributes:
        value: as measured.
        low, high: the ends of the interval.
        p: two-sided p-value of "no difference"; None for a single system.
        seeds: number of replicates that went in.
        images: number of images.
        images_sd: standard error of `value` that the choice of the images brings to all seeds.
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
        """The chance that the interval covers."""
        return "images and seeds" if self.seeds > 1 else "images, not seeds"


@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """A score or a difference of scores, before its error is known.

    Attributes:
        values: (S,) by replicate.
        of_images: variance of their mean that the images bring to all replicates alike.
        of_images_alone: variance of their mean that the images bring, all of it.
        images: number of images.
    """

    values: Floats
    of_images: float
    of_images_alone: float
    images: int

    @property
    def known(self) -> float:
        """The variance that the images add to that of the seeds.

        A training also errs at each image by itself. That is in the variance from seed to seed, so
        it would count twice; a single seed has no such variance beside it.
        """
        return self.of_images_alone if len(self.values) == 1 else self.of_images


def interval(
    system: Mapping[int, PerImage],
    *,
    design: Design | None = None,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Interval:
    """Return the mean mIoU of a system over its seeds, whose counts are `system`.

    Args:
        system: counts by number of the replicate.
        design: the seeds by stage of the replicates, in order; by default each is one of its own.
        resamples: how often images are drawn.
        level: of the interval.
        seed: of the draws.

    Raises:
        ValueError: the seeds were scored on different images.
    """
    tables = _stack(list(system.values()))
    drawn = _resampled(tables, resamples, seed)
    measured = _measured(miou(tables.sum(axis=1)), drawn, images=tables.shape[1])
    found = with_error(measured, seed_noise(measured.values, design), level=level)
    # That p-value would test whether an mIoU is 0, which nobody asks.
    return Interval(**{**found.__dict__, "p": None})


def difference(
    system: Mapping[int, PerImage],
    other: Mapping[int, PerImage],
    *,
    design: Design | None = None,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Interval:
    """Return how much better `system` is than `other` in mean mIoU, paired by image and by seed.

    The variance from seed to seed is that of this pair alone; `measure` and `with_error` allow for
    one that is pooled over several pairs.

    Args:
        system: counts by number of the replicate.
        other: the same, on the same images.
        design: the seeds by stage of the replicates that both have, in order; by default each is
            one of its own.
        resamples: how often images are drawn.
        level: of the interval.
        seed: of the draws.

    Raises:
        ValueError: they share no seed, or were scored on different images.
    """
    measured = measure(system, other, resamples=resamples, seed=seed)
    return with_error(measured, seed_noise(measured.values, design), level=level)


def class_differences(
    system: Mapping[int, PerImage],
    other: Mapping[int, PerImage],
    *,
    design: Design | None = None,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> dict[str, Interval]:
    """Return `difference` for the IoU of the background and of every class, unadjusted.

    Raises:
        ValueError: they share no seed, or were scored on different images.
    """
    tables = _paired(system, other)
    drawn = _half_differences(_resampled(tables, resamples, seed, score=iou), axis=1)
    values = _half_differences(iou(tables.sum(axis=1)), axis=0)
    found = {}
    for label, name in enumerate(("background", *next(iter(system.values())).classes)):
        measured = _measured(values[:, label], drawn[:, :, label], images=tables.shape[1])
        found[name] = with_error(measured, seed_noise(measured.values, design), level=level)
    return found


def measure(
    system: Mapping[int, PerImage],
    other: Mapping[int, PerImage],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Measured:
    """Return the differences in mIoU by common seed, and the variance that the images bring.

    Raises:
        ValueError: the systems share no seed, or were scored on different images.
    """
    tables = _paired(system, other)
    drawn = _half_differences(_resampled(tables, resamples, seed), axis=1)
    values = _half_differences(miou(tables.sum(axis=1)), axis=0)
    return _measured(values, drawn, images=tables.shape[1])


class Draws:
    """Resamples of the images of many runs, in pairs that share runs: each run is drawn once."""

    def __init__(
        self, counts: Mapping[str, PerImage], *, resamples: int = RESAMPLES, seed: int = 0
    ) -> None:
        self._counts = counts
        self._resamples = resamples
        self._seed = seed
        self._known: dict[str, _Drawn] = {}

    def measure(self, system: Sequence[str], reference: Sequence[str]) -> Measured:
        """Return what `measure` returns of the runs of a system and of its reference, in pairs.

        Raises:
            ValueError: they were scored on different images.
        """
        names = self._counts[system[0]].names
        classes = self._counts[system[0]].classes
        others = [self._counts[run] for run in (*system, *reference)]
        if any(each.names != names or each.classes != classes for each in others):
            # Images are drawn by position, so those in another order are put into one first.
            halves = [
                {number: self._counts[run] for number, run in enumerate(half)}
                for half in (system, reference)
            ]
            return measure(*halves, resamples=self._resamples, seed=self._seed)
        first, second = ([self._drawn(run) for run in half] for half in (system, reference))
        values = np.array(
            [one.value - other.value for one, other in zip(first, second, strict=True)]
        )
        drawn = [one.scores - other.scores for one, other in zip(first, second, strict=True)]
        return _measured(values, np.stack(drawn, axis=1), images=len(names))

    def _drawn(self, run: str) -> "_Drawn":
        if run not in self._known:
            table = self._counts[run].table[None]
            scores = _resampled(table, self._resamples, self._seed)[:, 0]
            self._known[run] = _Drawn(value=float(miou(table.sum(axis=1))[0]), scores=scores)
        return self._known[run]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Drawn:
    """The mIoU of a run, and its (R,) mIoU in each resample of the images."""

    value: float
    scores: Floats


def with_error(measured: Measured, noise: SeedNoise, *, level: float = LEVEL) -> Interval:
    """Return what was measured with its interval and p-value, given the noise of the seeds."""
    value, seeds = float(measured.values.mean()), len(measured.values)
    error = error_of(measured, noise)
    reach = error.reach(level)
    return Interval(
        value=value,
        low=value - reach,
        high=value + reach,
        p=error.p_value(value),
        seeds=seeds,
        images=measured.images,
        images_sd=math.sqrt(measured.known),
        seed_sd=float(measured.values.std(ddof=1)) if seeds > 1 else None,
    )


def error_of(measured: Measured, noise: SeedNoise) -> Error:
    """Return the distribution of the error of what was measured."""
    return Error(known=measured.known, estimated=noise.of_mean, freedom=noise.freedom)


def _measured(values: Floats, drawn: Floats, *, images: int) -> Measured:
    """Return (S,) values with the variance of their mean over (R, S) resamples of the images."""
    alone = float(drawn.mean(axis=1).var(ddof=1))
    seeds = drawn.shape[1]
    if seeds == 1:
        return Measured(values=values, of_images=alone, of_images_alone=alone, images=images)
    covariance = np.cov(drawn, rowvar=False)
    # What two trainings have in common is the covariance of their scores.
    alike = (covariance.sum() - np.trace(covariance)) / (seeds * (seeds - 1))
    return Measured(
        values=values,
        # The estimate of a covariance near 0 may come out below it; a variance may not.
        of_images=max(0.0, float(alike)),
        of_images_alone=alone,
        images=images,
    )


def _half_differences(scores: Floats, *, axis: int) -> Floats:
    """Return the scores of the first half along `axis` less those of the second half."""
    first, second = np.split(scores, 2, axis=axis)
    difference: Floats = first - second
    return difference


def _paired(system: Mapping[int, PerImage], other: Mapping[int, PerImage]) -> Ints:
    """Return (2 S, I, 3, L) counts of the common seeds: of `system`, then of `other`."""
    # One order for both halves: replicate i of one system is paired with replicate i of the other,
    # so what a shared seed (such as a shared CGNet) brings to both cancels.
    seeds = sorted(system.keys() & other.keys())
    if not seeds:
        raise ValueError(f"no seed is common to both: {sorted(system)} and {sorted(other)}")
    return _stack([system[number] for number in seeds] + [other[number] for number in seeds])


def _stack(parts: Sequence[PerImage]) -> Ints:
    """Return (S, I, 3, L) counts over the same images in the same order."""
    first = parts[0]
    for part in parts[1:]:
        if set(part.names) != set(first.names) or part.classes != first.classes:
            raise ValueError(
                f"scored on different images or classes: {len(first.names)} images of "
                f"{len(first.classes)} classes, and {len(part.names)} of {len(part.classes)}"
            )
    # Resamples draw images by position. Runs may have written theirs in another order, which would
    # pair different images without any sign of it.
    return np.stack(
        [
            part.table if part.names == first.names else part.only(first.names).table
            for part in parts
        ]
    )


def _resampled(
    tables: Ints, resamples: int, seed: int, *, score: Callable[[Floats], Floats] = miou
) -> Floats:
    """Return (R, S) mIoU, or (R, S, L) IoU, of every seed in each resample of the images."""
    seeds, images, parts, labels = tables.shape
    # Sums of pixels stay far below 2^53, so float64 adds them exactly.
    flat = tables.transpose(1, 0, 2, 3).reshape(images, -1).astype(np.float64)
    weights = _weights(images, resamples, seed)
    drawn = []
    for start in range(0, resamples, CHUNK):
        # A resample's summed counts are the weighted sum over images: one matrix product for all
        # seeds, parts and labels at once.
        chosen = weights[start : start + CHUNK].astype(np.float64)
        drawn.append(score((chosen @ flat).reshape(len(chosen), seeds, parts, labels)))
    return np.concatenate(drawn)


# All variants of a sweep are scored on the same images, and so take the same draws.
@lru_cache(maxsize=2)
def _weights(images: int, resamples: int, seed: int) -> NDArray[np.uint8]:
    """Return (R, I): how often each resample draws each image, which is never 256 times."""
    generator = np.random.default_rng(seed)
    weights = np.empty((resamples, images), np.uint8)
    for resample in range(resamples):
        picks = generator.integers(images, size=images)
        weights[resample] = np.bincount(picks, minlength=images)
    return weights
