"""A report as a LaTeX document, of which pdflatex makes the PDF."""

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from analysis.report.blocks import (
    Beside,
    Block,
    Folded,
    Listing,
    Picture,
    Quote,
    Section,
    Text,
    Widget,
)
from analysis.table.formats.latex_letters import escape
from analysis.table.grid import Grid, GridCell

# Rows of a footnote-sized table that fit on a page with its caption.
ROWS = 40
# Texts of more characters than these are broken into lines.
LONG = 44
# Inches between the margins of the page.
LINE = 6.7
# Without Latin Modern, the fonts of T1 are bitmaps; with the two maps a reader can copy and search
# ligatures and signs as the letters that they stand for.
PREAMBLE = r"""\documentclass[10pt]{article}
\usepackage[utf8]{inputenc}
\usepackage[T1]{fontenc}
\IfFileExists{lmodern.sty}{\usepackage{lmodern}}{}
\IfFileExists{cmap.sty}{\usepackage{cmap}}{}
\IfFileExists{glyphtounicode.tex}{\input{glyphtounicode}\pdfgentounicode=1}{}
\usepackage[a4paper,margin=2cm]{geometry}
\usepackage{array,booktabs,graphicx,caption,float}
\captionsetup{font=small,labelformat=empty,justification=raggedright,singlelinecheck=false}
\setlength{\parindent}{0pt}\setlength{\parskip}{4pt}\sloppy
\newsavebox{\wide}
% what is wider than the page is made smaller
\newcommand{\fitting}[1]{\sbox{\wide}{#1}%
  \ifdim\wd\wide>\linewidth\resizebox{\linewidth}{!}{\usebox{\wide}}\else\usebox{\wide}\fi}
"""


def tabular(grid: Grid, *, rows: slice = slice(None)) -> str:
    """Return a grid, or some of its rows, as a booktabs tabular."""
    columns = "".join(_column(grid, index) for index in range(len(grid.heads)))
    lines = [
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        f"{' & '.join(map(escape, grid.heads))} \\\\",
        r"\midrule",
    ]
    lines += [f"{' & '.join(map(marked, row))} \\\\" for row in grid.rows[rows]]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def marked(cell: GridCell) -> str:
    """Return a cell, bold where it is the best and underlined where it is the second."""
    if cell.best:
        return rf"\textbf{{{escape(cell.text)}}}"
    return rf"\underline{{{escape(cell.text)}}}" if cell.second else escape(cell.text)


def document(title: str, sections: Sequence[Section], *, made: str) -> str:
    """Return the document, whose figures are in `figures/`."""
    lines = [
        PREAMBLE,
        r"\begin{document}",
        rf"{{\LARGE\bfseries {escape(title)}\par}}",
        rf"{{\small {escape(made)}\par}}",
    ]
    for section in sections:
        if all(isinstance(block, Widget) for block in section.blocks):
            continue  # paper cannot be acted on
        lines.append(rf"\section*{{{escape(section.title)}}}")
        for block in section.blocks:
            lines += _block(block)
    return "\n".join([*lines, r"\end{document}"]) + "\n"


def compile_pdf(source: Path) -> str:
    """Make the PDF beside `source`; return the reason why there is none, else an empty text."""
    if shutil.which("pdflatex") is None:
        return f"there is no pdflatex here; where there is one, run it on {source.name}"
    command = [
        "pdflatex",
        "-interaction=nonstopmode",
        "-halt-on-error",
        # Texts of the report come from other people's files, and TeX must not run what they hold.
        "-no-shell-escape",
        source.name,
    ]
    # TeX writes its log in whatever encoding it likes: `errors` keeps that from ending the report.
    done = subprocess.run(
        command, cwd=source.parent, capture_output=True, text=True, errors="replace", check=False
    )
    for suffix in (".aux", ".log"):
        source.with_suffix(suffix).unlink(missing_ok=True)
    if done.returncode == 0:
        return ""
    # TeX begins the line of an error with an exclamation mark.
    faults = [line for line in done.stdout.splitlines() if line.startswith("!")]
    return f"pdflatex cannot compile {source.name}: {next(iter(faults), 'no reason given')}"


def _column(grid: Grid, index: int) -> str:
    """Return the type of a column: numbers are flush right, long texts are broken into lines."""
    if grid.numeric[index]:
        return "r"
    if any(len(row[index].text) > LONG for row in grid.rows):
        return r">{\raggedright\arraybackslash}p{6.5cm}"
    return "l"


def _block(block: Block) -> Iterator[str]:
    if isinstance(block, Text):
        if block.title:
            yield rf"\subsection*{{{escape(block.title)}}}"
        yield from (f"{escape(paragraph)}\n" for paragraph in block.paragraphs)
    elif isinstance(block, Quote):
        yield rf"\textbf{{{escape(block.label)}:}} \emph{{{escape(block.text)}}}" + "\n"
    elif isinstance(block, Grid):
        yield from _table(block)
    elif isinstance(block, Picture):
        yield from _figure(block)
    elif isinstance(block, Listing):
        for line in block.text.splitlines():
            # TeX would print -- as a dash, and a reader who copies the command would paste one.
            yield rf"{{\footnotesize\ttfamily {escape(line).replace('--', '-{}-')}\par}}"
    elif isinstance(block, Beside | Folded):
        if isinstance(block, Folded):
            yield rf"\subsection*{{{escape(block.title)}}}"
        for part in block.blocks:
            yield from _block(part)


def _figure(picture: Picture) -> Iterator[str]:
    width = min(1, picture.figure.get_figwidth() / LINE)
    # `H` keeps a figure beside its text; LaTeX would move it to a page of figures.
    yield r"\begin{figure}[H]\centering"
    yield rf"\includegraphics[width={width:.2f}\linewidth,height=.8\textheight,keepaspectratio]"
    yield rf"{{figures/{picture.name}.pdf}}"
    yield rf"\caption{{{escape(picture.caption)}}}\end{{figure}}"


def _table(grid: Grid) -> Iterator[str]:
    yield rf"{{\small\bfseries {escape(grid.caption)}\par}}\nopagebreak"
    for first in range(0, len(grid.rows), ROWS):
        yield rf"\fitting{{\footnotesize {tabular(grid, rows=slice(first, first + ROWS))}}}\par"
    yield from (rf"{{\footnotesize {escape(note)}\par}}" for note in grid.notes)
