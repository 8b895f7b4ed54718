"""What a report is made of, whatever it is printed as: sections of texts, grids, pictures and
listings.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from matplotlib.figure import Figure

NUMBER = re.compile(r"[-+−]?\d[\d,]*\.?\d*")
WORD = re.compile(r"[^\W\d_]+")
RULE = re.compile(r"\|(\s*:?-+:?\s*\|)+")


@dataclass(frozen=True, kw_only=True)
class GridCell:
    """A cell of a grid.

    Attributes:
        text: as it is printed. sort: what it is sorted by; None for its text. link: where it comes
        from: `#` and the id of a place in the report, or MLflow's page; empty for none. best,
        second: how it is marked.
    """

    text: str
    sort: float | None = None
    link: str = ""
    best: bool = False
    second: bool = False


@dataclass(frozen=True, kw_only=True)
class Text:
    """Paragraphs, below a heading of their own if there is a title."""

    paragraphs: Sequence[str]
    title: str = ""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A table that can be sorted by its columns, with a name for its files, a caption, and notes
    below.

    `ids` are anchors of the rows, empty where nothing points at them. `latex` and `csv` are its
    files where these say more than the grid does."""

    name: str
    caption: str
    heads: Sequence[str]
    rows: Sequence[Sequence[GridCell]]
    notes: Sequence[str] = ()
    ids: Sequence[str] = ()
    latex: str = ""
    csv: str = ""

    @property
    def numeric(self) -> tuple[bool, ...]:
        """By column, whether it is flush right: it has numbers and nothing else but signs."""
        columns = zip(*self.rows, strict=True) if self.rows else [()] * len(self.heads)
        return tuple(
            any(cell.sort is not None for cell in column)
            and all(cell.sort is not None or len(cell.text) < 10 for cell in column)
            for column in columns
        )


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A figure, with what it shows for those who cannot see it."""

    name: str
    caption: str
    alt: str
    figure: Figure = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Listing:
    """Lines as they are, such as a command."""

    text: str


Block: TypeAlias = Text | Grid | Picture | Listing


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the report with a heading, `key` being its anchor."""

    key: str
    title: str
    blocks: Sequence[Block]


def cell(text: object) -> GridCell:
    """A cell that is sorted by the number its text starts with, where it has no words but `to`
    beside it.
    """
    words = str(text)
    found = None if set(WORD.findall(words)) - {"to"} else NUMBER.match(words.lstrip("<> "))
    number = float(found[0].replace(",", "").replace("−", "-")) if found else None
    return GridCell(text=words, sort=number)


def from_markdown(text: str, *, name: str, captions: Sequence[str]) -> list[Grid]:
    """The tables of a text that a command of `analysis` prints, each with what stands below it as
    its notes.

    Where there are more tables than captions, these start again. A line in front that begins with
    something bold says which part of the sweep the tables below it are of."""
    grids: list[Grid] = []
    part = ""
    for lines in (
        paragraph.splitlines() for paragraph in re.split(r"\n\s*\n", text.replace("`", "").strip())
    ):
        if lines[0].startswith("**"):
            part = f" ({lines[0].replace('**', '').rstrip('.')})"
            continue
        rows = [_split(line) for line in lines if line.startswith("|") and not RULE.fullmatch(line)]
        notes = [line for line in lines if not line.startswith("|")]
        if rows:
            number = f"_{len(grids) + 1}" if grids else ""
            grids.append(
                _grid(rows, name=name + number, caption=captions[len(grids) % len(captions)] + part)
            )
        grids[-1:] = [replace(grid, notes=[*grid.notes, *notes]) for grid in grids[-1:]]
    return grids


def _grid(rows: Sequence[Sequence[str]], *, name: str, caption: str) -> Grid:
    heads, *others = rows
    return Grid(
        name=name,
        caption=caption,
        heads=[head or "remark" for head in heads],
        rows=[[cell(text) for text in row] for row in others],
    )


def _split(line: str) -> list[str]:
    """The cells of a line of a Markdown table."""
    return [part.strip().replace(r"\|", "|") for part in re.split(r"(?<!\\)\|", line.strip())[1:-1]]
