"""Is a variant really better than the baseline: differences of mIoU with interval and p-value, from
counts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.read.artifact_ids import distinct
from analysis.read.artifacts import counted_stages, counts_of
from analysis.read.counts import Floats, PerImage, miou
from analysis.read.knobs import sharing
from analysis.read.pipeline import pipeline_of
from analysis.statistics.bootstrap import (
    LEVEL,
    RESAMPLES,
    Interval,
    class_differences,
    difference,
    holm,
)
from analysis.statistics.power import Need, need
from analysis.statistics.seed_design import Design, design, of_new_run
from analysis.table.grid import Passage, text_grid

DELTA = 0.01


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Counts of a variant and of the baseline by number of the replicate, and the seeds of the
    replicates.
    """

    system: Mapping[int, PerImage]
    reference: Mapping[int, PerImage]
    design: Design


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A variant against the baseline.

    Attributes:
        p_holm: adjusted over all comparisons that are shown together. need: the seeds that a
        difference of `need.delta` would need; None where one seed tells nothing of the spread.
        same: other variants with the same artifacts of that stage, which are no comparisons of
        their own.
    """

    variant: str
    difference: Interval
    p_holm: float
    need: Need | None
    same: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """What may be claimed at the level of the interval."""
        if self.p_holm >= 1 - LEVEL:
            return "within noise"
        return "better" if self.difference.value > 0 else "worse"


def compare(
    trials: pd.DataFrame,
    field: str,
    *,
    tracking: str | None = None,
    subset: str = "all",
    resamples: int = RESAMPLES,
    delta: float = DELTA,
) -> list[Comparison]:
    """Every variant of `trials` (from `load`) against the baseline, by the mIoU of the scored stage
    `field`.

    Variants whose artifacts are those of the baseline, or of a variant before, are not compared
    again.

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
    current = _current(trials, field, tracking)
    alike = sharing(current, field)
    pairs = _pairs(current[current["variant"].isin(alike)], field, tracking=tracking, subset=subset)
    found = [
        difference(pair.system, pair.reference, design=pair.design, resamples=resamples)
        for pair in pairs.values()
    ]
    adjusted = holm([interval.p or 0.0 for interval in found])
    spread = _spread(list(pairs.values()))
    return [
        Comparison(
            variant=variant,
            difference=interval,
            p_holm=p,
            need=need(
                delta, images_sd=interval.images_sd, seed_variance=spread[0], freedom=spread[1]
            )
            if spread
            else None,
            same=tuple(alike[variant]),
        )
        for variant, interval, p in zip(pairs, found, adjusted, strict=True)
    ]


def compare_classes(
    trials: pd.DataFrame,
    field: str,
    variant: str,
    *,
    tracking: str | None = None,
    subset: str = "all",
    resamples: int = RESAMPLES,
) -> dict[str, Interval]:
    """The differences of one variant from the baseline in the IoU of the background and of every
    class.

    Raises:
        ValueError: there is no such variant or baseline, or a run has no counts of that stage.
    """
    chosen = _current(trials, field, tracking)
    chosen = chosen[chosen["baseline"] | (chosen["variant"] == variant)]
    if variant not in set(chosen.loc[~chosen["baseline"], "variant"]):
        raise ValueError(
            f"no variant {variant!r} beside the baseline; there are: {'; '.join(trials['variant'].unique())}"
        )
    pair = _pairs(chosen, field, tracking=tracking, subset=subset)[variant]
    return class_differences(pair.system, pair.reference, design=pair.design, resamples=resamples)


def comparison_passage(
    comparisons: Sequence[Comparison], field: str, *, subset: str = "all"
) -> Passage:
    """Return the table of differences in percentage points, and what its interval speaks of."""
    kind = "" if subset == "all" else f"_{subset}"
    suffix = "" if subset == "all" else ", images with several classes"
    rows = [_comparison_cells(comparison) for comparison in comparisons]
    grid = text_grid(
        f"comparison_{field}{kind}",
        f"{field}/miou: differences from the baseline, in points{suffix}",
        ["variant", "difference", "95 % interval", "p (Holm)", "seeds", "verdict"],
        rows,
    )
    method = []
    if any(comparison.need for comparison in comparisons):
        method.append(
            "Seeds needed: for a chance of 80 % at the 5 % level before Holm's adjustment, with "
            "the spread between seeds pooled over all variants; in brackets, what the 95 % "
            "interval of that spread allows."
        )
    notes = [_method([comparison.difference for comparison in comparisons], field, subset)]
    return Passage(grids=[grid], notes=notes, method=method)


def classes_passage(
    classes: Mapping[str, Interval], field: str, variant: str, *, subset: str = "all"
) -> Passage:
    """Return the differences of `variant` by class in percentage points, the largest gain first."""
    p_values = holm([interval.p or 0.0 for interval in classes.values()])
    adjusted = dict(zip(classes, p_values, strict=True))
    ranked = sorted(classes.items(), key=lambda item: -item[1].value)
    rows = [
        [name, _points(interval.value), _ends(interval), p_text(adjusted[name])]
        for name, interval in ranked
    ]
    grid = text_grid(
        f"classes_{field}",
        f"{field}: IoU by class of {variant}, differences from the baseline in points",
        ["class", "difference", "95 % interval", "p (Holm)"],
        rows,
    )
    method = _method(list(classes.values()), field, subset)
    return Passage(grids=[grid], notes=[f"{variant}, IoU by class. {method}"])


def _comparison_cells(comparison: Comparison) -> list[object]:
    name = comparison.variant
    if comparison.same:
        name += f" (and {len(comparison.same)} with the same artifacts)"
    return [
        name,
        _points(comparison.difference.value),
        _ends(comparison.difference),
        p_text(comparison.p_holm),
        comparison.difference.seeds,
        _verdict(comparison),
    ]


def _points(value: float) -> str:
    return f"{100 * value:+.1f}"


def _ends(interval: Interval) -> str:
    return f"{_points(interval.low)} to {_points(interval.high)}"


def p_text(value: float) -> str:
    """A p-value, of which small ones are not zero."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _method(found: Sequence[Interval], field: str, subset: str) -> str:
    covers, images = (
        sorted({each.covers for each in found}),
        sorted({each.images for each in found}),
    )
    kind = "" if subset == "all" else f"_{subset}"
    return (
        f"{field}/miou{kind} against the baseline, in points: paired bootstrap over "
        f"{', '.join(map(str, images))} images. The interval speaks of chance in {' or '.join(covers)}."
    )


def _verdict(comparison: Comparison) -> str:
    if comparison.verdict != "within noise":
        return comparison.verdict
    return "; ".join(["within noise", *([comparison.need.text] if comparison.need else [])])


def _pairs(
    trials: pd.DataFrame, field: str, *, tracking: str | None, subset: str
) -> dict[str, Pair]:
    """Counts by seed of every variant and of the baseline; seeds that share an artifact count once."""
    baseline, others = trials[trials["baseline"]], trials[~trials["baseline"]]
    if baseline.empty or others.empty:
        raise ValueError(
            f"the sweep has {len(baseline)} finished trials of a baseline and {len(others)} others with artifacts of "
            "their own; it needs both"
        )
    counts = counts_of(trials, field, tracking=tracking, subset=subset)
    reference = distinct(baseline, field)
    return {
        str(variant): _pair(distinct(group, field), reference, field, counts)
        for variant, group in others.groupby("variant", sort=False)
    }


def _pair(
    system: pd.DataFrame, reference: pd.DataFrame, field: str, counts: Mapping[str, PerImage]
) -> Pair:
    """Runs with equal seeds of all stages that both have: a baseline without CGNet stands beside
    every CGNet.
    """
    seeds = [f"seed.{stage}" for stage in pipeline_of(system).seeded(field)]
    both = [
        name
        for name in seeds
        if all(name in rows and rows[name].notna().all() for rows in (system, reference))
    ]
    if min(len(system), len(reference)) == 1:  # one artifact, which no seed of the other can change
        pairs = system.merge(reference, how="cross", suffixes=("", ".other"))
    else:
        pairs = system.merge(reference, on=both or ["seed"], suffixes=("", ".other"))
    if pairs.empty:
        raise ValueError(
            f"{system['variant'].iloc[0]}: no run has the seeds of one of the baseline"
        )
    for name in seeds:
        if name + ".other" in pairs:
            pairs[name] = pairs[name].fillna(pairs[name + ".other"])
    return Pair(
        system={number: counts[run] for number, run in enumerate(pairs["run_id"])},
        reference={number: counts[run] for number, run in enumerate(pairs["run_id.other"])},
        design=design(pairs, field),
    )


def _current(trials: pd.DataFrame, field: str, tracking: str | None) -> pd.DataFrame:
    """The finished trials that have the score, the baseline's first; a gate may have stopped some
    before.

    Imported runs without counts per image cannot be compared, only tabled: they are left out.
    """
    current = trials[trials["current"] & (trials["status"] == "FINISHED")]
    if (metric := f"{field}/miou") in current:
        current = current[current[metric].notna()]
    runs = current[["run_id", "imported"]].itertuples(index=False, name=None)
    counted = [
        not imported or field in counted_stages(run, tracking=tracking) for run, imported in runs
    ]
    current = current[counted]
    return current.sort_values("baseline", ascending=False, kind="stable")


def _spread(pairs: Sequence[Pair]) -> tuple[float, float] | None:
    """Variance of the difference of new runs and its degrees of freedom, from the pairs with most
    seeds alike.
    """
    tables: dict[tuple[object, ...], list[Floats]] = {}
    for pair in pairs:
        if pair.design.complete:
            scores = [
                _score(pair.system[each]) - _score(pair.reference[each]) for each in pair.system
            ]
            key = (pair.design.sources, pair.design.levels)
            tables.setdefault(key, []).append(pair.design.table(scores))
    if not tables:
        return None
    return of_new_run(
        np.stack(max(tables.values(), key=lambda found: len(found) * int(np.size(found[0]))))
    )


def _score(counts: PerImage) -> float:
    return float(miou(counts.table.sum(axis=0)))
