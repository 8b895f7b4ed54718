"""Differences between variants with interval, p-value and verdict, from counts per image.

The verdict of a comparison is computed here once, from the p-value that Holm's procedure adjusts
over all comparisons that are shown together; tables, texts, figures and files use the same verdict.
An interval is that of its own difference alone, so it can exclude 0 beside the verdict "within
noise"."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from analysis.read.artifacts import counts_of, of_subset
from analysis.read.counts import PerImage
from analysis.read.knobs import sharing
from analysis.read.labels import Naming, naming_of, shown_variants
from analysis.statistics.adjustment import holm
from analysis.statistics.bootstrap import (
    LEVEL,
    RESAMPLES,
    Draws,
    Interval,
    class_differences,
    with_error,
)
from analysis.statistics.power import Need, need
from analysis.statistics.seed_design import of_new_run, pooled_noise
from analysis.studies.other_thresholds import Elsewhere, at_other_settings
from analysis.studies.pairs import Pair, finished, pairs_with_baseline
from analysis.table.digits import points
from analysis.table.grid import Passage, named, text_grid

# The smallest difference that papers of the field report as a gain: one point of mIoU.
DELTA = 0.01
# Smaller p-values are printed as `< 0.001`: their digits depend on the resamples.
SMALLEST_P = 0.001
ONE_SETTING = (
    "These verdicts are not held against other alphas and thresholds, which are recorded for all "
    "images alone."
)
Verdict = Literal["better", "worse", "within noise"]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A variant against the baseline.

    Attributes:
        variant: its name.
        difference: with the interval of this difference alone.
        p_holm: adjusted over all comparisons that are shown together.
        need: the seeds that a difference of `need.delta` would need; None for one seed, which has
            no spread.
        same: other variants with the same artifacts of that stage, which are no comparisons of
            their own.
        elsewhere: the difference at other alphas or thresholds; None where none are recorded, or
            where nothing is claimed.
    """

    variant: str
    difference: Interval
    p_holm: float
    need: Need | None
    same: tuple[str, ...] = ()
    elsewhere: Elsewhere | None = None

    @property
    def verdict(self) -> Verdict:
        """The verdict at the 5 % level, after Holm's adjustment."""
        return verdict_of(self.p_holm, self.difference.value)

    @property
    def remark(self) -> str:
        """The verdict in words: how far it holds, or how many seeds a difference would need."""
        if self.verdict == "within noise":
            return f"{self.verdict}; {self.need.text}" if self.need else self.verdict
        return f"{self.verdict}; {self.elsewhere.text}" if self.elsewhere else self.verdict


def verdict_of(p: float, difference: float) -> Verdict:
    """Return the claim that a difference with the adjusted p-value `p` allows."""
    if p >= 1 - LEVEL:
        return "within noise"
    return "better" if difference > 0 else "worse"


def compare(
    trials: pd.DataFrame,
    field: str,
    *,
    tracking: str | None = None,
    subset: str = "all",
    resamples: int = RESAMPLES,
    delta: float = DELTA,
) -> list[Comparison]:
    """Compare every variant with the baseline, by the mIoU of the scored stage `field`.

    Variants whose artifacts are those of the baseline, or of a variant before, are not compared
    again. The variance from seed to seed is pooled over the variants.

    Args:
        trials: from `load`.
        field: a scored stage.
        tracking: as in `load`.
        subset: `all` images, or the `multi`-label ones.
        resamples: number of the bootstrap's draws.
        delta: the difference, a fraction, for which the number of seeds is worked out.

    Raises:
        ValueError: there is no baseline, nothing else, or a run has no counts of that stage.
    """
    paired = pair_up(trials, field, tracking=tracking)
    return compare_pairs(
        paired, field, tracking=tracking, subset=subset, resamples=resamples, delta=delta
    )


@dataclass(frozen=True, kw_only=True)
class Paired:
    """The runs of a sweep that are compared by a stage, whatever the images are.

    Attributes:
        current: the finished trials that have its score.
        alike: other variants with the same artifacts, by variant.
        pairs: each variant beside the baseline.
        counts: of all images, by run.
    """

    current: pd.DataFrame
    alike: Mapping[str, Sequence[str]]
    pairs: Mapping[str, Pair]
    counts: Mapping[str, PerImage]


def pair_up(trials: pd.DataFrame, field: str, *, tracking: str | None = None) -> Paired:
    """Return the pairs that `compare` compares.

    Raises:
        ValueError: there is no baseline, or nothing else, or a run has no counts of that stage.
    """
    # Variants that share all artifacts are one result. Compared one by one they would make Holm's
    # adjustment stricter for everyone, for claims that are the same claim.
    current = finished(trials, field, tracking=tracking)
    alike = sharing(current, field)
    pairs = pairs_with_baseline(current[current["variant"].isin(alike)], field)
    # Each run's counts are a file of the tracking server: only those that are compared are fetched.
    counts = counts_of(_used(current, pairs), field, tracking=tracking)
    return Paired(current=current, alike=alike, pairs=pairs, counts=counts)


def compare_pairs(
    paired: Paired,
    field: str,
    *,
    tracking: str | None = None,
    subset: str = "all",
    resamples: int = RESAMPLES,
    delta: float = DELTA,
) -> list[Comparison]:
    """Return what `compare` returns, of pairs that were made before.

    Raises:
        ValueError: no image shows several classes.
    """
    current = paired.current
    pairs = paired.pairs
    counts = {run: of_subset(own, subset, run, field) for run, own in paired.counts.items()}
    draws = Draws(counts, resamples=resamples)
    measured = [draws.measure(pair.system, pair.reference) for pair in pairs.values()]
    groups = [
        (pair.design, each.values) for pair, each in zip(pairs.values(), measured, strict=True)
    ]
    noises = pooled_noise(groups)
    found = [with_error(each, noise) for each, noise in zip(measured, noises, strict=True)]
    # A difference always has a p-value; only an interval of a single system has none.
    adjusted = holm([interval.p or 0.0 for interval in found])
    spread = _spread(list(pairs.values()), [each.values for each in measured])
    comparisons = []
    for (variant, pair), interval, p in zip(pairs.items(), found, adjusted, strict=True):
        elsewhere = None
        # Other alphas and thresholds are scored on all images only, and a difference within noise
        # makes no claim that could be limited.
        if subset == "all" and verdict_of(p, interval.value) != "within noise":
            elsewhere = at_other_settings(
                current, field, pair, claimed=interval.value, tracking=tracking
            )
        comparisons.append(
            Comparison(
                variant=variant,
                difference=interval,
                p_holm=p,
                need=_need(interval, spread, delta),
                same=tuple(paired.alike[variant]),
                elsewhere=elsewhere,
            )
        )
    return comparisons


def compare_classes(
    trials: pd.DataFrame,
    field: str,
    variant: str,
    *,
    tracking: str | None = None,
    subset: str = "all",
    resamples: int = RESAMPLES,
) -> dict[str, Interval]:
    """Return one variant's differences from the baseline in the IoU of every class, unadjusted.

    Raises:
        ValueError: there is no such variant or baseline, or a run has no counts of that stage.
    """
    chosen = finished(trials, field, tracking=tracking)
    chosen = chosen[chosen["baseline"] | (chosen["variant"] == variant)]
    if variant not in set(chosen.loc[~chosen["baseline"], "variant"]):
        name = str(naming_of(trials).variant(variant))
        raise ValueError(
            f"expected a variant other than the baseline, got {name!r}; "
            f"there are: {shown_variants(trials)}"
        )
    pairs = pairs_with_baseline(chosen, field)
    counts = counts_of(_used(chosen, pairs), field, tracking=tracking, subset=subset)
    pair = pairs[variant]
    return class_differences(
        {number: counts[run] for number, run in enumerate(pair.system)},
        {number: counts[run] for number, run in enumerate(pair.reference)},
        design=pair.design,
        resamples=resamples,
    )


def class_verdicts(classes: Mapping[str, Interval]) -> dict[str, Verdict]:
    """Return the verdict of every class, adjusted by Holm over the classes."""
    adjusted = holm([interval.p or 0.0 for interval in classes.values()])
    return {
        name: verdict_of(p, interval.value)
        for (name, interval), p in zip(classes.items(), adjusted, strict=True)
    }


def metric_of(field: str, subset: str = "all") -> str:
    """Return the mIoU of a stage on all images, or on a subset of them."""
    return f"{field}/miou" if subset == "all" else f"{field}/miou_{subset}"


def comparison_passage(
    comparisons: Sequence[Comparison], field: str, naming: Naming, *, subset: str = "all"
) -> Passage:
    """Return the differences in percentage points as a grid, with notes on their intervals."""
    kind = "" if subset == "all" else f"_{subset}"
    metric = naming.labels.metric(metric_of(field, subset))
    rows = [_comparison_cells(comparison, naming) for comparison in comparisons]
    grid = text_grid(
        f"comparison_{field}{kind}",
        f"{metric}: differences from the baseline, in points",
        ["variant", "difference", "95 % interval", "p (Holm)", "seeds", "verdict"],
        rows,
    )
    intervals = [comparison.difference for comparison in comparisons]
    notes = [_origin_text(intervals, metric, "the baseline")]
    if subset != "all" and any(each.verdict != "within noise" for each in comparisons):
        notes.append(ONE_SETTING)
    method = [_chance_text(intervals)]
    if any(comparison.need for comparison in comparisons):
        method.append(
            "Seeds needed: for a chance of 80 % at the 5 % level before Holm's adjustment, with "
            "the spread between seeds pooled over all variants; in brackets, what the 95 % "
            "interval of that spread allows."
        )
    return Passage(grids=[grid], notes=notes, method=method)


def classes_passage(
    classes: Mapping[str, Interval],
    field: str,
    variant: str,
    naming: Naming,
    *,
    subset: str = "all",
) -> Passage:
    """Return the differences of `variant` by class in percentage points, the largest gain first."""
    name = naming.variant(variant)
    title = f"{naming.labels.metric(f'{field}/iou')} by class, {name}"
    p_values = holm([interval.p or 0.0 for interval in classes.values()])
    adjusted = dict(zip(classes, p_values, strict=True))
    ranked = sorted(classes.items(), key=lambda item: -item[1].value)
    rows = [
        [name, points(interval.value), ends(interval), p_text(adjusted[name])]
        for name, interval in ranked
    ]
    grid = text_grid(
        f"classes_{field}",
        f"{title}: differences from the baseline in points",
        ["class", "difference", "95 % interval", "p (Holm)"],
        rows,
    )
    metric = naming.labels.metric(metric_of(field, subset))
    method = method_text(list(classes.values()), metric)
    return Passage(grids=[grid], notes=[f"{title}. {method}"])


def ends(interval: Interval) -> str:
    """Return the ends of an interval in percentage points."""
    return f"{points(interval.low)} to {points(interval.high)}"


def p_text(value: float) -> str:
    """Return a p-value, of which small ones are not zero."""
    return f"< {SMALLEST_P}" if value < SMALLEST_P else f"{value:.3f}"


def method_text(found: Sequence[Interval], metric: str, *, against: str = "the baseline") -> str:
    """Return sentences on how differences were made, and on what their intervals cover.

    Args:
        found: the differences.
        metric: the name of the score.
        against: the name of what was subtracted.
    """
    return f"{_origin_text(found, metric, against)} {_chance_text(found)}"


def _origin_text(found: Sequence[Interval], metric: str, against: str) -> str:
    images = sorted({interval.images for interval in found})
    counts = ", ".join(map(str, images))
    return f"{metric} against {against}, in points: paired bootstrap over {counts} images."


def _chance_text(found: Sequence[Interval]) -> str:
    """Return what intervals cover, which is the same for most scores of a sweep."""
    covers = sorted({interval.covers for interval in found})
    return (
        f"The interval covers chance in {' or '.join(covers)}, of one difference at a time; p and "
        "verdict are adjusted for all differences of the table (Holm)."
    )


def _comparison_cells(comparison: Comparison, naming: Naming) -> list[object]:
    name: str = naming.variant(comparison.variant)
    if comparison.same:
        name += f" (and {len(comparison.same)} with the same artifacts)"
    return [
        named(name, comparison.variant),
        points(comparison.difference.value),
        ends(comparison.difference),
        p_text(comparison.p_holm),
        comparison.difference.seeds,
        comparison.remark,
    ]


def _used(trials: pd.DataFrame, pairs: Mapping[str, Pair]) -> pd.DataFrame:
    """Return the trials that stand in a pair: others share their artifacts and need no counts."""
    used = set[str]()
    for pair in pairs.values():
        used.update(pair.system, pair.reference)
    return trials[trials["run_id"].isin(list(used))]


def _need(interval: Interval, spread: tuple[float, float] | None, delta: float) -> Need | None:
    if spread is None:
        return None
    return need(delta, images_sd=interval.images_sd, seed_variance=spread[0], freedom=spread[1])


def _spread(pairs: Sequence[Pair], differences: Sequence[np.ndarray]) -> tuple[float, float] | None:
    """Return variance and degrees of freedom of the difference of new runs.

    They come from the pairs of the design that most runs have.
    """
    tables: dict[tuple[object, ...], list[np.ndarray]] = {}
    for pair, values in zip(pairs, differences, strict=True):
        if pair.design.complete:
            key = (pair.design.sources, pair.design.levels)
            tables.setdefault(key, []).append(pair.design.table(values))
    if not tables:
        return None
    # A number of seeds is meant for one design, so designs are not mixed here.
    most = max(tables.values(), key=lambda found: len(found) * found[0].size)
    return of_new_run(np.stack(most))
