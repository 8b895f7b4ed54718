"""The look of all figures: a column of a two-column paper, 7-8 pt, colours that the colour-blind
can tell apart.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# The width in inches of one column of the usual two-column styles (CVPR, ICML).
COLUMN = 3.3
# The width of the page of these styles in inches.
TWO_COLUMNS = 6.9
# Letters of 7 pt on an inch, and those that the line before a legend's label takes the room of.
LETTERS_PER_INCH = 16.5
HANDLE = 6
FORMATS = ("pdf", "png", "svg")
# Okabe and Ito's colours, which the colour-blind can tell apart; markers and dashes are for print
# in grey.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "os^DvPX"
DASHES = ("-", "--", "-.", ":")
HATCHES = ("", "////", "....", "xxxx")
GREY = "#777777"
BETTER = COLORS[0]
WORSE = COLORS[1]
PAPER: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "grid.linewidth": 0.4,
    "grid.color": "#dddddd",
    "axes.axisbelow": True,
    "text.parse_math": False,  # names of variants and knobs are text, whatever dollars they hold
    "legend.frameon": False,
}
# 42 embeds TrueType: conference systems refuse Type 3, matplotlib's default. Text in an SVG stays
# text. With a fixed salt the same figure has the same ids in every run.
FILES: dict[Any, Any] = {"pdf.fonttype": 42, "svg.fonttype": "none", "svg.hashsalt": "occse"}


@dataclass(frozen=True)
class Look:
    """The colour and shapes by which one line or group of bars differs from the others."""

    color: str
    marker: str
    dash: str
    hatch: str


def look(number: int) -> Look:
    """Return the look of the line with this number; shapes repeat later than colours do."""
    return Look(
        color=COLORS[number % len(COLORS)],
        marker=MARKERS[number % len(MARKERS)],
        dash=DASHES[number % len(DASHES)],
        hatch=HATCHES[number % len(HATCHES)],
    )


@contextmanager
def page(
    height: float,
    *,
    width: float = COLUMN,
    rows: int = 1,
    columns: int = 1,
    heights: Sequence[float] | None = None,
) -> Iterator[tuple[Figure, list[Axes]]]:
    """Yield a new figure of `width` x `height` inches and its panels, row by row.

    The type and the line widths are those of a paper for as long as the context lasts. Then the
    layout is worked out, once: else every file of the figure would draw it twice.
    """
    with mpl.rc_context(PAPER):
        figure = Figure(figsize=(width, height), layout="constrained")
        panels = list(figure.subplots(rows, columns, squeeze=False, height_ratios=heights).flat)
        for axes in panels:
            axes.spines[["top", "right"]].set_visible(False)
        yield figure, panels
        figure.draw_without_rendering()
        figure.set_layout_engine("none")


def label_axes(axes: Axes, x: str, y: str, *, over: Sequence[str] = ()) -> None:
    """Name the axes, and say above them what the numbers are averaged over beside seeds."""
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    if over:
        axes.set_title(f"averaged over {', '.join(over)}", fontsize=7)


def legend_below(figure: Figure, axes: Axes, *, columns: int = 2) -> None:
    """Put the legend of `axes` below the panels, where it hides nothing.

    It has `columns` columns, or fewer where its labels are too long for that.
    """
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        room = LETTERS_PER_INCH * figure.get_figwidth()
        while columns > 1 and _legend_width(labels, columns) > room:
            columns -= 1
        figure.legend(
            handles,
            labels,
            loc="outside lower center",
            ncols=columns,
            handlelength=2.2,
            columnspacing=1.2,
        )


def _legend_width(labels: Sequence[Any], columns: int) -> int:
    """Return the width of a legend in letters; its labels fill one column after the other."""
    lengths = [HANDLE + len(str(label)) for label in labels]
    rows = -(-len(lengths) // columns)
    return sum(max(lengths[start : start + rows]) for start in range(0, len(lengths), rows))


def check_file(path: Path) -> None:
    """Refuse early what could not be written.

    Raises:
        ValueError: the suffix is none of `FORMATS`, or there is no such folder.
    """
    if path.suffix.removeprefix(".") not in FORMATS:
        suffixes = ", ".join(f".{name}" for name in FORMATS)
        raise ValueError(f"--out {path}: expected a file that ends in {suffixes}")
    if not path.parent.is_dir():
        raise ValueError(f"--out {path}: there is no folder {path.parent}")


def save(figure: Figure, path: Path) -> None:
    """Write the figure as the suffix of `path` says; letters stay text in PDF and SVG."""
    with mpl.rc_context(FILES):
        figure.savefig(path, dpi=300)
