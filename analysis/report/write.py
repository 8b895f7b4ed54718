"""All files of a report: one HTML page that needs no other, and beside it tables, figures and a PDF
for a paper.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

from openpyxl import Workbook
from openpyxl.styles import Font

from analysis.figures.style import save
from analysis.report.blocks import Block, Picture, Section, leaves_of
from analysis.report.page import page
from analysis.report.tex import compile_pdf, document
from analysis.report.tex_table import table_file
from analysis.table.formats.csv_file import inert
from analysis.table.formats.xlsx import storable
from analysis.table.grid import Grid
from analysis.table.grid_numbers import number_columns

# The longest name that Excel allows for a sheet.
SHEET_NAME = 31


def write_report(
    title: str, sections: Sequence[Section], folder: Path, *, made: datetime, server: str = ""
) -> Iterator[str]:
    """Write all files into `folder`, and yield a line about each kind.

    Args:
        title: of the report.
        sections: its parts.
        folder: made where there is none.
        made: when the report was made.
        server: address of MLflow's pages for the links of runs; empty where none is known.
    """
    tables = folder / "tables"
    figures = folder / "figures"
    tables.mkdir(parents=True, exist_ok=True)
    figures.mkdir(parents=True, exist_ok=True)
    blocks = list(leaves_of(sections))
    stamp = f"Made {made.astimezone(UTC):%Y-%m-%d %H:%M} UTC."
    index = folder / "index.html"
    index.write_text(page(title, sections, made=stamp, server=server), encoding="utf-8")
    yield f"{index}: the report, in one file"
    for block in blocks:
        _write(block, folder)
    book = folder / "report.xlsx"
    book.write_bytes(workbook([block for block in blocks if isinstance(block, Grid)]))
    yield f"{tables}, {figures}, {book}: tables and figures one by one"
    source = folder / "report.tex"
    source.write_text(document(title, sections, made=stamp), encoding="utf-8")
    fault = compile_pdf(source)
    paper = folder / "report.pdf"
    yield f"{paper}: no PDF, since {fault}" if fault else f"{paper}: the same on paper"


def to_csv(grid: Grid) -> str:
    """Return a grid with a number in each cell; no text is one that a spreadsheet would run.

    Headings are those for programs.
    """
    heads, rows = number_columns(grid, grid.keys or grid.heads)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(map(inert, heads))
    for row in rows:
        writer.writerow([inert(value) if isinstance(value, str) else value for value in row])
    return text.getvalue()


def workbook(grids: Sequence[Grid]) -> bytes:
    """Return an Excel file with a sheet per grid: numbers as numbers, text as text."""
    book = Workbook()
    # A new workbook comes with an empty sheet.
    book.remove(book.active)
    for grid, title in zip(grids, _sheet_names(grids), strict=True):
        sheet = book.create_sheet(title)
        heads, rows = number_columns(grid, grid.heads)
        sheet.append([storable(head) for head in heads])
        for row in rows:
            sheet.append([storable(value) for value in row])
        for head in sheet[1]:
            head.font = Font(bold=True)
        sheet.freeze_panes = "B2"
        for note in grid.notes:
            sheet.append([storable(note)])
        for cell in chain.from_iterable(sheet.iter_rows()):
            if isinstance(cell.value, str):  # Excel would run what begins with `=` as a formula
                cell.data_type = "s"
    content = io.BytesIO()
    book.save(content)
    return content.getvalue()


def _sheet_names(grids: Sequence[Grid]) -> list[str]:
    """Return a name for the sheet of each grid, none of them twice and none too long for Excel."""
    names: list[str] = []
    # Excel takes names that differ in the case of letters alone for the same.
    taken: set[str] = set()
    for grid in grids:
        name = grid.name[:SHEET_NAME]
        rank = 1
        while name.lower() in taken:
            rank += 1
            end = f"-{rank}"
            name = grid.name[: SHEET_NAME - len(end)] + end
        taken.add(name.lower())
        names.append(name)
    return names


def _write(block: Block, folder: Path) -> None:
    if isinstance(block, Grid):
        # The table of results has texts of its own, which say more than its grid shows.
        (folder / "tables" / f"{block.name}.tex").write_text(
            block.latex or table_file(block), encoding="utf-8"
        )
        (folder / "tables" / f"{block.name}.csv").write_text(
            block.csv or to_csv(block), encoding="utf-8"
        )
    elif isinstance(block, Picture):
        for suffix in ("pdf", "png"):
            save(block.figure, folder / "figures" / f"{block.name}.{suffix}")
