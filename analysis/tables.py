"""The results table: one row per variant, mean and sample standard deviation over its seeds.

`build` makes one frozen `Table`; Markdown, CSV (`render.py`) and LaTeX (`latex.py`) print it, so their numbers agree.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import pandas as pd

METRICS = ("cam/miou", "crf/miou", "pseudo/miou", "seg/miou", "erase_and_infer/miou")
SCORES = frozenset({"miou", "miou_multi", "iou", "precision", "recall"})

Status = Literal["done", "failed", "pending", "empty"]


@dataclass(frozen=True, kw_only=True)
class Column:
    """One metric. A score is shown in percent, higher is better; anything else as it was logged.

    `pixel_truth` says what of this stage was chosen with pixel ground truth, e.g. "cam.threshold on train".
    """

    metric: str
    score: bool
    pixel_truth: tuple[str, ...] = ()

    def text(self, value: float) -> str:
        """`value` as it is printed."""
        return f"{value:.1f}" if self.score else f"{value:.3f}"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A metric of a variant. `status` is the worst of its seeds, so a cell can be failed and still have a mean.

    `n` seeds of `planned` have the metric; `mean` needs one of them, `std` (ddof = 1) two. `best` marks the highest
    mean of the column as printed, ties included.
    """

    status: Status
    n: int
    planned: int
    mean: float | None = None
    std: float | None = None
    best: bool = False


@dataclass(frozen=True, kw_only=True)
class Row:
    """A variant; `label` is its name without what all variants share."""

    variant: str
    label: str
    baseline: bool
    seeds: int
    cells: tuple[Cell, ...]


@dataclass(frozen=True, kw_only=True)
class Table:
    """Everything a rendering shows: rows, columns and what stands below them."""

    experiment: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    common: tuple[str, ...]
    runs: Mapping[str, int]
    left_out: int
    failures: tuple[str, ...]


def build(trials: pd.DataFrame, *, metrics: Sequence[str] = ()) -> Table:
    """Aggregate `trials` (from `load`) over seeds; `metrics` default to the mIoU of the scored stages that are planned.

    Trials that the sweep's file no longer asks for are left out.

    Raises:
        ValueError: the sweep asks for none of the trials, or none has a metric of that name, or none is scored.
    """
    current = trials[trials["current"]]
    if current.empty:
        raise ValueError(f"the sweep no longer asks for any of its {len(trials)} trials; run it again")
    _check(metrics, current)
    columns = tuple(_column(metric, current) for metric in dict.fromkeys(metrics or _planned(current)))
    if not columns:
        raise ValueError(_nothing_scored(current))
    groups = sorted(
        ((str(variant), group) for variant, group in current.groupby("variant")),
        key=lambda item: (item[1]["order"].min(), item[0]),
    )
    labels, common = _labels([variant for variant, _ in groups])
    by_column = [_mark_best([_cell(group, column) for _, group in groups], column) for column in columns]
    return Table(
        experiment=str(current["experiment"].iloc[0]),
        columns=columns,
        rows=tuple(
            Row(
                variant=variant,
                label=label,
                baseline=bool(group["baseline"].any()),
                seeds=len(group),
                cells=cells,
            )
            for label, (variant, group), cells in zip(labels, groups, zip(*by_column, strict=True), strict=True)
        ),
        common=common,
        runs={str(status): int(count) for status, count in current["status"].value_counts().sort_index().items()},
        left_out=len(trials) - len(current),
        failures=_failures(current, dict(zip((variant for variant, _ in groups), labels, strict=True))),
    )


def _planned(trials: pd.DataFrame) -> list[str]:
    fields = {field for fields in trials["planned"] for field in fields}
    return [metric for metric in METRICS if metric.partition("/")[0] in fields]


def _nothing_scored(trials: pd.DataFrame) -> str:
    fields = sorted({field for fields in trials["planned"] for field in fields})
    others = sorted(name for name in trials.columns if name.partition("/")[0] in fields)
    shown = f"; --metric shows others: {', '.join(others)}" if others else ""
    return f"none of the stages that the sweep plans is scored ({', '.join(fields)}){shown}"


def _check(metrics: Sequence[str], trials: pd.DataFrame) -> None:
    """A name that no trial logged is a slip, unless its stage has not been scored yet."""
    logged = sorted(name for name in trials.columns if "/" in name and not name.startswith("param."))
    planned = sorted({field for fields in trials["planned"] for field in fields})
    for metric in metrics:
        field = metric.partition("/")[0]
        if field not in planned:
            raise ValueError(f"metric {metric!r}: no trial has a stage {field!r}; there are: {', '.join(planned)}")
        siblings = [name for name in logged if name.startswith(f"{field}/")]
        if siblings and metric not in siblings:
            raise ValueError(f"no trial has a metric {metric!r}; of this stage there are: {', '.join(siblings)}")


def _column(metric: str, trials: pd.DataFrame) -> Column:
    field, _, name = metric.partition("/")
    uses = {use.strip() for text in trials["pixel_truth"] for use in text.split(",")}
    return Column(
        metric=metric,
        score=name.partition("/")[0] in SCORES,
        pixel_truth=tuple(sorted(use for use in uses if use.startswith(f"{field}."))),
    )


def _cell(group: pd.DataFrame, column: Column) -> Cell:
    field = column.metric.partition("/")[0]
    planned = group[[field in fields for fields in group["planned"]]]
    if planned.empty:
        return Cell(status="empty", n=0, planned=0)
    logged = planned.get(column.metric, pd.Series(float("nan"), index=planned.index)).notna()
    missing = planned.loc[~logged, "status"]
    status: Status = "done" if missing.empty else "failed" if (missing == "FAILED").any() else "pending"
    if not logged.any():
        return Cell(status=status, n=0, planned=len(planned))
    values = planned.loc[logged, column.metric].astype(float) * (100 if column.score else 1)
    return Cell(
        status=status,
        n=len(values),
        planned=len(planned),
        mean=float(values.mean()),
        std=float(values.std(ddof=1)) if len(values) > 1 else None,
    )


def _mark_best(cells: Sequence[Cell], column: Column) -> tuple[Cell, ...]:
    """Mark the highest mean of a score, compared as printed: what reads the same is equally good."""
    printed = [column.text(cell.mean) if column.score and cell.mean is not None else None for cell in cells]
    highest = max((float(text) for text in printed if text is not None), default=None)
    return tuple(
        replace(cell, best=text is not None and float(text) == highest)
        for cell, text in zip(cells, printed, strict=True)
    )


def _labels(variants: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
    """Drop the `knob=value` parts that all variants share; returns the labels and what was dropped."""
    # A value may hold a comma of its own (a list), so a part ends only where another knob begins.
    parts = [re.split(r", (?=[\w.*]+=)", variant) for variant in variants]
    common = [part for part in parts[0] if all(part in others for others in parts)] if len(parts) > 1 else []
    labels = [", ".join(part for part in own if part not in common) for own in parts]
    if all(labels) and len(set(labels)) == len(labels):
        return labels, tuple(common)
    return list(variants), ()


def _failures(trials: pd.DataFrame, labels: Mapping[str, str]) -> tuple[str, ...]:
    lines = []
    for _, trial in trials[trials["status"] == "FAILED"].sort_values(["order", "variant", "seed"]).iterrows():
        reason = next(iter(trial["error"].splitlines()), "no message")
        if not reason.startswith(trial["failed"]):
            reason = f"{trial['failed']}: {reason}"
        lines.append(f"{labels[trial['variant']]}, seed {trial['seed']}: {reason}")
    return tuple(lines)
