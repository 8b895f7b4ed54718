"""Scores along a knob, and over the threshold."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from scipy import stats

from analysis.figures.style import GREY, label_axes, legend_below, look, page
from analysis.read.knobs import (
    PARAM,
    averaged,
    is_number,
    knob_values,
    measurements,
    ordered,
)
from analysis.read.labels import labels_of
from analysis.statistics.bootstrap import LEVEL
from analysis.statistics.seed_design import combined, of_new_run, replicate
from occse.naming.labels import Labels, value_text

# A knob whose values span nearly a decade or more, as 1 to 9, is drawn on a logarithmic axis.
DECADE = 9
# More labels than these would touch each other in one column of a paper.
MOST_TICKS = 7


@dataclass(frozen=True)
class Spread:
    """The variance between seeds, in squared points, and its degrees of freedom."""

    variance: float
    freedom: float


def knob_curves(trials: pd.DataFrame, *, metric: str, knob: str, by: Sequence[str] = ()) -> Figure:
    """Draw `metric` along `knob`, a line for each combination of the knobs `by`.

    Over other knobs each seed is averaged. Bands are 95 % t-intervals of the mean over seeds; the
    variance between seeds is pooled over all points of the figure, since that of two or three seeds
    alone is hardly known. The dotted line is the mean of the baseline, where it does not have the
    knob.

    Raises:
        ValueError: no trial has the metric or the knob.
    """
    rows = measurements(trials, metric)
    along = rows[knob_values(rows, knob).notna()]
    # For their error alone: grouping by an unknown knob would end in pandas with a KeyError.
    for other in by:
        knob_values(along, other)
    positions = _positions(ordered(along[PARAM + knob]))
    labels = labels_of(trials)
    lines = _lines(along, by, labels)
    curves = [_curve(own, metric, knob, positions) for _, own in lines]
    over: dict[str, None] = {}
    for _, line in lines:
        over |= dict.fromkeys(averaged(line, knob, *by))
    spread = _pooled(curves)
    with page(2.7) as (figure, (axes,)):
        for number, ((label, _), curve) in enumerate(zip(lines, curves, strict=True)):
            _draw_line(axes, curve, positions, spread, number=number, label=label)
        if spread:
            band = f"{LEVEL:.0%} t-interval over seeds".replace("%", " %")
            # An empty band for the legend: one entry serves the bands of all lines.
            axes.fill_between([], [], color=GREY, alpha=0.25, linewidth=0, label=band)
        baseline = rows[rows["baseline"] & rows[PARAM + knob].isna()]
        if len(baseline):
            mean = 100 * baseline[metric].mean()
            axes.axhline(mean, color=GREY, linewidth=1, linestyle=":", label="baseline")
        _set_ticks(axes, positions, labels.value_names(knob, positions))
        averages = [labels.knob(other) for other in over]
        label_axes(axes, labels.knob(knob), f"{labels.metric(metric)} (%)", over=averages)
        axes.grid(axis="y")
        legend_below(figure, axes)
    return figure


def threshold_curves(curves: pd.DataFrame) -> Figure:
    """Draw the mIoU of the activation maps by threshold, a line for each label.

    A line is the mean of its seeds.

    Args:
        curves: columns `label`, `seed`, `threshold`, `miou` and `chosen`, the threshold of the
            table (marked).
    """
    with page(2.6) as (figure, (axes,)):
        for number, (label, rows) in enumerate(curves.groupby("label", sort=False)):
            style = look(number)
            mean = 100 * rows.groupby("threshold")["miou"].mean()
            axes.plot(mean.index, mean, style.dash, color=style.color)
            # The counts have thresholds in single precision, the metric in MLflow in double.
            chosen = rows[np.isclose(rows["threshold"], rows["chosen"])]
            axes.plot(
                chosen["threshold"],
                100 * chosen["miou"],
                style.marker,
                color=style.color,
                markeredgecolor="white",
                markersize=5,
            )
            # Line and mark are drawn apart; the legend shows them together.
            axes.plot([], [], style.dash, marker=style.marker, color=style.color, label=label)
        axes.set_xlabel("threshold of the activation map (marks: chosen)")
        axes.set_ylabel("mIoU (%)")
        axes.grid(axis="y")
        legend_below(figure, axes, columns=1)
    return figure


def _lines(
    trials: pd.DataFrame, by: Sequence[str], labels: Labels
) -> list[tuple[str, pd.DataFrame]]:
    """Return the trials of each line with its label; no two labels are alike.

    Trials for which a knob means nothing make a line of their own.
    """
    if not by:
        return [("mean over seeds", trials)]
    lines = []
    in_full = []
    columns = [PARAM + knob for knob in by]
    for values, line in trials.groupby(columns, sort=False, dropna=False):
        settings = list(zip(by, values, strict=True))
        lines.append((", ".join(_part(*setting, labels) for setting in settings), line))
        in_full.append(", ".join(map(value_text, values)))
    counts = Counter(label for label, _ in lines)
    return [
        (label if counts[label] == 1 else f"{label} ({full})", line)
        for (label, line), full in zip(lines, in_full, strict=True)
    ]


def _part(knob: str, value: object, labels: Labels) -> str:
    short = knob.partition(".")[2]
    if isinstance(value, str):
        return labels.part(knob, value, short=short)
    return f"without {labels.knob(knob, short=short)}"


def _curve(
    line: pd.DataFrame, metric: str, knob: str, positions: Mapping[str, float]
) -> pd.DataFrame:
    """Return the scores in percent: a row for each value of the knob, a column for each seed."""
    seed = replicate(line, metric.partition("/")[0])
    # `pivot_table` takes the mean over what falls into one cell: the other knobs of a seed.
    table = 100 * line.pivot_table(metric, PARAM + knob, seed)
    return table.loc[sorted(table.index, key=positions.__getitem__)]


def _draw_line(
    axes: Axes,
    curve: pd.DataFrame,
    positions: Mapping[str, float],
    spread: Spread | None,
    *,
    number: int,
    label: str,
) -> None:
    """Draw a line through the means over seeds, in the band of their t-intervals."""
    x = [positions[str(value)] for value in curve.index]
    mean = curve.mean(axis=1)
    style = look(number)
    axes.plot(x, mean, style.dash + style.marker, color=style.color, label=label)
    if spread is None:
        return
    # A value that lacks seeds has a wider band than its neighbours.
    seeds = curve.notna().sum(axis=1)
    quantile = stats.t.ppf((1 + LEVEL) / 2, spread.freedom)
    reach = quantile * (spread.variance / seeds) ** 0.5
    axes.fill_between(x, mean - reach, mean + reach, color=style.color, alpha=0.15, linewidth=0)
    if len(x) == 1:  # a band of one point has no width
        axes.errorbar(x, mean, yerr=reach, color=style.color, elinewidth=0.8, capsize=2)


def _pooled(curves: Iterable[pd.DataFrame]) -> Spread | None:
    """Return the variance between seeds over all points; None where no line has two seeds."""
    # only lines with the same seeds make one table; each table counts by its number of points
    by_seeds: dict[tuple[object, ...], list[pd.DataFrame]] = {}
    for curve in curves:
        by_seeds.setdefault(tuple(curve.columns), []).append(curve.dropna())
    tables = [pd.concat(found) for seeds, found in by_seeds.items() if len(seeds) > 1]
    tables = [table for table in tables if len(table)]
    if not tables:
        return None
    total = sum(map(len, tables))
    parts = []
    for table in tables:
        variance, freedom = of_new_run(table.to_numpy())
        parts.append((len(table) / total * variance, freedom))
    return Spread(*combined(parts))


def _positions(levels: Sequence[str]) -> dict[str, float]:
    """Return the position of each value of a knob: its number, or its rank where some are texts."""
    try:
        return {level: float(level) for level in levels}
    except ValueError:
        return {level: float(rank) for rank, level in enumerate(levels)}


def _set_ticks(axes: Axes, positions: Mapping[str, float], names: Mapping[str, str]) -> None:
    """Put a tick with its name at every value, or at round values where there are many.

    The axis is logarithmic where the numbers span a decade.
    """
    x = list(positions.values())
    are_numbers = all(map(is_number, positions))
    if are_numbers and min(x) > 0 and max(x) / min(x) >= DECADE:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        # matplotlib labels ticks between the major ones too, over their labels.
        axes.xaxis.set_minor_formatter(NullFormatter())
    if len(x) <= MOST_TICKS or not are_numbers:
        axes.xaxis.set_tick_params(which="minor", length=0)
        axes.set_xticks(x, [names[value_text(value)] for value in positions])
