"""The parts of a report, whatever it is printed as: texts, grids, pictures, listings, and what the
page alone can show.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

from matplotlib.figure import Figure

from analysis.table.digits import with_minus
from analysis.table.grid import Grid, GridCell, Passage


@dataclass(frozen=True, kw_only=True)
class Text:
    """Paragraphs, below a heading of their own if there is a title."""

    paragraphs: Sequence[str]
    title: str = ""


@dataclass(frozen=True, kw_only=True)
class Quote:
    """Words of the sweep's file, with a label of what they are."""

    label: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A figure, with a description for those who cannot see it."""

    name: str
    caption: str
    alt: str
    figure: Figure = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Listing:
    """Lines as they are, such as a command."""

    text: str


@dataclass(frozen=True, kw_only=True)
class Widget:
    """A part that readers act on; only the page has it, and only with its script.

    Attributes:
        kind: `explorer` (plots of all runs) or `gallery` (images by variant and stage).
        data: everything that the script shows, as JSON can hold it.
        without: a sentence for readers without a script.
    """

    kind: Literal["explorer", "gallery"]
    data: Mapping[str, Any]
    without: str


@dataclass(frozen=True, kw_only=True)
class Beside:
    """Blocks that belong together: side by side where there is room."""

    blocks: Sequence["Block"]


@dataclass(frozen=True, kw_only=True)
class Folded:
    """Details that open on demand; on paper they are open."""

    title: str
    blocks: Sequence["Block"]


Block: TypeAlias = Text | Quote | Grid | Picture | Listing | Widget | Beside | Folded


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the report with a heading, `key` being its anchor."""

    key: str
    title: str
    blocks: Sequence[Block]


def leaves(blocks: Sequence[Block]) -> Iterator[Block]:
    """Yield the blocks without those that only arrange others."""
    for block in blocks:
        if isinstance(block, Beside | Folded):
            yield from leaves(block.blocks)
        else:
            yield block


def leaves_of(sections: Sequence[Section]) -> Iterator[Block]:
    """Yield the blocks of all sections without those that only arrange others."""
    for section in sections:
        yield from leaves(section.blocks)


def beside(*blocks: Block | None) -> list[Block]:
    """Return the blocks that there are, side by side if they are several."""
    found = [block for block in blocks if block is not None]
    return [Beside(blocks=found)] if len(found) > 1 else found


def passage_blocks(passage: Passage, *, prefix: str = "", suffix: str = "") -> list[Block]:
    """Return a passage as blocks; its notes stand below its last grid.

    Args:
        passage: of a study.
        prefix: of titles and captions, such as the sweep's name.
        suffix: of the grids' names, by which their files are told apart.
    """
    blocks: list[Block] = []
    if passage.title or passage.lead:
        title = f"{prefix}{passage.title}" if passage.title else ""
        blocks.append(Text(title=title, paragraphs=passage.lead))
    grids = [
        replace(
            grid,
            name=grid.name + suffix,
            caption=prefix + grid.caption,
            rows=[list(map(_with_minus, row)) for row in grid.rows],
        )
        for grid in passage.grids
    ]
    if grids:
        last = grids.pop()
        grids.append(replace(last, notes=[*last.notes, *passage.notes]))
        return [*blocks, *grids]
    if passage.notes:
        blocks.append(Text(paragraphs=passage.notes))
    return blocks


def _with_minus(cell: GridCell) -> GridCell:
    """Return a cell whose negative numbers have a minus sign, not a hyphen."""
    return replace(cell, text=with_minus(cell.text))


def method_block(passages: Sequence[Passage]) -> list[Block]:
    """Return the methods of the passages, each once and folded; nothing where they have none."""
    lines: dict[str, None] = {}
    for passage in passages:
        lines |= dict.fromkeys(passage.method)
    if not lines:
        return []
    return [Folded(title="Method", blocks=[Text(paragraphs=list(lines))])]
