"""A table and the answers of studies on a terminal: aligned, with the best mean in bold."""

from collections.abc import Sequence
from dataclasses import replace

from analysis.table.digits import with_minus
from analysis.table.formats.cell_texts import header_texts, row_texts
from analysis.table.formats.legend import legend, summary
from analysis.table.formats.markdown import MARKDOWN
from analysis.table.grid import Grid, Passage, passages_text
from analysis.table.model import Table
from occse.naming import terminal
from occse.naming.terminal import BOLD, PLAIN, UNDERLINED, visible

TERMINAL = replace(
    MARKDOWN,
    escape=lambda text: visible(" ".join(text.split())),
    bold=lambda text: f"{BOLD}{text}{PLAIN}",
    second=lambda text: f"{UNDERLINED}{text}{PLAIN}",
    second_is="underlined",
    minus="−",
)


def on_terminal(table: Table) -> str:
    """Return a table with its notes for a terminal that shows styles."""
    header = [TERMINAL.bold(text) for text in header_texts(table, TERMINAL)]
    is_number = [index >= len(table.heads) for index in range(len(header))]
    failures = [f"{TERMINAL.glyphs['failed']} {failure}" for failure in table.failures]
    notes = [*legend(table, TERMINAL), *summary(table, TERMINAL), *failures]
    title = [TERMINAL.bold(table.title), ""] if table.title else []
    lines = terminal.table(header, row_texts(table, TERMINAL), is_number=is_number)
    return "\n".join([*title, *lines, "", *notes]) + "\n"


def passages_on_terminal(passages: Sequence[Passage]) -> str:
    """Return the answers of a study for a terminal that shows styles."""
    return passages_text(passages, bold=TERMINAL.bold, show=_grid)


def _grid(grid: Grid) -> str:
    header = [TERMINAL.bold(head) for head in grid.heads]
    rows = [[_cell(cell.text, is_best=cell.best) for cell in row] for row in grid.rows]
    return "\n".join(terminal.table(header, rows, is_number=grid.numeric))


def _cell(text: str, *, is_best: bool) -> str:
    words = with_minus(TERMINAL.escape(text))
    return TERMINAL.bold(words) if is_best else words
