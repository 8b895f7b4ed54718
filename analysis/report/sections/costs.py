"""Stage time, and how much of it was saved by making once what trials share."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from analysis.report.blocks import Block, Section, Text
from analysis.report.material import Material
from analysis.report.words import hours, percent
from analysis.table.grid import Grid, GridCell, cell, named
from occse.naming.counts import listed
from occse.naming.labels import Labels

SECONDS = "seconds."


@dataclass(frozen=True, kw_only=True)
class Cost:
    """The cost of one stage, or of all.

    Attributes:
        stage: its field, or "all".
        artifacts: distinct ones, counted at the first of the fields that use them.
        uses: by trials.
        once_s: seconds that the artifacts took.
        gpu_s: those times the GPUs that they took, NaN where that was not recorded.
        each_s: seconds if every trial had made its own, once for all of its fields.
    """

    stage: str
    artifacts: int
    uses: int
    once_s: float
    gpu_s: float
    each_s: float


def stage_costs(trials: pd.DataFrame) -> list[Cost]:
    """Return the costs in the order of the pipeline; none where MLflow has no seconds by stage."""
    columns = [str(name) for name in trials.columns if str(name).startswith(SECONDS)]
    costs: list[Cost] = []
    counted: set[str] = set()
    counted_by_trial: set[str] = set()
    for column in columns:
        stage = column.removeprefix(SECONDS)
        fingerprint = f"fingerprint.{stage}"
        known = trials[trials[column].notna() & trials[fingerprint].notna()]
        # Neither before in this column nor at an earlier field: two CRFs of one alpha are one
        # artifact.
        is_first = ~known[fingerprint].duplicated() & ~known[fingerprint].isin(list(counted))
        own = known[is_first]
        counted |= set(own[fingerprint])
        # Two CRFs of one alpha are one artifact in a trial by itself, too.
        by_trial = known["run_id"] + known[fingerprint]
        of_trial = known[~by_trial.isin(list(counted_by_trial))]
        counted_by_trial |= set(by_trial)
        gpus = own.get(f"gpus.{stage}", pd.Series(math.nan, index=own.index))
        costs.append(
            Cost(
                stage=stage,
                artifacts=len(own),
                uses=len(known),
                once_s=float(own[column].sum()),
                # A stage that does not tell its GPUs makes the sum NaN, not smaller.
                gpu_s=float((own[column] * gpus).sum(skipna=False)),
                each_s=float(of_trial[column].sum()),
            )
        )
    return costs


def total(costs: list[Cost]) -> Cost:
    """Return the cost of all stages together."""
    return Cost(
        stage="all",
        artifacts=sum(cost.artifacts for cost in costs),
        uses=sum(cost.uses for cost in costs),
        once_s=sum(cost.once_s for cost in costs),
        gpu_s=sum(cost.gpu_s for cost in costs),
        each_s=sum(cost.each_s for cost in costs),
    )


def cost_text(trials: pd.DataFrame) -> Iterator[str]:
    """Yield the cost in words; of old runs, without seconds of every stage, by their sums.

    Nothing where no run tells.
    """
    costs = stage_costs(trials)
    if costs:
        every = total(costs)
        # NaN counts as true here, and is told apart below.
        gpus = f"{hours(every.gpu_s)} of GPU time" if every.gpu_s else "none of it on a GPU"
        if math.isnan(every.gpu_s):
            gpus = "how much of it on GPUs is not recorded"
        saved = percent(1 - every.once_s / every.each_s) if every.each_s else "0"
        yield (
            f"The stages behind these trials took {hours(every.once_s)} ({gpus}). Had every trial "
            f"made its own, it would have been {hours(every.each_s)}: sharing saved {saved} %."
        )
        return
    spent = trials["spent_s"].sum()
    saved_s = trials["saved_s"].sum()
    if spent + saved_s:
        yield (
            f"{hours(spent)} of stages were run for these trials. {hours(saved_s)} more, "
            f"{percent(saved_s / (spent + saved_s))} % of what they rest on, were not: trials "
            "share stages, or the store had them."
        )


def cost(material: Material) -> Section | None:
    """Return the cost by stage and in words; None where no run tells."""
    trials = material.current
    paragraphs = list(cost_text(trials))
    if not paragraphs:
        return None
    devices = sorted({device for device in trials["devices"].dropna() if device})
    if devices:
        paragraphs.append(f"Devices: {listed(devices)}.")
    blocks: list[Block] = [Text(paragraphs=paragraphs)]
    costs = stage_costs(trials)
    if costs:
        blocks.append(_grid(costs, material.labels))
    return Section(key="cost", title="Cost", blocks=blocks)


def _grid(costs: list[Cost], labels: Labels) -> Grid:
    note = (
        "An artifact that several fields use, such as a CRF at one alpha, counts at the first of "
        "them."
    )
    return Grid(
        name="cost",
        caption="Stage time, by stage",
        heads=[
            "stage",
            "artifacts",
            "uses",
            "made once",
            "GPU time of that",
            "without sharing",
            "saved",
        ],
        rows=[_cells(each, labels) for each in (*costs, total(costs))],
        notes=[note],
    )


def _cells(own: Cost, labels: Labels) -> list[GridCell]:
    times = (own.once_s, own.gpu_s, own.each_s, own.each_s - own.once_s)
    stage = named(labels.stage(own.stage), own.stage)
    return [stage, cell(own.artifacts), cell(own.uses), *map(_time, times)]


def _time(seconds: float) -> GridCell:
    if math.isnan(seconds):
        return GridCell(text="unknown")
    return GridCell(text=hours(seconds), sort=seconds)
