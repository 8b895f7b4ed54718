"""Is a variant really better than the baseline: differences of mIoU with interval and p-value, from counts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.artifacts import counts_of
from analysis.bootstrap import LEVEL, RESAMPLES, Interval, class_differences, difference, holm
from analysis.counts import Floats, PerImage, miou
from analysis.power import Need, need, seed_variance

DELTA = 0.01


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A variant against the baseline.

    Attributes:
        p_holm: adjusted over all comparisons that are shown together.
        need: the seeds that a difference of `need.delta` would need; None where one seed tells nothing of the spread.
    """

    variant: str
    difference: Interval
    p_holm: float
    need: Need | None

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
    """Every variant of `trials` (from `load`) against the baseline, by the mIoU of the scored stage `field`.

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
    reference, systems = _systems(trials, field, tracking=tracking, subset=subset)
    found = [difference(system, reference, resamples=resamples) for system in systems.values()]
    adjusted = holm([interval.p or 0.0 for interval in found])
    spread = _spread(reference, systems)
    return [
        Comparison(
            variant=variant,
            difference=interval,
            p_holm=p,
            need=need(delta, images_sd=interval.images_sd, seed_variance=spread[0], freedom=spread[1])
            if spread
            else None,
        )
        for variant, interval, p in zip(systems, found, adjusted, strict=True)
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
    """The differences of one variant from the baseline in the IoU of the background and of every class.

    Raises:
        ValueError: there is no such variant or baseline, or a run has no counts of that stage.
    """
    chosen = trials[trials["baseline"] | (trials["variant"] == variant)]
    if variant not in set(chosen.loc[~chosen["baseline"], "variant"]):
        raise ValueError(
            f"no variant {variant!r} beside the baseline; there are: {'; '.join(trials['variant'].unique())}"
        )
    reference, systems = _systems(chosen, field, tracking=tracking, subset=subset)
    return class_differences(systems[variant], reference, resamples=resamples)


def comparison_text(comparisons: list[Comparison], field: str, *, subset: str = "all") -> str:
    """A Markdown table, in percentage points, and what its interval speaks of."""
    lines = ["| variant | difference | 95 % interval | p (Holm) | seeds | |", "| :-- | --: | :-: | --: | --: | :-- |"]
    for each in comparisons:
        found = each.difference
        lines.append(
            f"| {each.variant} | {100 * found.value:+.1f} | {100 * found.low:+.1f} to {100 * found.high:+.1f} "
            f"| {each.p_holm:.3f} | {found.seeds} | {_verdict(each)} |"
        )
    lines += ["", _method([each.difference for each in comparisons], field, subset)]
    if any(each.need for each in comparisons):
        lines.append(
            "Seeds needed: for a chance of 80 % at the 5 % level before Holm's adjustment, with the spread between "
            "seeds pooled over all variants; in brackets, what the 95 % interval of that spread allows."
        )
    return "\n".join(lines)


def classes_text(classes: Mapping[str, Interval], field: str, variant: str, *, subset: str = "all") -> str:
    """A Markdown table of the differences of `variant` by class, the largest gain first, in percentage points."""
    lines = ["| class | difference | 95 % interval | p (Holm) |", "| :-- | --: | :-: | --: |"]
    adjusted = dict(zip(classes, holm([found.p or 0.0 for found in classes.values()]), strict=True))
    for name, found in sorted(classes.items(), key=lambda item: -item[1].value):
        lines.append(
            f"| {name} | {100 * found.value:+.1f} | {100 * found.low:+.1f} to {100 * found.high:+.1f} "
            f"| {adjusted[name]:.3f} |"
        )
    return "\n".join([*lines, "", f"{variant}, IoU by class. {_method(list(classes.values()), field, subset)}"])


def _method(found: Sequence[Interval], field: str, subset: str) -> str:
    covers, images = sorted({each.covers for each in found}), sorted({each.images for each in found})
    kind = "" if subset == "all" else f"_{subset}"
    return (
        f"{field}/miou{kind} against the baseline, in points: paired bootstrap over "
        f"{', '.join(map(str, images))} images. The interval speaks of chance in {' or '.join(covers)}."
    )


def _verdict(comparison: Comparison) -> str:
    if comparison.verdict != "within noise":
        return comparison.verdict
    return "; ".join(["within noise", *([comparison.need.text] if comparison.need else [])])


def _systems(
    trials: pd.DataFrame, field: str, *, tracking: str | None, subset: str
) -> tuple[Mapping[int, PerImage], dict[str, Mapping[int, PerImage]]]:
    """Counts by seed of the baseline, and of every other variant."""
    current = trials[trials["current"] & (trials["status"] == "FINISHED")]
    if (metric := f"{field}/miou") in current:  # a gate may have stopped some before
        current = current[current[metric].notna()]
    baseline, others = current[current["baseline"]], current[~current["baseline"]]
    if baseline.empty or others.empty:
        raise ValueError(
            f"the sweep has {len(baseline)} finished trials of a baseline and {len(others)} others; it needs both"
        )
    counts = counts_of(current, field, tracking=tracking, subset=subset)
    reference = {seed: counts[run] for seed, run in zip(baseline["seed"], baseline["run_id"], strict=True)}
    if len(reference) == 1:  # an ordinary classifier that no seed can change is compared with every seed
        reference = dict.fromkeys(set(current["seed"]), next(iter(reference.values())))
    groups = others.groupby("variant", sort=False)
    return reference, {
        str(variant): {seed: counts[run] for seed, run in zip(group["seed"], group["run_id"], strict=True)}
        for variant, group in groups
    }


def _spread(
    reference: Mapping[int, PerImage], systems: Mapping[str, Mapping[int, PerImage]]
) -> tuple[float, float] | None:
    """Variance between seeds of the differences and its degrees of freedom, from the seeds that all variants have."""
    seeds = sorted(set(reference).intersection(*systems.values()))
    if len(seeds) < 2:
        return None
    scores = [[_score(system[seed]) for seed in seeds] for system in (reference, *systems.values())]
    table: Floats = np.array(scores)
    return seed_variance(table[1:] - table[0])


def _score(counts: PerImage) -> float:
    return float(miou(counts.table.sum(axis=0)))
