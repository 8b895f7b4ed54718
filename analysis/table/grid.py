"""Texts in rows and columns, whatever they are printed as: Markdown here, LaTeX, HTML, CSV and XLSX
elsewhere.

A study answers with `Passage`s. A command prints them as Markdown, the report as a page, so both
say the same.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain

from occse.naming.terminal import column_widths, padded, visible

# Start of a tag, which a page that shows Markdown would obey; "p < 0.05" is none.
TAG = re.compile(r"<(?=[A-Za-z/!?])")
NUMBER = re.compile(r"[-+−]?\d[\d,]*\.?\d*")
WORD = re.compile(r"[^\W\d_]+")
# A text of ten characters or more beside numbers is a remark, and a column of remarks is read from
# the left.
LONGEST_SIGN = 9


@dataclass(frozen=True, kw_only=True)
class GridCell:
    """A cell of a grid.

    Attributes:
        text: as it is printed.
        key: of what the text is a name, as files and commands call it; empty where `text` is that.
        sort: the number that it is sorted by; None sorts by the text.
        link: `#` and an id in the report; empty for none.
        run: ids of an experiment and a run of MLflow, parted by a slash; empty for none. The page
            of the run depends on where MLflow is shown.
        best, second: how the cell is marked.
    """

    text: str
    key: str = ""
    sort: float | None = None
    link: str = ""
    run: str = ""
    best: bool = False
    second: bool = False


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A table of texts.

    Attributes:
        name: of its files.
        caption: one line above it.
        heads: headings of the columns.
        keys: the same as programs know them, such as `seg/miou`; empty where they are the same.
        rows: the cells, as many in each row as there are headings.
        notes: sentences below it.
        ids: anchors of the rows, empty where nothing points at them.
        latex, csv: contents of its files where these say more than the grid does.
    """

    name: str
    caption: str
    heads: Sequence[str]
    rows: Sequence[Sequence[GridCell]]
    keys: Sequence[str] = ()
    notes: Sequence[str] = ()
    ids: Sequence[str] = ()
    latex: str = ""
    csv: str = ""

    @cached_property
    def numeric(self) -> tuple[bool, ...]:
        """By column, True if it holds only numbers and short signs: it is flush right."""
        return tuple(
            _is_numeric([row[index] for row in self.rows]) for index in range(len(self.heads))
        )


@dataclass(frozen=True, kw_only=True)
class Passage:
    """Part of a study's answer.

    Attributes:
        title: the part of the sweep that it is about; empty for the whole sweep.
        lead: sentences before the grids.
        grids: tables.
        notes: sentences on the numbers above them.
        method: sentences on how the numbers were made, the same for every sweep.
    """

    title: str = ""
    lead: Sequence[str] = ()
    grids: Sequence[Grid] = ()
    notes: Sequence[str] = ()
    method: Sequence[str] = ()


def cell(text: object) -> GridCell:
    """Return a cell that is sorted by the number at its start, if it has no words but `to`."""
    words = str(text)
    # "3 variants" is a remark that starts with a number; "1.2 to 3.4" is an interval.
    is_prose = bool(set(WORD.findall(words)) - {"to"})
    # "< 0.001" is sorted as its bound.
    found = None if is_prose else NUMBER.match(words.lstrip("<> "))
    number = float(found[0].replace(",", "").replace("−", "-")) if found else None
    return GridCell(text=words, sort=number)


def named(text: str, key: str) -> GridCell:
    """Return a cell with a name for people of what programs know as `key`."""
    return replace(cell(text), key="" if key == text else key)


def text_grid(
    name: str,
    caption: str,
    heads: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    keys: Sequence[str] = (),
) -> Grid:
    """Return a grid of texts, each sorted by its number if it starts with one; cells stay."""
    return Grid(
        name=name,
        caption=caption,
        heads=heads,
        rows=[[each if isinstance(each, GridCell) else cell(each) for each in row] for row in rows],
        keys=keys,
    )


def passages_markdown(passages: Sequence[Passage]) -> str:
    """Return the passages as GitHub Markdown, with methods that several share printed once."""
    return passages_text(passages, bold=lambda text: f"**{text}**", show=grid_markdown)


def passages_text(
    passages: Sequence[Passage], *, bold: Callable[[str], str], show: Callable[[Grid], str]
) -> str:
    """Return the passages as text, with methods that several share printed once.

    Args:
        passages: of a study.
        bold: returns a title in the weight of titles.
        show: returns a grid as text.
    """
    paragraphs: list[str] = []
    for passage in passages:
        lead = " ".join(passage.lead)
        title = bold(passage.title) if passage.title else ""
        paragraphs += _paragraph([": ".join(filter(None, (title, lead)))])
        for grid in passage.grids:
            paragraphs += [show(grid), *_paragraph(grid.notes)]
        paragraphs += _paragraph(passage.notes)
    # A dict keeps the first of equal texts, and their order.
    methods = dict.fromkeys(chain.from_iterable(passage.method for passage in passages))
    paragraphs += _paragraph(list(methods))
    return "\n\n".join(paragraphs)


def grid_markdown(grid: Grid) -> str:
    """Return the rows as a GitHub Markdown table, without caption and notes."""
    head = list(map(in_markdown, grid.heads))
    rows = [[in_markdown(cell.text) for cell in row] for row in grid.rows]
    return "\n".join(markdown_lines(head, rows, is_number=grid.numeric))


def markdown_lines(
    head: Sequence[str], rows: Sequence[Sequence[str]], *, is_number: Sequence[bool]
) -> list[str]:
    """Return the lines of a Markdown table whose columns are aligned as text, too.

    Args:
        head: headings, escaped.
        rows: texts, escaped.
        is_number: by column, True where it is flush right.
    """
    # three letters are the shortest rule that every Markdown takes
    widths = column_widths([head, *rows], least=3)
    rule = [
        f"{'-' * (width - 1)}:" if flush_right else f":{'-' * (width - 1)}"
        for width, flush_right in zip(widths, is_number, strict=True)
    ]
    lines = [padded(texts, widths, is_number) for texts in (head, rule, *rows)]
    return [f"| {' | '.join(texts)} |" for texts in lines]


def _is_numeric(column: Sequence[GridCell]) -> bool:
    # Signs alone make no column of numbers, and a long text makes it one of remarks.
    numbers = [cell for cell in column if cell.sort is not None]
    signs = [cell for cell in column if cell.sort is None]
    return bool(numbers) and all(len(cell.text) <= LONGEST_SIGN for cell in signs)


def _paragraph(lines: Sequence[str]) -> list[str]:
    text = "\n".join(lines)
    return [text] if text else []


def in_markdown(text: str) -> str:
    """Return a text as one cell of a Markdown table, in which a name is not HTML and no border."""
    # A line break or a bar in a name would end the row or the cell.
    text = visible(" ".join(text.split())).replace("|", r"\|")
    return TAG.sub(r"\<", text)
