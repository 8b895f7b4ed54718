"""The runs of two variants that are compared: paired by the seeds of their stages."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.read.artifact_ids import distinct
from analysis.read.artifacts import counted_stages
from analysis.read.counts import Floats
from analysis.read.knobs import scored_stages
from analysis.read.pipeline import pipeline_of
from analysis.statistics.seed_design import Design, design

OTHER = ".other"
OF_PAIR = frozenset({"run_id", "variant", "seed", "pipeline"})


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Runs of a system and of its reference, run by run with the same seeds.

    Attributes:
        system, reference: run ids by replicate.
        design: the seeds by stage of the replicates.
    """

    system: tuple[str, ...]
    reference: tuple[str, ...]
    design: Design

    def differences(self, scores: "pd.Series[float]") -> Floats:
        """Return (S,) differences of scores, which are given by run id."""
        system, reference = scores.loc[list(self.system)], scores.loc[list(self.reference)]
        return np.asarray(system.to_numpy(float) - reference.to_numpy(float))


def finished(trials: pd.DataFrame, field: str, *, tracking: str | None) -> pd.DataFrame:
    """Return the finished trials that have a score of `field`, the baseline's first.

    Imported runs without counts per image can be tabled but not compared; they are left out.

    Raises:
        ValueError: no trial has such a stage.
    """
    if not any(field in planned for planned in trials["planned"]):
        known = ", ".join(scored_stages(trials)) or "none yet"
        raise ValueError(f"no trial has a stage {field!r}; expected a scored one: {known}")
    rows = trials[trials["current"] & (trials["status"] == "FINISHED")]
    metric = f"{field}/miou"
    if len(rows) and metric not in rows:
        known = ", ".join(scored_stages(trials)) or "none"
        raise ValueError(
            f"no trial has {metric}, as where the images have no masks; scored stages: {known}"
        )
    if metric in rows:
        rows = rows[rows[metric].notna()]
    # Only imported runs are asked: each question is a request to the tracking server.
    is_imported = rows["imported"].fillna("") != ""
    uncounted = [
        run
        for run in rows.loc[is_imported, "run_id"]
        if field not in counted_stages(run, tracking=tracking)
    ]
    rows = rows[~rows["run_id"].isin(uncounted)]
    # The baseline first, so that `sharing` names variants with its artifacts after the baseline.
    return rows.sort_values("baseline", ascending=False, kind="stable")


def pairs_with_baseline(trials: pd.DataFrame, field: str) -> dict[str, Pair]:
    """Return each other variant beside the baseline; seeds that share an artifact count once.

    Raises:
        ValueError: there is no baseline, or nothing else, or a variant shares no seed with it.
    """
    trials = _narrow(trials, "baseline", f"fingerprint.{field}")
    baseline, others = trials[trials["baseline"]], trials[~trials["baseline"]]
    if baseline.empty or others.empty:
        raise ValueError(
            f"expected finished trials of a baseline and of other variants with artifacts of their "
            f"own; there are {len(baseline)} and {len(others)}"
        )
    return {
        str(variant): pair_of(group, baseline, field)
        for variant, group in others.groupby("variant", sort=False)
    }


def pair_of(system: pd.DataFrame, reference: pd.DataFrame, field: str) -> Pair:
    """Return runs with equal seeds of all stages that both variants have.

    A baseline without CGNet stands beside every CGNet.

    Raises:
        ValueError: no run of one has the seeds of a run of the other.
    """
    system, reference = (_narrow(distinct(each, field)) for each in (system, reference))
    seeds = [f"seed.{stage}" for stage in pipeline_of(system).seeded(field)]
    common = [name for name in seeds if _has(system, name) and _has(reference, name)]
    if min(len(system), len(reference)) == 1:
        # One artifact, which no seed of the other variant can change, stands beside all of its.
        runs = system.merge(reference, how="cross", suffixes=("", OTHER))
    else:
        runs = system.merge(reference, on=common or ["seed"], suffixes=("", OTHER))
    if runs.empty:
        raise ValueError(
            f"{system['variant'].iloc[0]}: no run has the seeds of a run of "
            f"{reference['variant'].iloc[0]}"
        )
    # A baseline without CGNet takes the CGNet seeds of its partners: the pair's design is that of
    # the side that has them.
    for name in seeds:
        if name + OTHER in runs:
            runs[name] = runs[name].fillna(runs[name + OTHER])
    return Pair(
        system=tuple(runs["run_id"]),
        reference=tuple(runs["run_id" + OTHER]),
        design=design(runs, field),
    )


def _narrow(rows: pd.DataFrame, *more: str) -> pd.DataFrame:
    """Return the columns that make a pair, and `more` of those that there are.

    Groups and merges copy all columns, of which a sweep has hundreds.
    """
    wanted = OF_PAIR.union(more)
    return rows[[name for name in rows.columns if name in wanted or name.startswith("seed.")]]


def _has(rows: pd.DataFrame, column: str) -> bool:
    return column in rows and bool(rows[column].notna().all())
