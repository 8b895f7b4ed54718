"""A report as a LaTeX document, of which pdflatex makes the PDF."""

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from analysis.report.blocks import Block, Picture, Section, Text
from analysis.table.grid import Grid
from analysis.table.latex import escape

ROWS = 40  # on a page
LONG = 44  # characters
LINE = 6.7  # inches
PREAMBLE = r"""\documentclass[10pt]{article}
\usepackage[utf8]{inputenc}
\usepackage[T1]{fontenc}
\usepackage[a4paper,margin=2cm]{geometry}
\usepackage{array,booktabs,graphicx,caption,float}
\captionsetup{font=small,labelformat=empty,justification=raggedright,singlelinecheck=false}
\setlength{\parindent}{0pt}\setlength{\parskip}{4pt}\sloppy
\newsavebox{\wide}
% what is wider than the page is made smaller
\newcommand{\fitting}[1]{\sbox{\wide}{#1}\ifdim\wd\wide>\linewidth\resizebox{\linewidth}{!}{\usebox{\wide}}\else\usebox{\wide}\fi}
"""


def tabular(grid: Grid, *, rows: slice = slice(None)) -> str:
    """A grid, or some of its rows, as a booktabs tabular."""
    columns = "".join(_column(grid, place) for place in range(len(grid.heads)))
    lines = [
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        f"{' & '.join(map(escape, grid.heads))} \\\\",
        r"\midrule",
    ]
    for row in grid.rows[rows]:
        texts = [
            rf"\textbf{{{escape(cell.text)}}}" if cell.best else escape(cell.text) for cell in row
        ]
        lines.append(f"{' & '.join(texts)} \\\\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def document(title: str, sections: Sequence[Section], *, made: str) -> str:
    """The document, whose figures are in `figures/`."""
    lines = [
        PREAMBLE,
        r"\begin{document}",
        rf"{{\LARGE\bfseries Report: {escape(title)}\par}}",
        rf"{{\small {escape(made)}\par}}",
    ]
    for section in sections:
        lines.append(rf"\section*{{{escape(section.title)}}}")
        for block in section.blocks:
            lines += _block(block)
    return "\n".join([*lines, r"\end{document}"]) + "\n"


def compile_pdf(source: Path) -> str:
    """Make the PDF beside `source`; returns why there is none, empty where there is one."""
    if shutil.which("pdflatex") is None:
        return f"there is no pdflatex here; where there is one, run it on {source.name}"
    command = [
        "pdflatex",
        "-interaction=nonstopmode",
        "-halt-on-error",
        "-no-shell-escape",
        source.name,
    ]
    done = subprocess.run(
        command, cwd=source.parent, capture_output=True, text=True, errors="replace", check=False
    )
    for suffix in (".aux", ".log"):
        source.with_suffix(suffix).unlink(missing_ok=True)
    if done.returncode == 0:
        return ""
    faults = [line for line in done.stdout.splitlines() if line.startswith("!")]
    return f"pdflatex cannot compile {source.name}: {next(iter(faults), 'no reason given')}"


def _column(grid: Grid, place: int) -> str:
    """Numbers are flush right, long texts are broken into lines."""
    if grid.numeric[place]:
        return "r"
    return (
        r">{\raggedright\arraybackslash}p{6.5cm}"
        if any(len(row[place].text) > LONG for row in grid.rows)
        else "l"
    )


def _block(block: Block) -> Iterator[str]:
    if isinstance(block, Text):
        if block.title:
            yield rf"\subsection*{{{escape(block.title)}}}"
        yield from (f"{escape(paragraph)}\n" for paragraph in block.paragraphs)
    elif isinstance(block, Grid):
        yield from _table(block)
    elif isinstance(block, Picture):
        width = min(1, block.figure.get_figwidth() / LINE)
        yield r"\begin{figure}[H]\centering"
        yield rf"\includegraphics[width={width:.2f}\linewidth,height=.8\textheight,keepaspectratio]"
        yield rf"{{figures/{block.name}.pdf}}"
        yield rf"\caption{{{escape(block.caption)}}}\end{{figure}}"
    else:
        yield from (
            rf"{{\footnotesize\ttfamily {escape(line)}\par}}" for line in block.text.splitlines()
        )


def _table(grid: Grid) -> Iterator[str]:
    yield rf"{{\small\bfseries {escape(grid.caption)}\par}}\nopagebreak"
    for first in range(0, len(grid.rows), ROWS):
        yield rf"\fitting{{\footnotesize {tabular(grid, rows=slice(first, first + ROWS))}}}\par"
    yield from (rf"{{\footnotesize {escape(note)}\par}}" for note in grid.notes)
