"""The paper's numbers as a column beside ours, where they hold for the same data, split, network
and lambda.

They lie in `paper.yaml`, each with its source. A number is shown in a row that has a trial of just
what it was measured on; never beside the embedded data set, whose numbers mean something else."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import pandas as pd
import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter

from analysis.read.artifact_ids import Run
from analysis.read.knobs import PARAM, comparable
from analysis.read.tidy import tidy
from analysis.read.yaml_file import Value
from analysis.table.groups import Group
from analysis.table.model import Cell, Column, Table, is_score
from occse.naming.markup import join

NONE_HOLDS = (
    "None of the paper's numbers holds for these trials: "
    "they are of voc and coco, ResNet-38 and a lambda of 0.3 + 0.05 per epoch."
)
PATH = Path(__file__).parent / "paper.yaml"


class Number(BaseModel):
    """A published number, in percent, and what it is one of; no value where it was looked for and
    not found.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    metric: str
    data: str
    split: str
    where: dict[str, Value]
    value: float | None
    what: str
    source: str

    def holds_for(self, run: Run) -> bool:
        """Tell whether a row of the tidy frame was measured under the same conditions."""
        same = run["stage"] == self.metric.partition("/")[0] and (run["data"], run["split"]) == (
            self.data,
            self.split,
        )
        return same and all(
            comparable(run.get(PARAM + knob)) == comparable(value)
            for knob, value in self.where.items()
        )

    def sentence(self) -> str:
        """The number for a note."""
        return f"{self.value:.1f}: {self.what}, {self.data} {self.split}, ResNet-38; {self.source}"


@cache
def numbers() -> tuple[Number, ...]:
    """Return all published numbers of `paper.yaml`."""
    return tuple(
        TypeAdapter(list[Number]).validate_python(yaml.safe_load(PATH.read_text(encoding="utf-8")))
    )


def with_paper(table: Table, groups: Sequence[Group], trials: pd.DataFrame) -> Table:
    """Return `table` with the paper's number beside each metric that has one; the rows of the
    table are `groups` of `trials`.
    """
    runs: dict[tuple[str, str], Run] = {
        (run["run_id"], run["stage"]): run
        # A stage has a row for each subset. The paper's numbers are of all images.
        for run in tidy(trials).query("subset == 'all'").to_dict("records")
    }
    columns: list[Column] = []
    cells: list[list[Cell]] = [[] for _ in table.rows]
    # Where knobs make several columns of a metric, the paper's number stands once, behind the last.
    last = {column.metric: place for place, column in enumerate(table.columns)}
    for place, column in enumerate(table.columns):
        columns.append(column)
        found = [
            _of_row(column.metric, runs, group) if last[column.metric] == place else None
            for group in groups
        ]
        # A `Number` holds a mapping and has no hash: a list drops repeats and keeps the order.
        known = [each for index, each in enumerate(found) if each and each not in found[:index]]
        for own, row, number in zip(cells, table.rows, found, strict=True):
            own += [row.cells[place], *([_cell(number)] if known else [])]
        if known:
            columns.append(_column(column, known))
    return replace(
        table,
        columns=tuple(columns),
        rows=tuple(
            replace(row, cells=tuple(own)) for row, own in zip(table.rows, cells, strict=True)
        ),
        notes=table.notes if len(columns) > len(table.columns) else (*table.notes, NONE_HOLDS),
    )


def _of_row(metric: str, runs: Mapping[tuple[str, str], Run], group: Group) -> Number | None:
    stage = metric.partition("/")[0]
    own = [runs[key] for run in group.runs if (key := (run["run_id"], stage)) in runs]
    known = (number for number in numbers() if number.metric == metric and number.value is not None)
    return next((number for number in known if any(number.holds_for(run) for run in own)), None)


def _cell(number: Number | None) -> Cell:
    return Cell(status="unknown") if number is None else Cell(status="done", mean=number.value)


def _column(ours: Column, known: Sequence[Number]) -> Column:
    return Column(
        metric=ours.metric,
        name=ours.name,
        label=join(" ", (ours.name, "(paper)")),
        narrow_label=join(" ", (ours.narrow_label, "(paper)")),
        score=is_score(ours.metric),
        paper=tuple(number.sentence() for number in known),
    )
