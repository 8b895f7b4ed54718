"""The lines below a table: the meaning of its marks, and where its numbers come from."""

from collections.abc import Iterator, Mapping
from itertools import chain

from analysis.table.formats.cell_texts import Notation
from analysis.table.model import Cell, Status, Table
from analysis.table.pixel_truth import NOT_KNOWN
from occse.naming.counts import number

MEANING: Mapping[Status, str] = {
    "failed": "failed",
    "pending": "pending: not there yet",
    "stopped": "stopped by a gate",
    "unscored": "where the trials ended well and had no pixel truth for this stage",
    "empty": "empty: no such trial, or it does not have this stage",
    "unknown": "not known",
}
# With more seeds an agreement to the printed digit says that the spread is small.
FEW_SEEDS = 3


def legend(table: Table, notation: Notation) -> list[str]:
    """Return the meaning of the glyphs and marks of this table; nothing where it has none."""
    used = {cell.status for cell in _cells(table)}
    glyphs = [
        f"{notation.glyphs[status]} {notation.escape(text)}"
        for status, text in MEANING.items()
        if status in used
    ]
    lines = ["; ".join(glyphs) + "."] if glyphs else []
    for use in dict.fromkeys(chain.from_iterable(column.pixel_truth for column in table.columns)):
        metrics = list(
            dict.fromkeys(column.name for column in table.columns if use in column.pixel_truth)
        )
        verb = "is" if len(metrics) == 1 else "are"
        if use == NOT_KNOWN:
            verb = "may be"
        note = f"{use}: {', '.join(metrics)} {verb} more than image labels alone can give."
        lines.append(f"{notation.dagger} {notation.escape(note)}")
    paper = chain.from_iterable(column.paper for column in table.columns)
    lines += [f"Paper, {notation.escape(line)}." for line in paper]
    mixed = dict.fromkeys(chain.from_iterable(column.mixed for column in table.columns))
    lines += [
        f"{notation.section} {notation.escape(line)}: these numbers cannot be compared."
        for line in mixed
    ]
    return lines


def summary(table: Table, notation: Notation) -> list[str]:
    """Return sentences on what the numbers are and which runs they come from."""
    numbers = (
        f"Mean {notation.plus_minus} sample standard deviation over n seeds; scores in percent."
    )
    if any(cell.best for cell in _cells(table)):
        seconds = any(cell.second for cell in _cells(table))
        second = f", the second {notation.second_is}" if seconds else ""
        numbers += f" The best mean of a metric is bold{second}, ties as printed."
    runs = ", ".join(f"{count} {status.lower()}" for status, count in table.runs.items())
    lines = [numbers]
    if _agrees_by_luck(table):
        lines.append(
            f"{notation.plus_minus} 0.0: the seeds agree to the digit that is printed; of two or "
            "three seeds that is luck, not a small spread."
        )
    # Headings of knobs alone do not say what the numbers are.
    if metrics := {
        column.name
        for column in table.columns
        if column.knobs and not column.label.startswith(column.name)
    }:
        lines.append(f"The numbers are {notation.escape(', '.join(sorted(metrics)))}.")
    lines += [notation.escape(note) for note in table.notes]
    if table.common:
        lines.append(f"All variants: {notation.escape(', '.join(table.common))}.")
    noun = "Experiments" if len(table.experiments) > 1 else "Experiment"
    experiments = f"{noun} {notation.escape(', '.join(table.experiments))}"
    all_runs = number(sum(table.runs.values()), "trial")
    lines.append(f"{experiments}: {all_runs} ({runs}).")
    if table.left_out:
        left = number(table.left_out, "trial")
        lines.append(f"Left out: {left} that the sweep's file no longer asks for.")
    return lines


def _agrees_by_luck(table: Table) -> bool:
    """Return True if a deviation of two or three seeds is printed as zero."""
    for row in table.rows:
        for cell, column in zip(row.cells, table.columns, strict=True):
            # Judged by what is printed, as the reader sees it.
            is_few = cell.std is not None and cell.n <= FEW_SEEDS
            # `is_few` rules None out; `or` tells it to the type checker.
            if is_few and column.score and float(column.text(cell.std or 0.0)) == 0:
                return True
    return False


def _cells(table: Table) -> Iterator[Cell]:
    return chain.from_iterable(row.cells for row in table.rows)
