"""The seeds of runs, and the variance that they bring.

A sweep with `seeds: {cgnet: 3, deeplab: 2}` runs every combination. Within a variant that is a
crossed design of random effects, y = mean + cgnet + deeplab + interaction; runs that share a seed
are no independent replicates. The expected mean square of a source is that of the interaction plus
n times the source's variance, where n runs share each of its seeds (method of moments). Sums of
mean squares get Satterthwaite's degrees of freedom.

The variance from seed to seed of one variant rests on one or two degrees of freedom, and where two
seeds agree by luck it is next to nothing. `pooled_noise` therefore takes the mean over all variants
of a sweep, and leaves that of a variant that is seen to be noisier at least partly to itself."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.read.counts import Floats
from analysis.read.pipeline import pipeline_of

# The weight of the variance that is pooled over variants beside a variant's own, in degrees of
# freedom. With 2 the false claims of a noisy variant among quiet ones stayed at 6 % or below in a
# simulation of normal scores, with 4 they exceeded it from five seeds on.
POOLED_WEIGHT = 2.0


@dataclass(frozen=True, kw_only=True)
class SeedNoise:
    """The variance of a mean over seeds, and the degrees of freedom of its estimate."""

    of_mean: float
    freedom: float


#: One replicate tells nothing of the seeds.
NO_NOISE = SeedNoise(of_mean=0.0, freedom=math.inf)


@dataclass(frozen=True, kw_only=True)
class Design:
    """The seeds of some runs.

    Attributes:
        sources: stages whose seed varies; those that always have the same number together.
        levels: how many seeds each source has.
        codes: of each source, the number of its seed in every run.
        constant: stages with one seed.
        complete: whether every combination was run, once.
    """

    sources: tuple[tuple[str, ...], ...]
    levels: tuple[int, ...]
    codes: tuple[tuple[int, ...], ...]
    constant: tuple[str, ...]
    complete: bool

    def table(self, values: Sequence[float] | Floats) -> Floats:
        """(L1, ..., Lk) values of the runs by the seed of each source, of a complete design."""
        arranged = np.empty(self.levels)
        arranged[tuple(list(codes) for codes in self.codes)] = values
        return arranged

    def of_mean(self, values: Sequence[float] | Floats) -> tuple[float, float]:
        """Variance of the mean of the runs' values, and its degrees of freedom; cautious with two
        or three seeds.

        Without all combinations, runs that share a seed of the first source count as one.
        """
        if self.complete:
            found = squares(self.table(values)[None])
            return combined(
                (value / len(values), freedom) for value, freedom in _above_noise(found)
            )
        # An incomplete design has no simple mean squares. Means by the first (most upstream) source
        # are independent; what later seeds add is within them.
        means = pd.Series(values).groupby(list(self.codes[0])).mean()
        return float(means.var(ddof=1)) / len(means), float(len(means) - 1)


@dataclass(frozen=True, kw_only=True)
class Square:
    """A mean square, its degrees of freedom, and how many runs share each seed of its source."""

    value: float
    freedom: float
    sharing: int


def seed_noise(values: Floats, design: "Design | None") -> SeedNoise:
    """Return the noise of the mean of `values`, from these values alone.

    Args:
        values: (S,) scores or differences by replicate.
        design: the seeds of the replicates; None for independent ones.
    """
    # One replicate has no spread; the interval then covers the choice of images alone.
    if len(values) == 1:
        return NO_NOISE
    if design is not None and len(design.sources) > 1:
        of_mean, freedom = design.of_mean(values)
        return SeedNoise(of_mean=of_mean, freedom=freedom)
    return SeedNoise(of_mean=float(values.var(ddof=1)) / len(values), freedom=len(values) - 1)


def pooled_noise(groups: "Sequence[tuple[Design, Floats]]") -> list[SeedNoise]:
    """Return the noise of the mean of each group, pooled over the groups of one design.

    A variant that is noisier than the others counts in part by itself: the variance of its mean is
    the larger one of the pooled and of a weighted mean of both, with the pooled degrees of freedom.
    A group whose design is not complete, or that no other is like, stands for itself.

    Args:
        groups: the design and the (S,) differences by replicate of each variant.
    """
    alike: dict[tuple[object, ...], list[int]] = {}
    for index, (design, _) in enumerate(groups):
        # Mean squares of unlike designs have different expectations and cannot be averaged.
        key = (design.sources, design.levels) if design.complete else (index,)
        alike.setdefault(key, []).append(index)
    noise = {index: seed_noise(values, design) for index, (design, values) in enumerate(groups)}
    for members in alike.values():
        if len(members) > 1:
            tables = np.stack([groups[index][0].table(groups[index][1]) for index in members])
            runs = tables[0].size
            parts = [(value / runs, freedom) for value, freedom in _above_noise(squares(tables))]
            of_mean, freedom = combined(parts)
            pooled = SeedNoise(of_mean=of_mean, freedom=freedom)
            noise |= {index: _blended(pooled, noise[index]) for index in members}
    return [noise[index] for index in range(len(groups))]


def _blended(pooled: SeedNoise, own: SeedNoise) -> SeedNoise:
    total = POOLED_WEIGHT + own.freedom
    weighted = (POOLED_WEIGHT * pooled.of_mean + own.freedom * own.of_mean) / total
    # Never below the pooled variance: seeds of one variant that agree by luck must not make a
    # claim.
    return SeedNoise(of_mean=max(pooled.of_mean, weighted), freedom=pooled.freedom)


def design(rows: pd.DataFrame, field: str) -> Design:
    """The seeds behind the scores of the stage `field` in `rows` (of one variant, from `load`), as
    they were run.

    Runs whose seeds by stage are not known are told apart by the number of the replicate.
    """
    # Stages whose seeds always move together have the same codes: they are one source, since no
    # data can tell their variances apart.
    by_codes: dict[tuple[int, ...], list[str]] = {}
    for stage in pipeline_of(rows).seeded(field):
        if (column := f"seed.{stage}") in rows and rows[column].notna().all():
            by_codes.setdefault(_codes(rows[column]), []).append(stage)
    if not by_codes:
        by_codes[_codes(rows["seed"])] = ["all stages"]
    varying = {codes: tuple(stages) for codes, stages in by_codes.items() if max(codes)}
    constant = list[str]()
    for codes, stages in by_codes.items():
        if codes not in varying:
            constant += stages
    levels = tuple(max(codes) + 1 for codes in varying)
    return Design(
        sources=tuple(varying.values()),
        levels=levels,
        codes=tuple(varying),
        constant=tuple(constant),
        # As many runs as combinations, and no combination twice.
        complete=len(rows) == math.prod(levels) == len(set(zip(*by_codes, strict=True))) > 1,
    )


def replicate(rows: pd.DataFrame, field: str) -> str:
    """The column of `rows` (from `load`) that tells independent replicates of the stage `field`
    apart.

    Of seeds by stage it is that of the first stage with several: runs that share it are to be
    averaged."""
    columns = [f"seed.{stage}" for stage in pipeline_of(rows).seeded(field)]
    return next((name for name in columns if name in rows and rows[name].nunique() > 1), "seed")


def squares(table: Floats) -> list[Square]:
    """The mean squares of a crossed design, source by source, then of the interaction where there
    are two sources.

    Args:
        table: (V, L1, ..., Lk) scores of V variants, which are taken to be alike in this.
    """
    axes = range(1, table.ndim)
    rest = table - table.mean(axis=tuple(axes), keepdims=True)
    effects = [
        rest.mean(axis=tuple(other for other in axes if other != axis), keepdims=True)
        for axis in axes
    ]
    found = []
    for levels, effect in zip(table.shape[1:], effects, strict=True):
        value, freedom = pooled(effect.reshape(len(table), -1), freedom=levels - 1)
        # `effect` is a mean over the runs that share a seed; a mean square counts each of them.
        sharing = table[0].size // levels
        found.append(Square(value=sharing * value, freedom=freedom, sharing=sharing))
        rest = rest - effect
    if len(effects) == 1:
        return found
    # All orders of interaction stand for the noise together: degrees of freedom of the runs but the
    # mean's and those of the main effects.
    left = table[0].size - 1 - sum(levels - 1 for levels in table.shape[1:])
    value, freedom = pooled(rest.reshape(len(table), -1), freedom=left)
    return [*found, Square(value=value, freedom=freedom, sharing=1)]


def of_new_run(table: Floats) -> tuple[float, float]:
    """Variance of a run whose seeds are all new, and its degrees of freedom; `table` as for
    `squares`.
    """
    # For a design of one source that source is the last square, and all the noise there is.
    *sources, noise = squares(table)
    counted = [each for each in sources if each.value > noise.value]
    # A source's variance is (its mean square - noise) / sharing; summed over the sources and one
    # noise, this is what is left as the factor of the noise. Negative estimates count as 0.
    share = 1 - sum(1 / each.sharing for each in counted)
    return combined(
        [(each.value / each.sharing, each.freedom) for each in counted]
        + [(share * noise.value, noise.freedom)]
    )


def pooled(deviations: Floats, *, freedom: int) -> tuple[float, float]:
    """The mean over variants of a mean square, and its degrees of freedom.

    Variants may share a baseline's noise, or a classifier. So their deviations are split into what
    is common to all and the rest, and Satterthwaite's formula counts what is independent.

    Args:
        deviations: (V, N), whose squares summed over N have `freedom` degrees of freedom in each
        variant. freedom: those of one variant.
    """
    variants = len(deviations)
    # By Pythagoras the two sums of squares add up to the mean square over variants, and for normal
    # noise they are independent, which Satterthwaite's formula requires.
    common = deviations.mean(axis=0)
    shared = float((common**2).sum()) / freedom
    single = float(((deviations - common) ** 2).sum()) / freedom / variants
    return combined([(shared, freedom), (single, (variants - 1) * freedom)])


def combined(parts: Iterable[tuple[float, float]]) -> tuple[float, float]:
    """The sum of variances, and Satterthwaite's degrees of freedom from theirs."""
    listed = list(parts)
    total = sum(value for value, _ in listed)
    # A part of 0 may come with 0 degrees of freedom, as of what is left beside a single variant.
    doubt = sum(value**2 / freedom for value, freedom in listed if value)
    return total, total**2 / doubt if doubt else float(listed[0][1])


def _above_noise(found: Sequence[Square]) -> list[tuple[float, float]]:
    """Return the parts of the variance of a mean, times the number of runs.

    A source below the noise adds nothing.
    """
    *sources, noise = found
    counted = [each for each in sources if each.value > noise.value]
    return [
        *((each.value, each.freedom) for each in counted),
        # Each counted source holds the noise once, and the mean holds it once altogether.
        ((1 - len(counted)) * noise.value, noise.freedom),
    ]


def _codes(values: "pd.Series[float]") -> tuple[int, ...]:
    return tuple(pd.factorize(values, sort=True)[0].tolist())
