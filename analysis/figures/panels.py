"""Panels of the same images by two variants."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from analysis.figures.style import page

# A panel this many times as wide as high is too wide to stand beside another.
WIDE = 4
# Inches above each panel for its title of 7 pt.
TITLE = 0.2


@dataclass(frozen=True, kw_only=True)
class PanelRow:
    """An image: what is said of it, and its panel by each variant, all of one size."""

    title: str
    panels: Sequence[NDArray[np.uint8]]


def panel_figure(rows: Sequence[PanelRow], labels: Sequence[str], *, width: float) -> Figure:
    """Draw the panels of every image, one variant beside the other, or below it if panels are wide.

    Args:
        rows: the images.
        labels: the variants, as the panels of each row are ordered.
        width: of the figure in inches; 6.9 spans two columns.
    """
    cells: list[tuple[str, NDArray[np.uint8]]] = []
    for row in rows:
        titles = [f"{row.title} · {label}" for label in labels]
        cells += zip(titles, row.panels, strict=True)
    fits_beside = all(panel.shape[1] < WIDE * panel.shape[0] for _, panel in cells)
    columns = len(labels) if fits_beside else 1
    # Panels side by side have one size, so the first of each line tells its height.
    heights = [
        width / columns * panel.shape[0] / panel.shape[1] + TITLE for _, panel in cells[::columns]
    ]
    layout = {"rows": len(heights), "columns": columns}
    with page(sum(heights), width=width, **layout, heights=heights) as (figure, panels):
        for axes, (title, panel) in zip(panels, cells, strict=True):
            axes.imshow(panel, interpolation="nearest")
            axes.set_axis_off()
            axes.set_title(title, fontsize=7, loc="left", pad=2)
    return figure
