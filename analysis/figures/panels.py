"""Panels of the same images by two variants."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from analysis.figures.style import page

WIDE = 4  # times as wide as high: too wide to stand beside another
TITLE = 0.2  # inches


@dataclass(frozen=True, kw_only=True)
class PanelRow:
    """An image: what is said of it, and its panel by each variant, all of one size."""

    title: str
    panels: Sequence[NDArray[np.uint8]]


def panel_figure(rows: Sequence[PanelRow], labels: Sequence[str], *, width: float) -> Figure:
    """The panels of every image, one variant beside the other, or below it where panels are wide.

    Args:
        rows: the images.
        labels: the variants, as the panels of each row are ordered.
        width: of the figure in inches; 6.9 spans two columns.
    """
    beside = all(panel.shape[1] < WIDE * panel.shape[0] for row in rows for panel in row.panels)
    columns = len(labels) if beside else 1
    cells = [
        (row.title, label, panel)
        for row in rows
        for label, panel in zip(labels, row.panels, strict=True)
    ]
    tall = [
        width / columns * panel.shape[0] / panel.shape[1] + TITLE
        for _, _, panel in cells[::columns]
    ]
    with page(sum(tall), width=width, rows=len(tall), columns=columns, heights=tall) as (
        figure,
        panels,
    ):
        for axes, (title, label, panel) in zip(panels, cells, strict=True):
            axes.imshow(panel, interpolation="nearest")
            axes.set_axis_off()
            axes.set_title(f"{title} · {label}", fontsize=7, loc="left", pad=2)
    return figure
