"""The results table: groups of trials against metrics or knobs, mean and sample standard deviation
over seeds.

`build` makes one frozen `Table`, and the modules of `formats` print it, so their numbers agree."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import pandas as pd

from analysis.table.digits import rounded
from occse.naming.labels import Labels

# Columns of `load` with the number of parts of a batch, by stage.
PARTS = "accumulated."
# Measures that are fractions; of `iou/<class>` the first part counts.
SCORES = frozenset({"miou", "miou_multi", "iou", "precision", "recall"})

Knob = str | int | float | bool | None
# done: all seeds have the metric. failed: a trial without it failed. pending: one has not ended.
# stopped: a gate ended all that lack it. unscored: all ended well, without truth for this stage.
# empty: no trial of the row plans the stage. unknown: no number of the paper holds for the row.
Status = Literal["done", "failed", "pending", "stopped", "unscored", "empty", "unknown"]


@dataclass(frozen=True, kw_only=True)
class Source:
    """A run behind the number of a cell; `fingerprint` is that of the artifact that was scored."""

    run_id: str
    experiment_id: str
    seed: int
    sha: str
    fingerprint: str


@dataclass(frozen=True, kw_only=True)
class Column:
    """A metric, of those trials that have the knobs `knobs`. A score is shown in percent, higher is
    better.

    Attributes:
        metric: name in MLflow, or of the paper's number.
        name: the metric for people.
        label: heading.
        narrow_label: heading where room is short.
        score: anything else is shown as it was logged.
        knobs: names and values that the column stands for, where knobs make the columns.
        pixel_truth: sentences, what was chosen with pixel ground truth for these numbers.
        mixed: sentences, what differs between the rows of this column beside what their names say.
        paper: sentences, where the paper's numbers come from; empty for a column of ours.
    """

    metric: str
    name: str
    label: str
    narrow_label: str
    score: bool
    knobs: tuple[tuple[str, str], ...] = ()
    pixel_truth: tuple[str, ...] = ()
    mixed: tuple[str, ...] = ()
    paper: tuple[str, ...] = ()

    @property
    def field(self) -> str:
        """The stage of the metric."""
        return self.metric.partition("/")[0]

    @property
    def places(self) -> int:
        """The number of printed decimals."""
        return 1 if self.score else 3

    def text(self, value: float) -> str:
        """Return `value` as it is printed."""
        return rounded(value, self.places)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A metric of a group of trials. `status` is the worst of its seeds: a cell can be failed and
    still have a mean.

    Attributes:
        n: distinct artifacts that have the metric, of `planned`; `mean` needs one, `std` (ddof = 1)
            needs two.
        best, second: whether the mean is the highest, or the next, of its metric as printed; ties
            included.
        delta: difference to the row that the table compares with.
        chosen: values of the knobs of which the best were chosen; empty where nothing was chosen.
        sources: the runs behind the mean.
    """

    status: Status
    n: int = 0
    planned: int = 0
    mean: float | None = None
    std: float | None = None
    best: bool = False
    second: bool = False
    delta: float | None = None
    chosen: str = ""
    sources: tuple[Source, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Row:
    """A group of trials.

    Attributes:
        names: as programs read them.
        labels: the same for people, without what all rows share.
        parts: the same for people, one for each of the table's `part_titles`.
        knobs: values of the knobs that differ between the rows; None where the trials of this row
            differ in it, or do not have it.
        baseline: the others are compared with it.
        seeds: number of seeds of its trials.
        cells: one for each column.
    """

    names: tuple[str, ...]
    labels: tuple[str, ...]
    baseline: bool
    seeds: int
    cells: tuple[Cell, ...]
    parts: tuple[str, ...] = ()
    knobs: Mapping[str, Knob] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Table:
    """Everything a rendering shows: `heads` of the row's names, columns, rows and what stands below
    them.

    `keys` are the heads as programs know them: a knob has its stage. `titles` are the heads for
    people; `part_titles` are the knobs that the names of variants tell, for a table with a column
    for each of them, empty where names tell none. `notes` are sentences on how the numbers came
    about; `runs` counts trials by their status in MLflow."""

    title: str
    experiments: tuple[str, ...]
    heads: tuple[str, ...]
    keys: tuple[str, ...]
    titles: tuple[str, ...]
    part_titles: tuple[str, ...]
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    common: tuple[str, ...]
    notes: tuple[str, ...]
    runs: Mapping[str, int]
    left_out: int
    failures: tuple[str, ...]


def mark(rows: Sequence[Row], columns: Sequence[Column]) -> tuple[Row, ...]:
    """Mark the best and the second of each score, compared as printed: what reads the same is
    equally good.

    Columns of one metric are judged together. A second needs three numbers.
    """
    best, second = set[tuple[int, str]](), set[tuple[int, str]]()
    for metric in {column.metric for column in columns if column.score and not column.paper}:
        # The paper's numbers are of other data or hardware than ours, and would take the mark of
        # the best.
        places = [
            place
            for place, column in enumerate(columns)
            if column.metric == metric and not column.paper
        ]
        printed: list[tuple[int, str]] = []
        for row in rows:
            means = [(place, row.cells[place].mean) for place in places]
            printed += [
                (place, columns[place].text(mean)) for place, mean in means if mean is not None
            ]
        # By the printed text: of two that read 61.3 a reader could not see why one is bold.
        ranked = sorted({float(text) for _, text in printed}, reverse=True)
        # Without any number `ranked` is empty, and so is the loop that would index it.
        best |= {each for each in printed if float(each[1]) == ranked[0]}
        if len(printed) > 2 and len(ranked) > 1:
            second |= {each for each in printed if float(each[1]) == ranked[1]}

    def marked(place: int, cell: Cell) -> Cell:
        key = (place, columns[place].text(cell.mean) if cell.mean is not None else "")
        return replace(cell, best=key in best, second=key in second)

    return tuple(
        replace(row, cells=tuple(marked(place, cell) for place, cell in enumerate(row.cells)))
        for row in rows
    )


def with_deltas(
    rows: Sequence[Row], columns: Sequence[Column], *, to: str | None
) -> tuple[Row, ...]:
    """Write behind each mean how it differs from the row before, or from the baseline."""
    baseline = next((row for row in rows if row.baseline), None)
    references = {"previous": [None, *rows[:-1]], "baseline": [baseline] * len(rows)}.get(
        to or "", [None] * len(rows)
    )

    def cells(row: Row, reference: Row | None) -> tuple[Cell, ...]:
        if reference is None or row is reference:
            return row.cells
        return tuple(
            cell
            if column.paper or cell.mean is None or other.mean is None
            else replace(cell, delta=cell.mean - other.mean)
            for cell, other, column in zip(row.cells, reference.cells, columns, strict=True)
        )

    return tuple(
        replace(row, cells=cells(row, reference))
        for row, reference in zip(rows, references, strict=True)
    )


def in_parts(trials: pd.DataFrame, labels: Labels) -> tuple[str, ...]:
    """Return a sentence for each stage whose trainings had a GPU too small for a whole batch."""
    found = {
        name.partition(".")[2]: trials[name].dropna()
        for name in trials.columns
        if name.startswith(PARTS)
    }
    return tuple(
        f"{labels.stage(field)}: in {len(parts)} of {len(trials)} trials each batch went through "
        f"the network in {max(parts):.0f} parts, because the GPU was too small. The results differ "
        "by the order of sums, by what dropout drew and by what a trained batch norm saw."
        for field, parts in found.items()
        if len(parts)
    )


def is_score(metric: str) -> bool:
    """Tell whether a metric is a fraction of which more is better."""
    return metric.partition("@")[0].partition("/")[2].partition("/")[0] in SCORES


def failures(trials: pd.DataFrame, labels: Mapping[tuple[str, str], str]) -> tuple[str, ...]:
    """Return a line for each failed trial: variant, seed, stage and reason.

    Args:
        labels: names of the variants, by experiment and variant.
    """
    lines = []
    for trial in trials[trials["status"] == "FAILED"].to_dict("records"):
        # One line stands below the table; the run in MLflow has the whole message.
        reason = next(iter(trial["error"].splitlines()), "no message")
        if not reason.startswith(trial["failed"]):
            reason = f"{trial['failed']}: {reason}"
        lines.append(
            f"{labels[trial['experiment'], trial['variant']]}, seed {trial['seed']}: {reason}"
        )
    return tuple(lines)
