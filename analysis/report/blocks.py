"""What a report is made of, whatever it is printed as: sections of texts, grids, pictures and
listings.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from matplotlib.figure import Figure

from analysis.table.grid import Grid, Passage


@dataclass(frozen=True, kw_only=True)
class Text:
    """Paragraphs, below a heading of their own if there is a title."""

    paragraphs: Sequence[str]
    title: str = ""


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


def passage_blocks(passage: Passage, *, prefix: str = "", suffix: str = "") -> list[Text | Grid]:
    """Return a passage as blocks; its notes stand below its last grid.

    Args:
        passage: of a study.
        prefix: of titles and captions, such as the sweep's name.
        suffix: of the grids' names, by which their files are told apart.
    """
    blocks: list[Text | Grid] = []
    if passage.title or passage.lead:
        title = f"{prefix}{passage.title}" if passage.title else ""
        blocks.append(Text(title=title, paragraphs=passage.lead))
    grids = [
        replace(grid, name=grid.name + suffix, caption=prefix + grid.caption)
        for grid in passage.grids
    ]
    if grids:
        last = grids.pop()
        grids.append(replace(last, notes=[*last.notes, *passage.notes]))
        return [*blocks, *grids]
    if passage.notes:
        blocks.append(Text(paragraphs=passage.notes))
    return blocks
