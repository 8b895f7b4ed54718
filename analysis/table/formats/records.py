"""A table for programs: a record per cell, with numbers as numbers."""

from itertools import chain

from scipy.special import stdtrit

from analysis.read.knobs import comparable
from analysis.table.model import Cell, Column, Row, Table
from occse.naming.labels import NO_VALUE

NUMBERS = ("mean", "std", "n", "planned", "status")
MORE = ("unit", "low", "high", "baseline")
# Names for people of row and column; in front of them stand the keys.
LABELS = ("row_label", "column_label")
# Shown only where a cell has them.
OPTIONAL = ("delta", "chosen")
# Headings above names that are words, whatever digits they have.
IN_WORDS = ("variant", "experiment", "step")
Value = str | int | float | bool | None


def record_heads(table: Table) -> list[str]:
    """Return the names of the values of a record."""
    # All our columns have the same knobs. One of the paper has none, and is never the first.
    across = [name for name, _ in table.columns[0].knobs]
    return [
        *table.keys,
        *_own_knobs(table),
        *across,
        "metric",
        *NUMBERS,
        *MORE,
        *optional_parts(table),
        *LABELS,
    ]


def records(table: Table) -> list[list[Value]]:
    """Return the values of each cell, row by row.

    Scores and their deviations are in percent, as in the table, in full precision; `low` and `high`
    are the ends of the 95 % t-interval of the mean over seeds. A knob has the value that all trials
    of the row have, and none where it has no effect there.
    """
    lines = []
    for row in table.rows:
        lines += [
            _record(cell, column, row, table)
            for cell, column in zip(row.cells, table.columns, strict=True)
        ]
    return lines


def interval_of(cell: Cell) -> tuple[float | None, float | None]:
    """Return the 95 % t-interval of a cell's mean over seeds; nothing for one seed."""
    if cell.mean is None or cell.std is None:
        return None, None
    # Student's quantile. `scipy.stats` has it too, and takes much longer to import.
    reach = float(stdtrit(cell.n - 1, 0.975)) * cell.std / cell.n**0.5
    return cell.mean - reach, cell.mean + reach


def _record(cell: Cell, column: Column, row: Row, table: Table) -> list[Value]:
    number = len(table.columns[0].knobs)
    # the paper's numbers hold for other knobs than ours
    across = [plain_value(value) for _, value in column.knobs] or [None] * number
    return [
        *names_of(row, table),
        *(row.knobs.get(knob) for knob in _own_knobs(table)),
        *across,
        column.metric,
        *(getattr(cell, name) for name in NUMBERS),
        "%" if column.score else "",
        *interval_of(cell),
        row.baseline,
        *(getattr(cell, name) for name in optional_parts(table)),
        ", ".join(row.labels),
        column.label,
    ]


def names_of(row: Row, table: Table) -> list[Value]:
    """Return the names of a row; a value of a knob that is a number is one."""
    return [
        name if head in IN_WORDS else plain_value(name)
        for head, name in zip(table.heads, row.names, strict=True)
    ]


def plain_value(name: str) -> Value:
    """Return the shown value of a knob as a number, if it is one, and None for no value."""
    if name == NO_VALUE:
        return None
    value = comparable(name)
    return value if isinstance(value, int | float | bool) else name


def _own_knobs(table: Table) -> list[str]:
    """Return the knobs of the rows that differ, without those that stand in a column anyway."""
    knobs: dict[str, None] = {}
    for row in table.rows:
        knobs |= dict.fromkeys(row.knobs)
    named = {*table.keys, *(name for name, _ in table.columns[0].knobs)}
    return [knob for knob in knobs if knob not in named]


def optional_parts(table: Table) -> list[str]:
    """Return those of `OPTIONAL` that any cell has; a difference of exactly 0 is one."""
    cells = list(chain.from_iterable(row.cells for row in table.rows))
    given = {part: [getattr(cell, part) for cell in cells] for part in OPTIONAL}
    return [part for part, values in given.items() if not set(values) <= {None, ""}]
