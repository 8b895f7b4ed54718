"""A `Table` as an Excel file: numbers as numbers, and the notes on a second sheet."""

import io
from collections.abc import Sequence

from openpyxl import Workbook
from openpyxl.styles import Font
from openpyxl.utils import get_column_letter
from openpyxl.worksheet.worksheet import Worksheet

from analysis.render import MARKDOWN, header_texts, legend, name_texts, summary
from analysis.tables import Row, Table

WIDTHS = (10, 60)  # in characters: no column narrower or wider
Values = Sequence[str | int | float | None]


def xlsx(table: Table) -> bytes:
    """The file's content. A column's mean, deviation and number of seeds stand side by side, in full precision.

    What has no mean has the word of its status in the mean's place.
    """
    book = Workbook()
    sheet = book.active
    sheet.title = "table"
    *names, _ = header_texts(table, MARKDOWN)[: len(table.heads) + 1]
    columns = header_texts(table, MARKDOWN)[len(table.heads) + 1 :]
    _append(sheet, [*names, "n", *(f"{column}{what}" for column in columns for what in ("", " std", " n"))])
    for row in table.rows:
        _append(sheet, _values(row))
        _format(sheet, row, table)
    for cell in sheet[1]:
        cell.font = Font(bold=True)
    sheet.freeze_panes = sheet.cell(row=2, column=len(table.heads) + 1)
    for place, cells in enumerate(sheet.columns, start=1):
        longest = max(len(str(cell.value or "")) for cell in cells if not isinstance(cell.value, float))
        sheet.column_dimensions[get_column_letter(place)].width = min(max(longest, WIDTHS[0]), WIDTHS[1])
    notes = book.create_sheet("notes")
    for note in (table.title, *legend(table, MARKDOWN), *summary(table, MARKDOWN), *table.failures):
        _append(notes, [note])
    content = io.BytesIO()
    book.save(content)
    return content.getvalue()


def _values(row: Row) -> Values:
    values: list[str | int | float | None] = [*name_texts(row, MARKDOWN), row.seeds]
    for cell in row.cells:
        values += [cell.status if cell.mean is None else cell.mean, cell.std, cell.n]
    return values


def _append(sheet: Worksheet, values: Values) -> None:
    """One more row, in which text stays text: Excel would run what begins with `=` as a formula."""
    sheet.append(list(values))
    for cell in sheet[sheet.max_row]:
        if isinstance(cell.value, str):
            cell.data_type = "s"


def _format(sheet: Worksheet, row: Row, table: Table) -> None:
    """As many digits as the other formats print, the best bold, the second underlined."""
    for place, (cell, column) in enumerate(zip(row.cells, table.columns, strict=True)):
        first = len(table.heads) + 2 + 3 * place
        for offset in (0, 1):
            sheet.cell(sheet.max_row, first + offset).number_format = "0.0" if column.score else "0.000"
        sheet.cell(sheet.max_row, first).font = Font(bold=cell.best, underline="single" if cell.second else None)
