"""Cost against score: stage seconds of each variant, and the variants that no other beats.

Two rules of what a trial costs, since trials of a sweep share stages:

- alone: the seconds of every artifact that the trial rests on, as if nothing else had been run;
- shared: the seconds of each artifact divided by the trials of the sweep that use it, so that the
  trials' costs add up to what the sweep took.

A stage that was in the store before the sweep counts as if the sweep had made it.
"""

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import pandas as pd

from analysis.read.knobs import scored
from analysis.read.labels import Naming
from analysis.table.grid import Passage, named, text_grid

# Costs of at most two hours are told in minutes.
LONGEST_MINUTES_S = 7200

METHOD = (
    "Cost: seconds of all stages of a trial, mean over its seeds. Alone: as if nothing else had "
    "been run. Shared: each artifact's seconds divided by the trials that use it, which add up "
    "to the sweep's. On the front (*): no other variant scores as high for less, or higher for as "
    "much, where costs that differ by less than their spread over seeds count as equal."
)


@dataclass(frozen=True, kw_only=True)
class Cost:
    """A variant's score (a fraction: mean and sample standard deviation of its seeds) and its cost
    in seconds.

    Attributes:
        std: None for one seed. alone_s, shared_s: by the two rules; `shared_s` is None where MLflow
        has no seconds by stage. best_alone, best_shared: whether it is on the front by that rule.
    """

    variant: str
    score: float
    std: float | None
    seeds: int
    alone_s: float
    shared_s: float | None
    best_alone: bool
    best_shared: bool


@dataclass(frozen=True, kw_only=True)
class Point:
    """Cost and score of a variant; `spread` is the standard deviation of the cost over seeds."""

    cost: float
    score: float
    spread: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Pareto:
    """All variants in the order of the sweep; `sweep_s` is what all its distinct artifacts took,
    None if unknown.
    """

    metric: str
    costs: tuple[Cost, ...]
    sweep_s: float | None


def pareto(trials: pd.DataFrame, *, metric: str = "seg/miou") -> Pareto:
    """Return the costs of the variants of `trials` (from `load`) against `metric`.

    Raises:
        ValueError: no trial has the metric, or none the seconds of its stages.
    """
    rows = scored(trials, metric)
    rows = rows[rows["spent_s"].notna()]
    if rows.empty:
        raise ValueError(f"no trial with {metric} has the seconds that its stages took")
    bills = [bill(row) for row in rows.to_dict("records")]
    # One unknown bill makes the shares of all wrong: its artifacts would count too few users.
    known = all(bills)
    table = _by_variant(rows, metric, bills)
    fronts = {rule: front(_points(table, rule)) for rule in ("alone", "shared")}
    costs = tuple(
        Cost(
            variant=str(variant),
            score=float(row["score"]),
            std=None if math.isnan(row["std"]) else float(row["std"]),
            seeds=int(row["seeds"]),
            alone_s=float(row["alone"]),
            shared_s=float(row["shared"]) if known else None,
            best_alone=place in fronts["alone"],
            best_shared=known and place in fronts["shared"],
        )
        for place, (variant, row) in enumerate(table.iterrows())
    )
    # By fingerprint, so that an artifact of several trials counts once.
    once = dict[str, float]()
    for each in bills:
        once |= each
    return Pareto(metric=metric, costs=costs, sweep_s=sum(once.values()) if known else None)


def _by_variant(
    rows: pd.DataFrame, metric: str, bills: Sequence[Mapping[str, float]]
) -> pd.DataFrame:
    """Score and mean costs of each variant; `alone` as the runs say where a bill is unknown."""
    # A bill is keyed by fingerprint: this counts the trials that use each artifact.
    users = Counter(chain.from_iterable(bills))
    costs = pd.DataFrame(
        {
            "variant": rows["variant"],
            "score": rows[metric],
            "alone": [sum(each.values()) for each in bills]
            if all(bills)
            else rows["spent_s"] + rows["saved_s"],
            "shared": [
                sum(seconds / users[name] for name, seconds in each.items()) for each in bills
            ],
        }
    )
    return costs.groupby("variant", sort=False).agg(
        score=("score", "mean"),
        std=("score", "std"),
        seeds=("score", "size"),
        alone=("alone", "mean"),
        shared=("shared", "mean"),
        alone_std=("alone", "std"),
        shared_std=("shared", "std"),
    )


def front(points: Sequence[Point]) -> set[int]:
    """Return the positions of the points that no other point beats.

    A point beats another that scores lower for as much, or no higher for more. Costs that differ by
    less than their spread count as equal: minutes of a busy machine decide nothing.
    """

    def beats(one: Point, other: Point) -> bool:
        tie = max(one.spread, other.spread)
        if one.score > other.score:
            return one.cost <= other.cost + tie
        return one.score == other.score and one.cost < other.cost - tie

    return {
        index
        for index, point in enumerate(points)
        if not any(beats(other, point) for other in points)
    }


def _points(table: pd.DataFrame, rule: str) -> list[Point]:
    # One seed has no spread: NaN in pandas.
    spreads = table[f"{rule}_std"].fillna(0.0)
    return [
        Point(cost=float(cost), score=float(score), spread=float(spread))
        for cost, score, spread in zip(table[rule], table["score"], spreads, strict=True)
    ]


def pareto_passage(found: Pareto, naming: Naming) -> Passage:
    """Return the cost of each variant by both rules, the cheapest first."""
    unit, scale = time_unit(max(cost.alone_s for cost in found.costs))
    ranked = sorted(found.costs, key=lambda cost: cost.alone_s)
    costs = [f"alone ({unit})", f"shared ({unit})"]
    grid = text_grid(
        "pareto",
        "Score in percent and cost of each variant, the cheapest first",
        ["variant", naming.labels.metric(found.metric), *costs],
        [_cost_cells(cost, scale, naming) for cost in ranked],
        keys=["variant", found.metric, *costs],
    )
    note = "Runs without the tag occse.seconds: only the cost alone is known, and counts a shared"
    note += " artifact twice."
    if found.sweep_s is not None:
        sweep = f"{found.sweep_s / scale:.1f} {unit}"
        note = f"All distinct artifacts of these variants together: {sweep}."
    return Passage(grids=[grid], notes=[note], method=[METHOD])


def time_unit(longest_s: float) -> tuple[str, int]:
    """Return the unit in which durations up to `longest_s` seconds are told, and its seconds."""
    return ("hours", 3600) if longest_s > LONGEST_MINUTES_S else ("minutes", 60)


def _cost_cells(cost: Cost, scale: float, naming: Naming) -> list[object]:
    score = f"{100 * cost.score:.1f}"
    if cost.std is not None:
        score += f" ± {100 * cost.std:.1f}"
    alone = f"{cost.alone_s / scale:.1f}{_mark(cost.best_alone)}"
    shared = "unknown"
    if cost.shared_s is not None:
        shared = f"{cost.shared_s / scale:.1f}{_mark(cost.best_shared)}"
    return [named(naming.variant(cost.variant), cost.variant), score, alone, shared]


def _mark(is_best: bool) -> str:
    return " *" if is_best else ""


def bill(trial: Mapping[Hashable, Any]) -> dict[str, float]:
    """Return the seconds by artifact of a trial; empty where any of them is unknown."""
    prefix = "fingerprint."
    fields = [
        str(name).removeprefix(prefix)
        for name, value in trial.items()
        # NaN, which is not equal to itself, stands where a trial lacks the stage.
        if str(name).startswith(prefix) and value == value
    ]
    seconds = {
        str(trial[prefix + field]): float(trial.get(f"seconds.{field}", math.nan))
        for field in fields
    }
    return {} if any(math.isnan(each) for each in seconds.values()) else seconds
