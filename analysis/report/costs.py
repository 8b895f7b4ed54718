"""How long the stages took, and how much of that was saved by making what trials share once."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from analysis.report.blocks import Block, Section, Text
from analysis.report.material import Material
from analysis.report.words import hours, listed, percent
from analysis.table.grid import Grid, GridCell, cell


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of one stage, or of all.

    Attributes:
        artifacts: distinct ones, counted at the first of the fields that use them.
        uses: by trials.
        once_s: seconds that the artifacts took.
        gpu_s: those times the GPUs that they took, NaN where that was not recorded.
        each_s: seconds if every trial had made its own.
    """

    stage: str
    artifacts: int
    uses: int
    once_s: float
    gpu_s: float
    each_s: float


def stage_costs(trials: pd.DataFrame) -> list[Cost]:
    """By stage, in the order of the pipeline; none where MLflow has no seconds by stage."""
    found, seen = list[Cost](), set[str]()
    for field in (
        str(name).removeprefix("seconds.")
        for name in trials.columns
        if str(name).startswith("seconds.")
    ):
        seconds, artifact = f"seconds.{field}", f"fingerprint.{field}"
        known = trials[trials[seconds].notna() & trials[artifact].notna()]
        own = known[~known[artifact].duplicated() & ~known[artifact].isin(list(seen))]
        seen |= set(own[artifact])
        gpus = own.get(f"gpus.{field}", pd.Series(math.nan, index=own.index))
        found.append(
            Cost(
                stage=field,
                artifacts=len(own),
                uses=len(known),
                once_s=float(own[seconds].sum()),
                gpu_s=float((own[seconds] * gpus).sum(skipna=False)),
                each_s=float(known[seconds].sum()),
            )
        )
    return found


def total(costs: list[Cost]) -> Cost:
    """All stages together."""
    return Cost(
        stage="all",
        artifacts=sum(each.artifacts for each in costs),
        uses=sum(each.uses for each in costs),
        once_s=sum(each.once_s for each in costs),
        gpu_s=sum(each.gpu_s for each in costs),
        each_s=sum(each.each_s for each in costs),
    )


def cost_text(trials: pd.DataFrame) -> Iterator[str]:
    """In words; of old runs, which do not tell the seconds of every stage, by their sums. Nothing
    where none tells.
    """
    spent, saved = trials["spent_s"].sum(), trials["saved_s"].sum()
    if costs := stage_costs(trials):
        every = total(costs)
        gpus = (
            "how much of it on GPUs is not recorded"
            if math.isnan(every.gpu_s)
            else f"{hours(every.gpu_s)} of GPUs"
        )
        share = percent(1 - every.once_s / every.each_s) if every.each_s else "0"
        yield (
            f"What these trials rest on took {hours(every.once_s)} of stages ({gpus}). Had every trial made its own, "
            f"it would have been {hours(every.each_s)}: {share} % were saved by sharing."
        )
    elif spent + saved:
        share = percent(saved / (spent + saved))
        yield (
            f"{hours(spent)} of stages were run for these trials. {hours(saved)} more, {share} % of what they rest on, "
            "were not: trials share stages, or the store had them."
        )


def cost(material: Material) -> Section | None:
    """By stage and in words; None where no run tells."""
    trials = material.current
    paragraphs = list(cost_text(trials))
    if not paragraphs:
        return None
    if devices := sorted({device for device in trials["devices"].dropna() if device}):
        paragraphs.append(f"Devices: {listed(devices)}.")
    blocks: list[Block] = [Text(paragraphs=paragraphs)]
    if costs := stage_costs(trials):
        heads = [
            "stage",
            "artifacts",
            "uses",
            "made once",
            "GPU time of that",
            "without sharing",
            "saved",
        ]
        rows = [_line(each) for each in (*costs, total(costs))]
        note = "An artifact that several fields use, such as a CRF at one alpha, counts where it stands first."
        blocks.append(
            Grid(name="cost", caption="Stage time, by stage", heads=heads, rows=rows, notes=[note])
        )
    return Section(key="cost", title="Cost", blocks=blocks)


def _line(each: Cost) -> list[GridCell]:
    times = (each.once_s, each.gpu_s, each.each_s, each.each_s - each.once_s)
    return [
        cell(each.stage),
        cell(each.artifacts),
        cell(each.uses),
        *(
            GridCell(text="unknown") if math.isnan(time) else GridCell(text=hours(time), sort=time)
            for time in times
        ),
    ]
