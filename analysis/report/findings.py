"""Results that the report tells in words and again in its tables: computed once."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from analysis.read.artifact_ids import distinct
from analysis.read.artifacts import counts_of
from analysis.report.material import Sweep
from analysis.statistics.bootstrap import Interval, interval
from analysis.statistics.seed_design import design
from analysis.studies.compare import Comparison, compare_pairs, pair_up
from analysis.studies.expectations import Judgement, expectations, judge


@dataclass(frozen=True, kw_only=True)
class Best:
    """The variant with the highest mean of a stage's mIoU, a fraction.

    Attributes:
        variant: its name.
        mean: over its seeds.
        std: sample standard deviation over its seeds; None for one seed.
        seeds: distinct artifacts behind the mean.
        interval: None where the runs have no counts.
        rivals: number of variants that have the score, those with the same artifacts counted once.
        is_baseline: the others are compared with it.
    """

    variant: str
    mean: float
    std: float | None
    seeds: int
    interval: Interval | None
    rivals: int
    is_baseline: bool


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The results of one scored stage of one sweep.

    Attributes:
        stage: its field.
        metric: its score for people.
        best: the variant with the highest mean.
        comparisons: of the others with the baseline.
        multi: the same on the images with several classes, where ways of erasing differ at all;
            empty without such images.
        why_not: the reason why there are no comparisons, empty where there are.
    """

    stage: str
    metric: str
    best: Best
    comparisons: Sequence[Comparison]
    multi: Sequence[Comparison]
    why_not: str

    @property
    def of_best(self) -> Comparison | None:
        """The comparison of the best variant with the baseline."""
        for comparison in self.comparisons:
            if self.best.variant in (comparison.variant, *comparison.same):
                return comparison
        return None


def finding(sweep: Sweep, stage: str, *, tracking: str | None) -> Finding:
    """Compare the variants of a sweep by a stage that has a score."""
    comparisons: list[Comparison] = []
    multi: list[Comparison] = []
    why_not = ""
    try:
        paired = pair_up(sweep.trials, stage, tracking=tracking)
        comparisons = compare_pairs(paired, stage, tracking=tracking)
        multi = compare_pairs(paired, stage, tracking=tracking, subset="multi")
    except ValueError as error:
        # Without images of several classes the second comparison fails alone, and the first one
        # stands.
        why_not = "" if comparisons else str(error)
    return Finding(
        stage=stage,
        metric=sweep.labels.score(stage),
        best=_best(sweep.trials, stage, tracking),
        comparisons=comparisons,
        multi=multi,
        why_not=why_not,
    )


def judgements(sweep: Sweep, *, tracking: str | None) -> list[Judgement]:
    """Judge the expectations of the sweep's file; none where it states none that can be checked."""
    claims = expectations(sweep.name, tracking=tracking)
    return judge(sweep.trials, claims, tracking=tracking)


def _best(trials: pd.DataFrame, stage: str, tracking: str | None) -> Best:
    metric = f"{stage}/miou"
    scored = trials[trials[metric].notna()]
    means = scored.groupby("variant", sort=False)[metric].mean()
    group = distinct(scored[scored["variant"] == means.idxmax()], stage)
    return Best(
        variant=str(means.idxmax()),
        mean=float(group[metric].mean()),
        std=float(group[metric].std(ddof=1)) if len(group) > 1 else None,
        seeds=len(group),
        interval=_interval(group, stage, tracking),
        rivals=distinct(scored, stage)["variant"].nunique(),
        is_baseline=bool(group["baseline"].any()),
    )


def _interval(group: pd.DataFrame, stage: str, tracking: str | None) -> Interval | None:
    try:
        counts = counts_of(group, stage, tracking=tracking)
        replicates = dict(enumerate(counts[run] for run in group["run_id"]))
        return interval(replicates, design=design(group, stage))
    # Without counts, as of many imported runs, the mean stands without an interval.
    except ValueError:
        return None
