"""What the report says in words and again in its tables: computed once."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from analysis.read.artifact_ids import distinct
from analysis.read.artifacts import counts_of
from analysis.read.knobs import scored_stages
from analysis.statistics.bootstrap import Interval, interval
from analysis.statistics.seed_design import design
from analysis.studies.compare import Comparison, compare


@dataclass(frozen=True, kw_only=True)
class Best:
    """The variant with the highest mean of a stage's mIoU, a fraction.

    Attributes:
        std: None for one seed.
        interval: None where the runs have no counts.
        baseline: whether it is the one that the others are compared with.
        rivals: how many variants have that score, each artifact counted once.
    """

    variant: str
    mean: float
    std: float | None
    seeds: int
    interval: Interval | None
    rivals: int
    baseline: bool


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What one scored stage of one sweep says.

    Attributes:
        stage: its field. best: the variant with the highest score. comparisons: with the baseline.
        multi: the same on the images with several classes, where ways of erasing differ at all;
        none without any. why_not: why there are no comparisons, empty where there are.
    """

    stage: str
    best: Best
    comparisons: Sequence[Comparison]
    multi: Sequence[Comparison]
    why_not: str

    @property
    def of_best(self) -> Comparison | None:
        """The best variant against the baseline."""
        return next(
            (each for each in self.comparisons if self.best.variant in (each.variant, *each.same)),
            None,
        )


def findings(trials: pd.DataFrame, *, tracking: str | None) -> list[Finding]:
    """Of the trials of one sweep, by scored stage, upstream first; stages without a score yet are
    left out.
    """
    return [_finding(trials, stage, tracking) for stage in scored_stages(trials)]


def _finding(trials: pd.DataFrame, stage: str, tracking: str | None) -> Finding:
    comparisons, multi, why_not = list[Comparison](), list[Comparison](), ""
    try:
        comparisons = compare(trials, stage, tracking=tracking)
        multi = compare(trials, stage, tracking=tracking, subset="multi")
    except ValueError as error:
        why_not = "" if comparisons else str(error)
    return Finding(
        stage=stage,
        best=_best(trials, stage, tracking),
        comparisons=comparisons,
        multi=multi,
        why_not=why_not,
    )


def _best(trials: pd.DataFrame, stage: str, tracking: str | None) -> Best:
    metric = f"{stage}/miou"
    scored = trials[trials[metric].notna()]
    means = scored.groupby("variant", sort=False)[metric].mean()
    # variants that share their artifacts are one
    rivals = distinct(scored, stage)["variant"].nunique()
    group = distinct(scored[scored["variant"] == means.idxmax()], stage)
    try:
        counts = counts_of(group, stage, tracking=tracking)
        found = interval(
            dict(enumerate(counts[run] for run in group["run_id"])), design=design(group, stage)
        )
    except ValueError:
        found = None
    return Best(
        variant=str(means.idxmax()),
        mean=float(group[metric].mean()),
        std=float(group[metric].std(ddof=1)) if len(group) > 1 else None,
        seeds=len(group),
        interval=found,
        rivals=rivals,
        baseline=bool(group["baseline"].any()),
    )
