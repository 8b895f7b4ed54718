"""The texts in the cells of a table: headings, names of rows, and means with their remarks.

Every format for readers takes them from here with a notation of its own, so all say the same."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from analysis.table.digits import signed
from analysis.table.model import Cell, Column, Row, Status, Table
from occse.naming.variants import marked_baseline

# Signs of cells without a number, in formats that have every letter.
GLYPHS: Mapping[Status, str] = {
    "failed": "✗",
    "pending": "…",
    "stopped": "⊘",
    "unscored": "no score",
    "empty": "–",
    "unknown": "?",
}


@dataclass(frozen=True, kw_only=True)
class Notation:
    """Signs of a format. `dagger` marks pixel ground truth, `section` what is not comparable."""

    escape: Callable[[str], str]
    bold: Callable[[str], str]
    second: Callable[[str], str]
    second_is: str
    plus_minus: str
    minus: str
    dagger: str
    section: str
    glyphs: Mapping[Status, str]


def header_texts(table: Table, notation: Notation) -> list[str]:
    """Return the headings, with a dagger for pixel ground truth and a section sign where rows
    cannot be compared.
    """
    columns = [heading_text(column, notation) for column in table.columns]
    return [*map(notation.escape, table.titles), "n", *columns]


def heading_text(column: Column, notation: Notation) -> str:
    """Return the heading of a column of numbers with its marks."""
    return notation.escape(column.label) + marks(column, notation)


def marks(column: Column, notation: Notation) -> str:
    """Return the marks behind a heading, which the legend explains."""
    dagger = notation.dagger if column.pixel_truth else ""
    section = notation.section if column.mixed else ""
    return dagger + section


def row_texts(table: Table, notation: Notation) -> list[list[str]]:
    """Return the cells below the header, names and number of seeds included."""
    return [
        [*name_texts(row, notation), str(row.seeds), *cell_texts(table, row, notation)]
        for row in table.rows
    ]


def name_texts(row: Row, notation: Notation) -> list[str]:
    """Return the names of a row."""
    *first, last = map(notation.escape, row.labels)
    return [*first, marked_baseline(row.labels[-1], shown=last) if row.baseline else last]


def cell_texts(table: Table, row: Row, notation: Notation) -> list[str]:
    """Return the numbers of a row."""
    return [
        cell_text(cell, column, row, notation)
        for cell, column in zip(row.cells, table.columns, strict=True)
    ]


def cell_text(cell: Cell, column: Column, row: Row, notation: Notation) -> str:
    """Return mean, deviation of two or more seeds, and the remarks that this cell needs."""
    if cell.mean is None:
        return notation.glyphs[cell.status]
    text = column.text(cell.mean)
    if cell.std is not None:
        text += f" {notation.plus_minus} {column.text(cell.std)}"
    if cell.best or cell.second:
        text = notation.bold(text) if cell.best else notation.second(text)
    return " ".join([text, *remarks(cell, column, row, notation)])


def remarks(cell: Cell, column: Column, row: Row, notation: Notation) -> list[str]:
    """Return what stands behind a mean: difference, choice, and a number of seeds of its own."""
    found = []
    if cell.delta is not None:
        found.append(f"({_signed(cell.delta, column, notation)})")
    if cell.chosen:
        found.append(notation.escape(f"[{cell.chosen}]"))
    if cell.n != cell.planned:
        # "done" has no glyph.
        glyph = notation.glyphs.get(cell.status, "")
        found.append(f"(n={cell.n} of {cell.planned} {glyph})")
    # A stage whose inputs do not depend on the seed has fewer artifacts than the row has seeds, and
    # the row's n would be taken for theirs.
    elif cell.n != row.seeds and not column.paper:
        found.append(f"(n={cell.n})")
    return found


def _signed(delta: float, column: Column, notation: Notation) -> str:
    return signed(delta, column.places).replace("-", notation.minus)
