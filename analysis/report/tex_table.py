"""A grid of the report as a LaTeX file of its own, which fits into a paper of two columns."""

from collections.abc import Sequence
from dataclasses import dataclass

from analysis.report.tex import LONG, marked
from analysis.table.formats.latex_letters import escape
from analysis.table.formats.latex_width import BUDGETS, SIZES, Width, ems, two_lines
from analysis.table.grid import Grid

SIZE = "footnotesize"
# Points on each side of a column.
SEPARATION = 3
# Points of a column of sentences, some twenty letters; narrower ones are a word a line.
LEAST_SENTENCES = 80
# Part of the room that sentences take: widths are estimated, and a little too much would make the
# whole table smaller.
SURE = 0.98


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """Widths of a table.

    Attributes:
        budget: what it is made for.
        room: points of each column of sentences.
        fits: it is narrow enough; where not, LaTeX makes it smaller.
    """

    budget: Width
    room: float
    fits: bool


def table_file(grid: Grid) -> str:
    """Return a grid as LaTeX to `\\input` into a table, with caption and notes as comments.

    Columns of sentences take what the numbers leave of a column of the paper, or of its page.
    """
    sentences = [_has_sentences(grid, index) for index in range(len(grid.heads))]
    layout = _layout(grid, sentences)
    heads = [two_lines(escape(head)) for head in grid.heads]
    kinds = [
        _kind(grid, index, layout.room if is_long else None)
        for index, is_long in enumerate(sentences)
    ]
    lines = [
        *(f"% {' '.join(escape(text).split())}" for text in (grid.caption, *grid.notes)),
        f"% {_told(layout)}",
        r"% Needs \usepackage{array,booktabs,graphicx}.",
        rf"\begingroup\{SIZE}\setlength{{\tabcolsep}}{{{SEPARATION}pt}}%",
        r"\sbox0{%",
        rf"\begin{{tabular}}{{@{{}}{''.join(kinds)}@{{}}}}",
        r"\toprule",
        f"{' & '.join(heads)} \\\\",
        r"\midrule",
        *(f"{' & '.join(map(marked, row))} \\\\" for row in grid.rows),
        r"\bottomrule",
        r"\end{tabular}}%",
        r"\ifdim\wd0>\linewidth\typeout{This table is wider than the line, and made smaller.}%",
        r"\resizebox{\linewidth}{!}{\usebox0}\else\usebox0\fi",
        r"\endgroup",
    ]
    return "\n".join(lines) + "\n"


def _layout(grid: Grid, sentences: Sequence[bool]) -> _Layout:
    """Return the first layout that fits, a column before the page; else one for the page."""
    # `@{}` at both ends of the tabular takes the outer two separations away.
    fixed = 2.0 * SEPARATION * (len(grid.heads) - 1)
    for index, is_long in enumerate(sentences):
        if not is_long:
            texts = [two_lines(escape(grid.heads[index]))]
            texts += [escape(row[index].text) for row in grid.rows]
            fixed += SIZES[SIZE] * max(map(ems, texts))
    number = sum(sentences)
    budgets: tuple[Width, ...] = ("column", "page")
    for budget in budgets:
        left = SURE * (BUDGETS[budget] - fixed)
        if left >= number * LEAST_SENTENCES:
            return _Layout(budget=budget, room=left / max(1, number), fits=True)
    return _Layout(budget="page", room=LEAST_SENTENCES, fits=False)


def _has_sentences(grid: Grid, index: int) -> bool:
    """Tell whether the texts of a column are long enough to be broken into lines."""
    return not grid.numeric[index] and any(len(row[index].text) > LONG for row in grid.rows)


def _kind(grid: Grid, index: int, room: float | None) -> str:
    if room is not None:
        return rf">{{\raggedright\arraybackslash}}p{{{int(room)}pt}}"
    return "r" if grid.numeric[index] else "l"


def _told(layout: _Layout) -> str:
    if not layout.fits:
        return f"For the whole page (table*), made smaller: the page has {BUDGETS['page']:.0f} pt."
    if layout.budget == "page":
        return f"For the whole page (table*), which has {BUDGETS['page']:.0f} pt."
    return f"For a column; one of CVPR has {BUDGETS['column']:.0f} pt."
