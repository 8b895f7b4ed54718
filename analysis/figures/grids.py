"""Scores over two knobs."""

import math

import pandas as pd
from matplotlib.figure import Figure

from analysis.figures.style import label_axes, page
from analysis.read.knobs import PARAM, averaged, knob_values, measurements, ordered
from analysis.read.labels import labels_of
from analysis.statistics.seed_design import replicate
from occse.naming.labels import value_text


def heat_map(trials: pd.DataFrame, *, metric: str, rows: str, columns: str) -> Figure:
    """Draw `metric` by two knobs: the mean over seeds ± sample standard deviation, in percent.

    Over other knobs each seed is averaged.

    Raises:
        ValueError: no trial has the metric, or both knobs.
    """
    found = measurements(trials, metric)
    found = found[knob_values(found, rows).notna() & knob_values(found, columns).notna()]
    seed = replicate(found, metric.partition("/")[0])
    # Other knobs are averaged within a seed first, so that ± is over seeds alone.
    by_seed = 100 * found.groupby([PARAM + rows, PARAM + columns, seed])[metric].mean()
    cells = by_seed.groupby(level=[0, 1]).agg(["mean", "std"])
    labels = labels_of(trials)
    down = ordered(found[PARAM + rows])
    across = ordered(found[PARAM + columns])
    # Combinations without a trial are NaN here, which `imshow` leaves blank.
    mean = cells["mean"].unstack().loc[down, across]
    middle = (mean.min().min() + mean.max().max()) / 2
    with page(0.9 + 0.4 * len(down)) as (figure, (axes,)):
        image = axes.imshow(mean.to_numpy(), cmap="cividis", aspect="auto")
        for (row, column), value, spread in cells.itertuples(name=None):
            text = f"{value:.1f}" if math.isnan(spread) else f"{value:.1f} ± {spread:.1f}"
            # cividis is dark where values are low.
            color = "white" if value < middle else "black"
            x = across.index(column)
            y = down.index(row)
            axes.text(x, y, text, ha="center", va="center", fontsize=7, color=color)
        of_columns = labels.value_names(columns, across)
        of_rows = labels.value_names(rows, down)
        axes.set_xticks(range(len(across)), [of_columns[value_text(value)] for value in across])
        axes.set_yticks(range(len(down)), [of_rows[value_text(value)] for value in down])
        averages = [labels.knob(knob) for knob in averaged(found, rows, columns)]
        label_axes(axes, labels.knob(columns), labels.knob(rows), over=averages)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        bar = figure.colorbar(image, ax=axes, label=f"{labels.metric(metric)} (%)")
        bar.outline.set_linewidth(0)
    return figure
