"""Build a `Table` from the trials of a sweep."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

import pandas as pd

from analysis.read.knobs import matching, thresholds_text
from analysis.read.labels import Naming, check_keys, knobs_of, labels_of
from analysis.read.pipeline import pipeline_of
from analysis.read.tidy import tidy
from analysis.read.yaml_file import Location, SpecError
from analysis.table.cells import make_cell
from analysis.table.comparability import mixed
from analysis.table.groups import (
    Group,
    column_groups,
    people_heads,
    row_groups,
    row_heads,
    row_keys,
    variant_labels,
)
from analysis.table.knob_columns import differing_knobs, name_parts
from analysis.table.model import Column, Row, Table, failures, in_parts, is_score, mark, with_deltas
from analysis.table.paper import with_paper
from analysis.table.pixel_truth import pixel_truth
from analysis.table.spec import TableSpec
from occse.naming.markup import join


def build(
    trials: pd.DataFrame, spec: TableSpec | None = None, *, allow_mixed: bool = False
) -> Table:
    """Build the table `spec` of `trials` (from `load`); by default variants against the mIoU of
    the scored stages.

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
    labels = labels_of(current).over(spec.labels)
    naming = Naming(labels=labels, knobs=knobs_of(current))
    metrics = spec.metrics or _planned(current)
    rows, common = row_groups(runs, spec, labels)
    across = column_groups(runs, spec, labels)
    columns: list[tuple[Column, Group]] = []
    for metric in metrics:
        columns += [(_column(metric, group, current, spec, naming), group) for group in across]
    table_rows = [_row(row, columns, spec) for row in rows]
    guarded = _guarded(table_rows, rows, columns, current, allow_mixed=allow_mixed)
    # Alphas in the names of rows and columns: `_notes` says which threshold each of them means.
    told = [group.told for group in (*rows, *(group for _, group in columns))]
    table_rows = list(with_deltas(table_rows, guarded, to=spec.delta))
    heads = row_heads(runs, spec)
    titles = people_heads(heads, runs, labels)
    part_titles, parts = name_parts(rows, runs, labels)
    knobs = differing_knobs(rows)
    table_rows = [
        replace(row, parts=own_parts, knobs=own_knobs)
        for row, own_parts, own_knobs in zip(table_rows, parts, knobs, strict=True)
    ]
    table = Table(
        title=spec.title,
        experiments=tuple(dict.fromkeys(current["experiment"])),
        heads=heads,
        keys=row_keys(runs, spec),
        titles=titles,
        # The last heading, "variant", gives way to the knobs in the names; "experiment" stays.
        part_titles=(*titles[:-1], *part_titles) if part_titles else (),
        columns=tuple(guarded),
        rows=mark(table_rows, guarded),
        common=common,
        notes=(*_notes(spec, table_rows, told, naming), *in_parts(current, labels)),
        runs={
            str(status): int(count)
            for status, count in current["status"].value_counts().sort_index().items()
        },
        left_out=int((~trials["current"]).sum()),
        failures=failures(current, variant_labels(runs, labels)[0]),
    )
    return with_paper(table, rows, current) if spec.paper else table


def _row(row: Group, columns: Sequence[tuple[Column, Group]], spec: TableSpec) -> Row:
    return Row(
        names=row.names,
        labels=row.labels,
        baseline=row.baseline,
        # A row holds each seed once for every column that a knob makes.
        seeds=len({run["seed"] for run in row.runs}),
        cells=tuple(make_cell(row, group, column, spec) for column, group in columns),
    )


def _selected(trials: pd.DataFrame, spec: TableSpec) -> pd.DataFrame:
    current = trials[trials["current"]]
    if current.empty:
        raise ValueError(
            f"the sweep no longer asks for any of its {len(trials)} trials; run it again"
        )
    _check_labels(spec, current)
    # Rows that a filter leaves out must not decide which metrics, columns and averages are allowed.
    if spec.where:
        runs = matching(current.to_dict("records"), spec.where, location=("where",))
        current = current[current["run_id"].isin([run["run_id"] for run in runs])]
    if current.empty:
        # `matching` has refused values that no trial has, so only their combination is missing.
        raise SpecError(("where",), "no trial has all of these values at once")
    _check(spec, current)
    return current


def _check_labels(spec: TableSpec, trials: pd.DataFrame) -> None:
    """Refuse a label of nothing that the trials have."""
    for key in spec.labels:
        try:
            check_keys([key], trials)
        except ValueError as error:
            raise SpecError(("labels", key), str(error)) from None


def _check(spec: TableSpec, trials: pd.DataFrame) -> None:
    """Refuse a metric that no trial logged.

    A stage that has not been scored yet may have any metric.
    """
    # Only metrics have a slash: the frame's other columns by stage have a point there.
    logged = sorted(name for name in trials.columns if "/" in name and trials[name].notna().any())
    planned = sorted(_planned_fields(trials))
    named: list[tuple[Location, str]] = [
        (("metrics", index), metric) for index, metric in enumerate(spec.metrics)
    ]
    if spec.best is not None:
        named.append((("best", "by"), spec.best.by))
    for location, metric in named:
        field = metric.partition("/")[0]
        if field not in planned:
            raise SpecError(
                location,
                f"metric {metric!r}: no trial has a stage {field!r}; "
                f"there are: {', '.join(planned)}",
            )
        siblings = [name for name in logged if name.startswith(f"{field}/")]
        # Of a stage that nobody has scored yet no metric is known: its cells are "pending", no
        # fault.
        if siblings and metric not in siblings:
            raise SpecError(
                location,
                f"no trial has a metric {metric!r}; of this stage there are: {', '.join(siblings)}",
            )


def _planned_fields(trials: pd.DataFrame) -> set[str]:
    return set[str]().union(*trials["planned"])


def _planned(trials: pd.DataFrame) -> tuple[str, ...]:
    """Return the mIoU of each planned stage that is scored, in pipeline order."""
    fields = _planned_fields(trials)
    scores = tuple(f"{field}/miou" for field in pipeline_of(trials).scored if field in fields)
    if scores:
        return scores
    others = sorted(name for name in trials.columns if name.partition("/")[0] in fields)
    shown = f"; --metric shows others: {', '.join(others)}" if others else ""
    raise ValueError(
        f"none of the stages that the sweep plans is scored ({', '.join(sorted(fields))}){shown}"
    )


def _column(
    metric: str, group: Group, trials: pd.DataFrame, spec: TableSpec, naming: Naming
) -> Column:
    # Without metrics in the spec every scored stage has columns: headings tell them apart.
    several = len(spec.metrics) != 1
    is_named = several or not group.told
    name = naming.labels.metric(metric)
    narrow = naming.labels.narrow_metric(metric)
    return Column(
        metric=metric,
        name=name,
        label=join(", ", filter(None, (name if is_named else "", group.heading))),
        narrow_label=join(", ", filter(None, (narrow if is_named else "", group.heading))),
        score=is_score(metric),
        knobs=tuple(zip(group.knobs, group.names, strict=True)),
        pixel_truth=pixel_truth(metric, trials, best=spec.best, naming=naming),
    )


def _guarded(
    rows: Sequence[Row],
    groups: Sequence[Group],
    columns: Sequence[tuple[Column, Group]],
    trials: pd.DataFrame,
    *,
    allow_mixed: bool,
) -> list[Column]:
    """Return the columns; those that mix what cannot be compared are marked.

    Raises:
        ValueError: there are such columns, and `allow_mixed` is false.
    """
    frame = tidy(trials)
    reasons: dict[str, tuple[str, ...]] = {}
    # Columns of one metric are read against each other, so they are guarded together.
    for metric in dict.fromkeys(column.metric for column, _ in columns):
        title = next(column.name for column, _ in columns if column.metric == metric)
        names = _names_of_runs(metric, rows, groups, columns)
        reasons[metric] = mixed(metric, frame, names, title=title)
    lines = list(chain.from_iterable(reasons.values()))
    if lines and not allow_mixed:
        raise ValueError(
            "\n".join(lines)
            + "\nthese numbers cannot be compared: put the knob into the rows or columns, "
            "fix it with --where, or show them with a mark by --allow-mixed"
        )
    return [replace(column, mixed=reasons[column.metric]) for column, _ in columns]


def _names_of_runs(
    metric: str,
    rows: Sequence[Row],
    groups: Sequence[Group],
    columns: Sequence[tuple[Column, Group]],
) -> dict[str, str]:
    """Return by run id what the names of its row and its column say of it."""
    names: dict[str, str] = {}
    for row, group in zip(rows, groups, strict=True):
        for cell, (column, across) in zip(row.cells, columns, strict=True):
            if column.metric != metric:
                continue
            told = ", ".join(filter(None, (group.told, across.told)))
            names |= dict.fromkeys((source.run_id for source in cell.sources), told)
    return names


def _notes(
    spec: TableSpec, rows: Sequence[Row], told: Sequence[str], naming: Naming
) -> tuple[str, ...]:
    notes: list[str] = []
    told = list(told)
    if spec.best is not None:
        shown = "/".join(map(naming.knob, spec.best.of))
        score = naming.labels.metric(spec.best.by)
        notes.append(
            f"In brackets: {shown}, of whose values the one with the best {score} is shown."
        )
        for cell in chain.from_iterable(row.cells for row in rows):
            # The alphas that `best` chose stand in cells, not in names; their thresholds are told
            # as well.
            if cell.chosen:
                told += map("=".join, zip(spec.best.of, cell.chosen.split("/"), strict=True))
    if spec.delta is not None:
        reference = "row above" if spec.delta == "previous" else "baseline"
        if any(cell.delta is not None for cell in chain.from_iterable(row.cells for row in rows)):
            notes.append(f"In parentheses: difference to the {reference}.")
        else:
            notes.append(
                f"No difference to the {reference} is shown: no row has one to be held against. "
                "Differences are between rows, so the baseline must be one of them."
            )
    return tuple(filter(None, (*notes, thresholds_text(told))))
