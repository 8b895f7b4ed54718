r"""A table as LaTeX: a booktabs tabular with numbers that siunitx aligns, to `\input` into a table.

It is made for a column or the page of a two-column paper: headings take two lines and the font
becomes smaller, names of variants become columns of knobs, headings shorter and numbers tighter,
until the table fits.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from math import isfinite

from analysis.table.formats.cell_texts import Notation, marks, remarks
from analysis.table.formats.latex_letters import escape, needs_t1
from analysis.table.formats.latex_width import (
    BUDGETS,
    NumberFormat,
    Setting,
    Width,
    ems,
    fit,
    number_format,
    two_lines,
)
from analysis.table.formats.legend import legend, summary
from analysis.table.model import Cell, Column, Row, Table
from occse.naming.variants import marked_baseline

LATEX = Notation(
    escape=escape,
    bold=lambda text: rf"\bfseries {text}",
    second=lambda text: rf"\underline{{{text}}}",
    second_is="underlined",
    plus_minus=r"$\pm$",
    minus="$-$",
    dagger=r"$^\dagger$",
    section=r"$^\S$",
    glyphs={
        "failed": r"$\times$",
        "pending": r"\dots{}",
        "stopped": r"$\oslash$",
        "unscored": "no score",
        "empty": "--",
        "unknown": "?",
    },
)
# What LaTeX says on its terminal where a table does not fit.
SMALLER = "This table is wider than the line, and made smaller."
# Numbers take the font and the weight of the text around them.
SIUNITX = ",".join(
    (
        "uncertainty-mode=separate",
        "retain-zero-uncertainty=true",
        "mode=match",
        "reset-text-series=false",
        "text-series-to-math=true",
    )
)


@dataclass(frozen=True, kw_only=True)
class Typeset:
    """A table for LaTeX.

    Attributes:
        text: the source.
        warning: a sentence where the table is wider than a column, or was made smaller to fit;
            empty where it fits a column.
    """

    text: str
    warning: str


@dataclass(frozen=True, kw_only=True)
class _Part:
    """A column of the tabular, or two of them: numbers, and the remarks behind them.

    Attributes:
        kinds: their types.
        heading: above them, in the source of their cells.
        cells: source by row, with `&` between the columns.
        widths: in em.
    """

    kinds: str
    heading: str
    cells: Sequence[str]
    widths: Sequence[float]


def latex(table: Table) -> str:
    """Return the source for a column if that is wide enough, else for the page."""
    return typeset(table).text


def typeset(table: Table, width: Width | None = None) -> Typeset:
    """Return the source: the content of a caption in comments above, a reader's notes below.

    Args:
        table: what to show.
        width: the room that the table has; None for a column if that is enough, else the page.
    """
    layouts = _layouts(table)
    setting = fit([layout.widths for layout in layouts], width)
    layout = layouts[setting.layout]
    told = _told(setting)
    rows = zip(*(part.cells for part in layout.parts), strict=True)
    # Set into a box first, so that LaTeX can measure the tabular before it prints it.
    body = [
        r"\sbox0{%",
        rf"\begin{{tabular}}{{@{{}}{''.join(part.kinds for part in layout.parts)}@{{}}}}",
        r"\toprule",
        f"{' & '.join(part.heading for part in layout.parts)} \\\\",
        r"\midrule",
        *(f"{' & '.join(cells)} \\\\" for cells in rows),
        r"\bottomrule",
        r"\end{tabular}}%",
        # Only LaTeX knows the width in the fonts of its document.
        rf"\ifdim\wd0>\linewidth\typeout{{{SMALLER}}}\resizebox{{\linewidth}}{{!}}{{\usebox0}}%",
        r"\else\usebox0\fi",
    ]
    notes = [rf"{{\footnotesize\raggedright {note}\par}}" for note in legend(table, LATEX)]
    skip = [r"\par\smallskip"] if notes else []
    # Escaped although they are comments: they are there to be copied into a caption.
    comments = [escape(table.title), *summary(table, LATEX), *_seeds(table), told]
    comments.append(_needs([*body, *notes]))
    lines = [
        *(f"% {line}" for line in comments if line),
        rf"\begingroup\{setting.size}\setlength{{\tabcolsep}}{{{setting.separation}pt}}%",
        rf"\sisetup{{{SIUNITX}{',tight-spacing' if layout.is_tight else ''}}}%",
        *body,
        *skip,
        *notes,
        r"\endgroup",
    ]
    is_usual = setting.fits and setting.budget == "column"
    return Typeset(text="\n".join(lines) + "\n", warning="" if is_usual else told)


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """A way to show the table; `is_tight` means numbers without spaces around the sign."""

    parts: Sequence[_Part]
    is_tight: bool

    @property
    def widths(self) -> list[float]:
        """Widths of all columns in em."""
        return list(chain.from_iterable(part.widths for part in self.parts))


def _layouts(table: Table) -> list[_Layout]:
    """Return the layouts of a table, from the one that readers like best to the narrowest.

    A name may have a column for each knob, a heading may be a shorter one, and "±" may come without
    spaces.
    """
    names = [[_name_part(table, index) for index in range(len(table.titles))]]
    if table.part_titles:
        names.append([_knob_part(table, index) for index in range(len(table.part_titles))])
    layouts = []
    for is_narrow, is_tight in ((False, False), (True, False), (True, True)):
        numbers = [
            _number_part(table, index, is_narrow=is_narrow, is_tight=is_tight)
            for index in range(len(table.columns))
        ]
        layouts += [
            _Layout(parts=[*own, *_count_part(table), *numbers], is_tight=is_tight) for own in names
        ]
    return layouts


def _name_part(table: Table, index: int) -> _Part:
    is_last = index == len(table.titles) - 1
    texts = [_named(row, row.labels[index], is_marked=is_last) for row in table.rows]
    return _text_part(escape(table.titles[index]), texts)


def _knob_part(table: Table, index: int) -> _Part:
    texts = [_named(row, row.parts[index], is_marked=index == 0) for row in table.rows]
    return _text_part(two_lines(escape(table.part_titles[index])), texts)


def _named(row: Row, name: str, *, is_marked: bool) -> str:
    text = escape(name)
    return marked_baseline(name, shown=text) if row.baseline and is_marked else text


def _count_part(table: Table) -> list[_Part]:
    """Return the column of the numbers of seeds, if they differ."""
    if _seeds(table):
        return []
    return [_text_part("n", [str(row.seeds) for row in table.rows], kind="r")]


def _seeds(table: Table) -> list[str]:
    """Return a sentence on the number of seeds where all rows have as many."""
    seeds = {row.seeds for row in table.rows}
    return [f"n = {seeds.pop()} in every row."] if len(seeds) == 1 else []


def _text_part(heading: str, texts: Sequence[str], *, kind: str = "l") -> _Part:
    width = max(map(ems, (heading, *texts)))
    return _Part(kinds=kind, heading=heading, cells=texts, widths=[width])


def _number_part(table: Table, index: int, *, is_narrow: bool, is_tight: bool) -> _Part:
    column = table.columns[index]
    cells = [row.cells[index] for row in table.rows]
    # Infinity and NaN are set as texts (`_number`), so they ask for no digits.
    form = number_format(
        [column.text(mean) for mean in map(_finite_mean, cells) if mean is not None],
        [column.text(cell.std) for cell in cells if cell.std is not None and isfinite(cell.std)],
        is_tight=is_tight,
    )
    texts = [_number(cell, column, form) for cell in cells]
    # In the same column siunitx would take "(+3.5)" behind a number for its uncertainty.
    behind = [
        " ".join(remarks(cell, column, row, LATEX)) if cell.mean is not None else ""
        for cell, row in zip(cells, table.rows, strict=True)
    ]
    label = column.narrow_label if is_narrow else column.label
    heading = two_lines(escape(label) + marks(column, LATEX))
    # In an S column a heading needs braces, or siunitx reads it as a number.
    kinds = f"S[table-format={form.source}]"
    if not any(behind):
        width = max(form.ems, ems(heading))
        return _Part(kinds=kinds, heading=f"{{{heading}}}", cells=texts, widths=[width])
    room = max(map(ems, behind))
    # A heading that is wider than both columns widens the second of them.
    room = max(room, ems(heading) - form.ems)
    return _Part(
        kinds=rf"{kinds}@{{\,}}l",
        heading=rf"\multicolumn{{2}}{{c}}{{{heading}}}",
        cells=[f"{text} & {remark}" for text, remark in zip(texts, behind, strict=True)],
        widths=[form.ems, room],
    )


def _finite_mean(cell: Cell) -> float | None:
    return cell.mean if cell.mean is not None and isfinite(cell.mean) else None


def _number(cell: Cell, column: Column, form: NumberFormat) -> str:
    """Return the source of a cell; in braces siunitx sets it as a text, in the middle."""
    if cell.mean is None:
        return f"{{{LATEX.glyphs[cell.status]}}}"
    text = column.text(cell.mean)
    if _finite_mean(cell) is None:
        return f"{{{text}}}"
    # `+-` is how siunitx reads an uncertainty; it prints ±.
    if cell.std is not None:
        text += f" +- {column.text(cell.std)}"
    if cell.best:
        return LATEX.bold(text)
    if cell.second:
        # Text in braces is not aligned, but a number of the column's own width is.
        return rf"{{\underline{{\tablenum[table-format={form.source}]{{{text}}}}}}}"
    return text


def _told(setting: Setting) -> str:
    """Return how wide the table is, and where it belongs."""
    column, page = BUDGETS["column"], BUDGETS["page"]
    width = f"about {setting.width:.0f} pt wide in \\{setting.size}"
    if not setting.fits:
        share = 100 * BUDGETS[setting.budget] / setting.width
        return (
            f"Made smaller to {share:.0f} percent of \\{setting.size}: it is {width}, and the "
            f"{setting.budget} has {BUDGETS[setting.budget]:.0f} pt. Fewer --metric or --columns "
            "keep it readable."
        )
    if setting.budget == "page":
        room = f"a column has {column:.0f} pt, the page {page:.0f}"
        return f"For the whole page (table*): {width}; {room}."
    return f"For a column: {width}; a column of CVPR has {column:.0f} pt."


def _needs(lines: Sequence[str]) -> str:
    needs = r"\usepackage{booktabs,graphicx,siunitx}"
    if needs_t1("".join(lines)):
        needs += r" and \usepackage[T1]{fontenc}"
    return f"Needs {needs}; siunitx 3 or later (TeX Live 2021)."
