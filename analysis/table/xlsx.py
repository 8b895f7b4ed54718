"""A `Table` as an Excel file: numbers as numbers, and the notes on a second sheet."""

import io
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, product

from openpyxl import Workbook
from openpyxl.styles import Font
from openpyxl.utils import get_column_letter
from openpyxl.worksheet.worksheet import Worksheet

from analysis.table.markdown import MARKDOWN, header_texts, legend, name_texts, summary
from analysis.table.model import Cell, Row, Table

PLAIN = replace(MARKDOWN, escape=lambda text: " ".join(text.split()), second_is="underlined")
# and what is in the heading
PARTS = {"mean": "", "std": "std", "n": "n", "delta": "difference", "chosen": "chosen"}
# Characters. A narrower column hides its heading, a wider one leaves the screen.
WIDTHS = (10, 60)
Value = str | int | float | None


def xlsx(table: Table) -> bytes:
    """Return the content of the file.

    Mean, deviation, number of seeds, ... of a column stand side by side, in full precision. A cell
    without a mean has the word of its status in the place of the mean.
    """
    book = Workbook()
    sheet = book.active
    sheet.title = "table"
    headings = header_texts(table, PLAIN)
    names, columns = headings[: len(table.heads)], headings[len(table.heads) + 1 :]
    cells = list(chain.from_iterable(row.cells for row in table.rows))
    parts = [
        part
        for part in PARTS
        if part not in ("delta", "chosen") or any(getattr(cell, part) for cell in cells)
    ]
    titles = [f"{column} {PARTS[part]}".strip() for column, part in product(columns, parts)]
    _append(sheet, [*names, "n", *titles])
    for row in table.rows:
        values = [_value(cell, part) for cell, part in product(row.cells, parts)]
        _append(sheet, [*name_texts(row, PLAIN), row.seeds, *values])
        _format(sheet, row, table, step=len(parts))
    for cell in sheet[1]:
        cell.font = Font(bold=True)
    sheet.freeze_panes = sheet.cell(row=2, column=len(table.heads) + 1)
    for place, cells in enumerate(sheet.columns, start=1):
        longest = max(
            len(str(cell.value or "")) for cell in cells if not isinstance(cell.value, float)
        )
        sheet.column_dimensions[get_column_letter(place)].width = min(
            max(longest, WIDTHS[0]), WIDTHS[1]
        )
    notes = book.create_sheet("notes")
    for note in filter(
        None, (table.title, *legend(table, PLAIN), *summary(table, PLAIN), *table.failures)
    ):
        _append(notes, [note])
    content = io.BytesIO()
    book.save(content)
    return content.getvalue()


def _value(cell: Cell, part: str) -> Value:
    value: Value = getattr(cell, part)
    return cell.status if part == "mean" and value is None else value


def _append(sheet: Worksheet, values: Sequence[Value]) -> None:
    """Append a row in which text stays text: Excel runs what begins with `=` as a formula."""
    sheet.append(list(values))
    for cell in sheet[sheet.max_row]:
        if isinstance(cell.value, str):
            # openpyxl decides by the first character, so the type is set again after the value.
            cell.data_type = "s"


def _format(sheet: Worksheet, row: Row, table: Table, *, step: int) -> None:
    """Show as many digits as the other formats, the best in bold, the second underlined."""
    for place, (cell, column) in enumerate(zip(row.cells, table.columns, strict=True)):
        first = len(table.heads) + 2 + step * place
        for offset in range(step):
            entry = sheet.cell(sheet.max_row, first + offset)
            if isinstance(entry.value, float):
                entry.number_format = "0.0" if column.score else "0.000"
        sheet.cell(sheet.max_row, first).font = Font(
            bold=cell.best, underline="single" if cell.second else None
        )
