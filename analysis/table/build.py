"""From the trials of a sweep to its `Table`."""

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from analysis.read.knobs import matching, thresholds_text
from analysis.read.pipeline import pipeline_of
from analysis.read.spec_error import Location, SpecError
from analysis.read.tidy import tidy
from analysis.table.cells import make_cell
from analysis.table.comparability import mixed
from analysis.table.groups import Group, column_groups, row_groups, row_heads, variant_labels
from analysis.table.model import Column, Row, Table, failures, in_parts, is_score, mark, with_deltas
from analysis.table.paper import with_paper
from analysis.table.pixel_truth import pixel_truth
from analysis.table.spec import TableSpec


def build(
    trials: pd.DataFrame, spec: TableSpec | None = None, *, allow_mixed: bool = False
) -> Table:
    """The table `spec` of `trials` (from `load`); by default variants against the mIoU of the
    scored stages.

    Trials that the sweep's file no longer asks for are left out.

    Args:
        trials: of one experiment or of several.
        spec: what the table shows.
        allow_mixed: mark a column of numbers that cannot be compared, rather than refuse it.

    Raises:
        ValueError: the sweep asks for none of the trials, or none has such a metric, or none is
            scored; a cell would average over more than seeds, or a column mixes what cannot be
            compared.
    """
    spec = spec or TableSpec()
    current = _selected(trials, spec)
    runs = current.to_dict("records")
    metrics = spec.metrics or _planned(current)
    rows, common = row_groups(runs, spec)
    columns = [
        (_column(metric, group, current, spec), group)
        for metric in metrics
        for group in column_groups(runs, spec)
    ]
    made = [_row(row, columns, spec) for row in rows]
    guarded = _guarded(made, rows, columns, current, allow_mixed=allow_mixed)
    told = [group.told for group in (*rows, *(group for _, group in columns))]
    table = Table(
        title=spec.title,
        experiments=tuple(dict.fromkeys(current["experiment"])),
        heads=row_heads(runs, spec),
        columns=tuple(guarded),
        rows=mark(with_deltas(made, guarded, to=spec.delta), guarded),
        common=common,
        notes=(*_notes(spec, made, told), *in_parts(current)),
        runs={
            str(status): int(count)
            for status, count in current["status"].value_counts().sort_index().items()
        },
        left_out=int((~trials["current"]).sum()),
        failures=failures(current, variant_labels(runs)[0]),
    )
    return with_paper(table, rows, current) if spec.paper else table


def _row(row: Group, columns: Sequence[tuple[Column, Group]], spec: TableSpec) -> Row:
    return Row(
        names=row.names,
        labels=row.labels,
        baseline=row.baseline,
        seeds=len({run["seed"] for run in row.runs}),
        cells=tuple(make_cell(row, group, column, spec) for column, group in columns),
    )


def _selected(trials: pd.DataFrame, spec: TableSpec) -> pd.DataFrame:
    current = trials[trials["current"]]
    if current.empty:
        raise ValueError(
            f"the sweep no longer asks for any of its {len(trials)} trials; run it again"
        )
    wanted = [
        run["run_id"]
        for run in matching(current.to_dict("records"), spec.where, location=("where",))
    ]
    current = current[current["run_id"].isin(wanted)]
    if current.empty:
        raise SpecError(("where",), "no trial has all of these values at once")
    _check(spec, current)
    return current


def _check(spec: TableSpec, trials: pd.DataFrame) -> None:
    """A name that no trial logged is a slip, unless its stage has not been scored yet."""
    logged = sorted(name for name in trials.columns if "/" in name and trials[name].notna().any())
    planned = sorted({field for fields in trials["planned"] for field in fields})
    named: list[tuple[Location, str]] = [
        (("metrics", place), metric) for place, metric in enumerate(spec.metrics)
    ]
    if spec.best is not None:
        named.append((("best", "by"), spec.best.by))
    for location, metric in named:
        field = metric.partition("/")[0]
        if field not in planned:
            raise SpecError(
                location,
                f"metric {metric!r}: no trial has a stage {field!r}; there are: {', '.join(planned)}",
            )
        siblings = [name for name in logged if name.startswith(f"{field}/")]
        if siblings and metric not in siblings:
            raise SpecError(
                location,
                f"no trial has a metric {metric!r}; of this stage there are: {', '.join(siblings)}",
            )


def _planned(trials: pd.DataFrame) -> tuple[str, ...]:
    fields = {field for fields in trials["planned"] for field in fields}
    if found := tuple(f"{field}/miou" for field in pipeline_of(trials).scored if field in fields):
        return found
    others = sorted(name for name in trials.columns if name.partition("/")[0] in fields)
    shown = f"; --metric shows others: {', '.join(others)}" if others else ""
    raise ValueError(
        f"none of the stages that the sweep plans is scored ({', '.join(sorted(fields))}){shown}"
    )


def _column(metric: str, group: Group, trials: pd.DataFrame, spec: TableSpec) -> Column:
    several = len(spec.metrics) != 1
    return Column(
        metric=metric,
        label=", ".join(filter(None, (metric if several or not group.told else "", group.told))),
        score=is_score(metric),
        knobs=tuple(zip(spec.columns, group.names, strict=True)),
        pixel_truth=pixel_truth(metric, trials, best=spec.best),
    )


def _guarded(
    rows: Sequence[Row],
    groups: Sequence[Group],
    columns: Sequence[tuple[Column, Group]],
    trials: pd.DataFrame,
    *,
    allow_mixed: bool,
) -> list[Column]:
    """The columns, those marked that mix what cannot be compared.

    Raises:
        ValueError: there are such columns, and nobody allowed them.
    """
    frame, found = tidy(trials), dict[str, tuple[str, ...]]()
    for metric in dict.fromkeys(column.metric for column, _ in columns):
        names = {
            source.run_id: ", ".join(filter(None, (group.told, over.told)))
            for row, group in zip(rows, groups, strict=True)
            for cell, (column, over) in zip(row.cells, columns, strict=True)
            if column.metric == metric
            for source in cell.sources
        }
        found[metric] = mixed(metric, frame, names)
    if not allow_mixed and (lines := [line for lines in found.values() for line in lines]):
        raise ValueError(
            "\n".join(lines)
            + "\nthese numbers cannot be compared: put the knob into the rows or columns, fix it with "
            "--where, or show them with a mark by --allow-mixed"
        )
    return [replace(column, mixed=found[column.metric]) for column, _ in columns]


def _notes(spec: TableSpec, rows: Sequence[Row], told: Sequence[str]) -> tuple[str, ...]:
    notes, best = [], spec.best
    if best is not None:
        shown = "/".join(best.of)
        notes.append(
            f"In brackets: {shown}, of whose values the one with the best {best.by} is shown."
        )
        picked = [cell.chosen.split("/") for row in rows for cell in row.cells if cell.chosen]
        told = [
            *told,
            *(
                f"{name}={value}"
                for values in picked
                for name, value in zip(best.of, values, strict=True)
            ),
        ]
    if spec.delta is not None:
        notes.append(
            f"In parentheses: difference to the {'row above' if spec.delta == 'previous' else 'baseline'}."
        )
    return tuple(filter(None, (*notes, thresholds_text(told))))
