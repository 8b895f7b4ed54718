"""A table as an Excel file: for reading, for programs, and its notes, a sheet each.

Numbers are numbers and texts are texts everywhere: no cell holds a number as a text, and Excel runs
no text as a formula."""

import io
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, product
from math import isfinite

from openpyxl import Workbook
from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE
from openpyxl.styles import Font
from openpyxl.utils import get_column_letter
from openpyxl.worksheet.worksheet import Worksheet

from analysis.table.formats.cell_texts import header_texts, name_texts
from analysis.table.formats.legend import legend, summary
from analysis.table.formats.markdown import MARKDOWN
from analysis.table.formats.records import (
    OPTIONAL,
    Value,
    names_of,
    optional_parts,
    record_heads,
    records,
)
from analysis.table.model import Row, Table

PLAIN = replace(MARKDOWN, escape=lambda text: " ".join(text.split()), second_is="underlined")
# Parts of a cell, and what they are called behind the heading.
PARTS = {
    "mean": "",
    "std": "std",
    "n": "n",
    "status": "status",
    "delta": "difference",
    "chosen": "chosen",
}
# Characters. A narrower column hides its heading, a wider one leaves the screen.
WIDTHS = (10, 60)


def xlsx(table: Table) -> bytes:
    """Return the content of the file.

    In the sheet `table` mean, deviation, number of seeds, ... of a column stand side by side, in
    full precision. A cell without a mean is empty, and its status says why. The sheet `data` has a
    line for each cell, as the CSV has.
    """
    book = Workbook()
    sheet = book.active
    sheet.title = "table"
    headings = header_texts(table, PLAIN)
    names, columns = headings[: len(table.heads)], headings[len(table.heads) + 1 :]
    parts = _parts(table)
    titles = [f"{column} {PARTS[part]}".strip() for column, part in product(columns, parts)]
    _append(sheet, [*names, "n", *titles])
    for row in table.rows:
        values = [getattr(cell, part) for cell, part in product(row.cells, parts)]
        _append(sheet, [*_names(row, table), row.seeds, *values])
        _format(sheet, row, table, step=len(parts))
    _finish(sheet, names=len(table.heads))
    data = book.create_sheet("data")
    _append(data, record_heads(table))
    for record in records(table):
        _append(data, record)
    _finish(data, names=1)
    notes = book.create_sheet("notes")
    for note in filter(
        None, (table.title, *legend(table, PLAIN), *summary(table, PLAIN), *table.failures)
    ):
        _append(notes, [note])
    content = io.BytesIO()
    book.save(content)
    return content.getvalue()


def _names(row: Row, table: Table) -> list[Value]:
    """Return the names of a row for people; a number stays one, without a mark of the baseline."""
    # A knob without a value is None among the values, and a dash among the names.
    shown = name_texts(row, PLAIN)
    values = names_of(row, table)
    return [
        text if isinstance(value, str | None) else value
        for text, value in zip(shown, values, strict=True)
    ]


def _parts(table: Table) -> list[str]:
    """Return the parts of cells that the table needs."""
    cells = list(chain.from_iterable(row.cells for row in table.rows))
    needed = set(optional_parts(table))
    if any(cell.status != "done" for cell in cells):
        needed.add("status")
    return [part for part in PARTS if part in needed or part not in (*OPTIONAL, "status")]


def _finish(sheet: Worksheet, *, names: int) -> None:
    """Set the widths of the columns, and keep headings and names in view."""
    for cell in sheet[1]:
        cell.font = Font(bold=True)
    sheet.freeze_panes = sheet.cell(row=2, column=names + 1)
    for index, cells in enumerate(sheet.columns, start=1):
        # A float has more digits than the cell shows. The heading is a text, so one is left.
        longest = max(
            len(str(cell.value or "")) for cell in cells if not isinstance(cell.value, float)
        )
        width = min(max(longest, WIDTHS[0]), WIDTHS[1])
        sheet.column_dimensions[get_column_letter(index)].width = width


def _append(sheet: Worksheet, values: Sequence[Value]) -> None:
    """Append a row in which text stays text: Excel runs what begins with `=` as a formula."""
    sheet.append([storable(value) for value in values])
    for cell in sheet[sheet.max_row]:
        if isinstance(cell.value, str):
            # openpyxl decides by the first character, so the type is set again after the value.
            cell.data_type = "s"


def _format(sheet: Worksheet, row: Row, table: Table, *, step: int) -> None:
    """Show as many digits as the other formats, the best in bold, the second underlined."""
    for index, (cell, column) in enumerate(zip(row.cells, table.columns, strict=True)):
        # openpyxl counts from 1, and the number of seeds stands behind the names.
        first = len(table.heads) + 2 + step * index
        for offset in range(step):
            entry = sheet.cell(sheet.max_row, first + offset)
            if isinstance(entry.value, float):
                entry.number_format = "0.0" if column.score else "0.000"
        sheet.cell(sheet.max_row, first).font = Font(
            bold=cell.best, underline="single" if cell.second else None
        )


def storable(value: Value) -> Value:
    """Return a value that a file of Excel can hold: no control characters, no infinity."""
    if isinstance(value, str):
        return str(ILLEGAL_CHARACTERS_RE.sub("", value))
    if isinstance(value, float) and not isfinite(value):
        return None
    return value
