"""Does a better activation map make a better segmentation, and what would a choice by the maps have
cost?

Spearman's rank correlation of the scores of two stages over the variants of a sweep, each the mean
of its seeds: over all of them, and within the ways of erasing (ranks within each way, pooled), so
that a difference between two ways alone makes no correlation. Variants that share the artifact of
the earlier stage are no independent witnesses: the bootstrap draws such groups of variants, not
single ones."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from analysis.read.counts import Floats, Ints
from analysis.read.knobs import scored, scored_stages
from analysis.read.labels import labels_of
from analysis.read.pipeline import pipeline_of
from analysis.statistics.bootstrap import LEVEL
from analysis.table.digits import rounded, signed
from analysis.table.grid import Grid, Passage, named, text_grid
from occse.naming.counts import listed, number
from occse.naming.labels import Labels

# The 2.5 % quantile of 2,000 resamples is known to some 0.3 % of the distribution.
RESAMPLES = 2000
# With fewer groups of variants resamples repeat each other, and the bootstrap says nothing.
FEWEST = 5
# The value of `cam.source` for the classifier's own maps, and what the way of erasing is there.
CLASSIFIER = "oc"
NO_ERASING = "none"
#: Names of the scopes over several ways of erasing.
SCOPES = {"all": "all variants", "within": "within ways of erasing"}
METHOD = (
    "Method: Spearman's correlation over variants (means of their seeds), bootstrap over groups of "
    "variants that share the artifact of the earlier stage (percentiles, 2,000 resamples); ranks "
    "within the ways of erasing, pooled, in the column of that name. The interval covers the "
    "choice of variants, not of seeds or images. There is none for fewer than five groups, or "
    "where all agree: n variants fall into one order by chance once in n! times."
)


@dataclass(frozen=True, kw_only=True)
class Point:
    """A variant: its way of erasing, and its mean score by stage as a fraction."""

    variant: str
    mode: str
    scores: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Rank:
    """Spearman's correlation of two stages; `scope` is "all", "within" or a way of erasing.

    `low` and `high` are None where fewer than five groups of variants speak, or all say the same:
    no resample differs."""

    first: str
    second: str
    scope: str
    value: float
    low: float | None
    high: float | None
    variants: int
    groups: int


@dataclass(frozen=True, kw_only=True)
class Regret:
    """The part of the last stage's best score, a fraction, that a choice by `stage` loses.

    Only the best `kept` variants go on.

    `by_chance` is the mean loss of as many variants drawn at random.
    """

    stage: str
    kept: int
    lost: float
    by_chance: float


@dataclass(frozen=True, kw_only=True)
class Correlation:
    """All of it; `left_out` variants have no score of the last stage (a gate stopped them, or they
    are not done).
    """

    stages: tuple[str, ...]
    points: tuple[Point, ...]
    ranks: tuple[Rank, ...]
    regrets: tuple[Regret, ...]
    left_out: int


def correlation(trials: pd.DataFrame, *, resamples: int = RESAMPLES, seed: int = 0) -> Correlation:
    """Return how the stages' scores go together over the variants of `trials` (from `load`).

    Raises:
        ValueError: fewer than two stages are scored, or fewer than three variants have the scores
        of all.
    """
    partners = pipeline_of(trials).correlated()
    stages = tuple(stage for stage in scored_stages(trials) if stage in partners)
    if len(stages) < 2:
        raise ValueError(
            f"correlation needs at least 2 scored stages; there are: {', '.join(stages) or 'none'}"
        )
    rows = scored(trials, f"{stages[-1]}/miou")
    rows = rows.dropna(subset=[f"{stage}/miou" for stage in stages])
    groups = [group for _, group in rows.groupby("variant", sort=False)]
    # Two variants always agree or disagree perfectly.
    if len(groups) < 3:
        scores = list(map(labels_of(trials).score, stages))
        raise ValueError(
            f"correlation needs at least 3 variants that have {listed(scores)}; this sweep has "
            f"{len(groups)}"
        )
    points = tuple(_point(group, stages) for group in groups)
    modes = list(dict.fromkeys(point.mode for point in points))
    # With one way of erasing all scopes say the same.
    scopes = ("all", "within", *modes) if len(modes) > 1 else ("all",)
    ranks = list[Rank]()
    for pair in combinations(stages, 2):
        artifacts = [_artifact(group, pair[0]) for group in groups]
        found = [_rank(pair, scope, points, artifacts, resamples, seed) for scope in scopes]
        ranks += [rank for rank in found if rank is not None]
    lost = list[Regret]()
    for stage in stages[:-1]:
        lost += regrets(points, stage, last=stages[-1])
    return Correlation(
        stages=stages,
        points=points,
        ranks=tuple(ranks),
        regrets=tuple(lost),
        left_out=trials.loc[trials["current"], "variant"].nunique() - len(points),
    )


def correlation_passages(found: Correlation, labels: Labels) -> list[Passage]:
    """Return the correlations between stages, and the regrets of gates in points."""
    notes = [f"{number(len(found.points), 'variant')}."]
    if found.left_out:
        notes.append(
            f"Left out: {number(found.left_out, 'variant')} without "
            f"{labels.score(found.stages[-1])}. Where a "
            "gate stopped them, the rest are alike in what it looked at: correlations are weaker "
            "than of all; regrets are at least these."
        )
    ranks = Passage(grids=[_rank_grid(found, labels)], notes=notes, method=[METHOD])
    return [ranks, _regret_passage(found, labels)]


def scope_name(scope: str, labels: Labels) -> str:
    """Return the name of a scope: one of `SCOPES`, or a way of erasing."""
    return SCOPES.get(scope) or mode_name(scope, labels)


def mode_name(mode: str, labels: Labels) -> str:
    """Return the name of a way of erasing, or of the classifier's own maps."""
    if mode == NO_ERASING:
        return labels.value("cam.source", CLASSIFIER)
    return labels.value("cgnet.erasing", mode)


def _rank_grid(found: Correlation, labels: Labels) -> Grid:
    scopes = list(dict.fromkeys(rank.scope for rank in found.ranks))
    by_pair: dict[tuple[str, str], dict[str, str]] = {}
    for rank in found.ranks:
        text = f"{signed(rank.value, 2)} ({_doubt(rank)})"
        by_pair.setdefault((rank.first, rank.second), {})[rank.scope] = text
    rows = []
    for (first, second), row in by_pair.items():
        name = f"{labels.score(first)} and {labels.score(second)}"
        pair = named(name, f"{first}/miou and {second}/miou")
        rows.append([pair, *(row.get(scope, "–") for scope in scopes)])
    caption = "Rank correlation of the stages' scores"
    heads = ["scores", *(scope_name(scope, labels) for scope in scopes)]
    return text_grid("correlation", caption, heads, rows, keys=["scores", *scopes])


def _doubt(rank: Rank) -> str:
    """Return the interval as text; without one, the number of witnesses."""
    if rank.low is not None and rank.high is not None:
        return f"{signed(rank.low, 2)} to {signed(rank.high, 2)}"
    # Few groups, or groups that all agree: every resample says the same.
    return f"{rank.groups} groups, no interval"


def _regret_passage(found: Correlation, labels: Labels) -> Passage:
    gates, last_stage = found.stages[:-1], found.stages[-1]
    table = {(regret.stage, regret.kept): regret for regret in found.regrets}
    last = max((regret.kept for regret in found.regrets if regret.lost > 0), default=0)
    rows = []
    for kept in range(1, last + 1):
        lost = [table[stage, kept].lost for stage in gates]
        by_chance = table[gates[0], kept].by_chance
        rows.append([kept, *(rounded(100 * value, 1) for value in (*lost, by_chance))])
    grid = text_grid(
        "regret",
        "Points lost when a gate keeps the best of an earlier stage",
        ["kept", *(f"by {labels.score(stage)}" for stage in gates), "by chance"],
        rows,
        keys=["kept", *(f"by {stage}/miou" for stage in gates), "by chance"],
    )
    note = (
        f"Points of {labels.score(last_stage)} by which the best variant exceeds the best of those "
        f"kept, had only these gone on after a stage; a choice by any of these scores loses "
        f"nothing from {last + 1} on."
    )
    return Passage(grids=[grid], notes=[note])


def regrets(points: Sequence[Point], stage: str, *, last: str) -> list[Regret]:
    """Return what a gate after `stage` loses of the best `last`, by the variants that go on."""
    ordered = sorted(points, key=lambda point: -point.scores[stage])
    final = [point.scores[last] for point in ordered]
    best = max(point.scores[last] for point in points)
    found = []
    for kept in range(1, len(ordered) + 1):
        # Variants that tie at the edge of the gate go on by chance: those above it are sure, and
        # the rest of the places are drawn from the tied ones.
        edge = ordered[kept - 1].scores[stage]
        sure = sum(point.scores[stage] > edge for point in ordered)
        tied = [
            value
            for point, value in zip(ordered, final, strict=True)
            if point.scores[stage] == edge
        ]
        # `final` is in the order of the gate, so the sure ones are its first.
        expected = _expected_best(tied, kept - sure, at_least=max(final[:sure], default=-math.inf))
        chance = _expected_best(final, kept, at_least=-math.inf)
        found.append(Regret(stage=stage, kept=kept, lost=best - expected, by_chance=best - chance))
    return found


def _expected_best(pool: Sequence[float], number: int, *, at_least: float) -> float:
    """Mean of the highest among `number` values drawn from `pool` without putting back, and
    `at_least`.
    """
    total = math.comb(len(pool), number)
    # In falling order, the value at `place` is the best drawn one if it is drawn and all others
    # come from behind it.
    shares = [math.comb(len(pool) - place - 1, number - 1) / total for place in range(len(pool))]
    return sum(
        share * max(value, at_least)
        for share, value in zip(shares, sorted(pool, reverse=True), strict=True)
        if share
    )


def _point(group: pd.DataFrame, stages: Sequence[str]) -> Point:
    return Point(
        variant=str(group["variant"].iloc[0]),
        mode=mode(group.iloc[0].to_dict()),
        scores={stage: float(group[f"{stage}/miou"].mean()) for stage in stages},
    )


def mode(trial: Mapping[Any, Any]) -> str:
    """The way of erasing of a trial: `cse`, `class_agnostic`, or `none` where the classifier's maps
    are taken.
    """
    if trial.get("param.cam.source") == CLASSIFIER:
        return NO_ERASING
    return str(trial.get("param.cgnet.erasing", "unknown"))


def _artifact(group: pd.DataFrame, stage: str) -> tuple[object, ...]:
    column = f"fingerprint.{stage}"
    # Run ids are never equal: without fingerprints each variant is a group of its own.
    return tuple(sorted(group[column if column in group else "run_id"]))


def _rank(
    pair: tuple[str, str],
    scope: str,
    points: Sequence[Point],
    artifacts: Sequence[tuple[object, ...]],
    resamples: int,
    seed: int,
) -> Rank | None:
    """The correlation within a scope; None where it has fewer than three variants, or all score the
    same.
    """
    chosen = [index for index, point in enumerate(points) if scope in ("all", "within", point.mode)]
    scores = np.array([[points[index].scores[stage] for stage in pair] for index in chosen])
    modes = _codes([points[index].mode if scope == "within" else "" for index in chosen])
    groups = pd.factorize(pd.Series([artifacts[index] for index in chosen], dtype=object))[0]
    if len(chosen) < 3:
        return None
    # Ranks need the order alone, and integers can be counted.
    levels = np.stack([np.unique(column, return_inverse=True)[1] for column in scores.T], axis=1)
    value = float(_spearman(np.ones((1, len(levels))), levels, modes)[0])
    if math.isnan(value):
        return None
    number = int(groups.max()) + 1
    # Where all agree, so does every resample of them.
    certain = number < FEWEST or math.isclose(abs(value), 1)
    low, high = (None, None) if certain else _interval(levels, modes, groups, resamples, seed)
    return Rank(
        first=pair[0],
        second=pair[1],
        scope=scope,
        value=value,
        low=low,
        high=high,
        variants=len(chosen),
        groups=number,
    )


def _codes(values: Sequence[str]) -> Ints:
    return pd.factorize(pd.Series(values, dtype=object))[0]


def _spearman(weights: Floats, levels: Ints, modes: Ints) -> Floats:
    """Return (R,) correlations of ranks within each mode, over all modes; NaN where nothing varies.

    Args:
        weights: (R, V) how often each of R resamples has each variant.
        levels: (V, 2) the scores of two stages, each as its place among the distinct ones.
        modes: (V,) numbers of the ways of erasing.
    """
    products = np.zeros(len(weights))
    squares = np.zeros((2, len(weights)))
    for mode in range(int(modes.max()) + 1):
        own = modes == mode
        if own.any():
            # Centred within each mode: one that is better at both stages adds nothing.
            first, second = (_centred_ranks(weights[:, own], column) for column in levels[own].T)
            products += (weights[:, own] * first * second).sum(axis=1)
            squares += [(weights[:, own] * ranks**2).sum(axis=1) for ranks in (first, second)]
    spread = np.sqrt(squares.prod(axis=0))
    found: Floats = np.divide(products, spread, out=np.full_like(spread, np.nan), where=spread > 0)
    return found


def _centred_ranks(weights: Floats, levels: Ints) -> Floats:
    """Return (R, V) ranks less their mean; equal levels share the mean of their ranks."""
    resamples = len(weights)
    number = int(levels.max()) + 1
    cells = np.arange(resamples)[:, None] * number + levels
    counts = np.bincount(cells.ravel(), weights.ravel(), minlength=resamples * number)
    counts = counts.reshape(resamples, number)
    ranks = (np.cumsum(counts, axis=1) - (counts - 1) / 2)[:, levels]
    # A resample may have drawn no variant of these, and then has no rank to centre.
    total = np.maximum(1, weights.sum(axis=1, keepdims=True))
    found: Floats = ranks - (weights * ranks).sum(axis=1, keepdims=True) / total
    return found


def _interval(
    levels: Ints, modes: Ints, groups: Ints, resamples: int, seed: int
) -> tuple[float, float]:
    chance = np.random.default_rng(seed)
    number = int(groups.max()) + 1
    drawn = chance.integers(number, size=(resamples, number))
    times = np.stack([np.bincount(row, minlength=number) for row in drawn])
    found = _spearman(times[:, groups].astype(np.float64), levels, modes)
    # A resample that drew one group only has no correlation (NaN).
    low, high = np.nanquantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
