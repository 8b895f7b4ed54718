"""Scores along a knob, and over the threshold."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from scipy import stats

from analysis.figures.style import COLORS, DASHES, GREY, MARKERS, label_axes, legend_below, page
from analysis.read.knobs import PARAM, averaged, knob_values, measurements, ordered, plain
from analysis.statistics.bootstrap import LEVEL
from analysis.statistics.seed_design import combined, of_new_run, replicate

DECADE = 9  # a knob whose values span this factor or more is drawn on a logarithmic axis
MOST_TICKS = 7


def knob_curves(trials: pd.DataFrame, *, metric: str, knob: str, by: Sequence[str] = ()) -> Figure:
    """`metric` along `knob`, a line for each combination of the knobs `by`; over other knobs each
    seed is averaged.

    Bands are 95 % t-intervals of the mean over seeds; the variance between seeds is pooled over all
    points of the figure, since that of two or three seeds alone is hardly known. The dotted line is
    the mean of the baseline, where it does not have the knob.

    Raises:
        ValueError: no trial has the metric or the knob.
    """
    rows = measurements(trials, metric)
    along = rows[knob_values(rows, knob).notna()]
    for each in by:
        knob_values(along, each)
    positions = _positions(ordered(along[PARAM + knob]))
    lines = dict(_lines(along, by))
    curves = {label: _curve(line, metric, knob, positions) for label, line in lines.items()}
    over = dict.fromkeys(name for line in lines.values() for name in averaged(line, knob, *by))
    spread = _pooled(curves.values())
    with page(2.7) as (figure, (axes,)):
        for number, (label, curve) in enumerate(curves.items()):
            _line(axes, curve, positions, spread, number=number, label=label)
        if spread:
            axes.fill_between(
                [], [], color=GREY, alpha=0.25, linewidth=0, label="95 % t-interval over seeds"
            )
        baseline = rows[rows["baseline"] & rows[PARAM + knob].isna()]
        if len(baseline):
            axes.axhline(
                100 * baseline[metric].mean(),
                color=GREY,
                linewidth=1,
                linestyle=":",
                label="baseline",
            )
        _ticks(axes, positions)
        label_axes(axes, knob, f"{metric} (%)", over=list(over))
        axes.grid(axis="y")
        legend_below(figure, axes)
    return figure


def threshold_curves(curves: pd.DataFrame) -> Figure:
    """mIoU of the activation maps by threshold, a line for each label: the mean of its seeds.

    Args:
        curves: columns `label`, `seed`, `threshold`, `miou` and `chosen`, the threshold of the
        table (marked).
    """
    with page(2.6) as (figure, (axes,)):
        for number, (label, rows) in enumerate(curves.groupby("label", sort=False)):
            color, marker = COLORS[number % len(COLORS)], MARKERS[number % len(MARKERS)]
            mean = 100 * rows.groupby("threshold")["miou"].mean()
            axes.plot(mean.index, mean, DASHES[number % len(DASHES)], color=color)
            chosen = rows[np.isclose(rows["threshold"], rows["chosen"])]
            axes.plot(
                chosen["threshold"],
                100 * chosen["miou"],
                marker,
                color=color,
                markeredgecolor="white",
                markersize=5,
            )
            axes.plot([], [], DASHES[number % len(DASHES)], marker=marker, color=color, label=label)
        axes.set_xlabel("threshold of the activation map (marks: chosen)")
        axes.set_ylabel("mIoU (%)")
        axes.grid(axis="y")
        legend_below(figure, axes, columns=1)
    return figure


def _lines(trials: pd.DataFrame, by: Sequence[str]) -> Iterator[tuple[str, pd.DataFrame]]:
    """The trials of each line by its label; a knob that means nothing for some makes a line of its
    own.
    """
    if not by:
        yield "mean over seeds", trials
        return
    for values, line in trials.groupby([PARAM + each for each in by], sort=False, dropna=False):
        named = ((name.partition(".")[2], value) for name, value in zip(by, values, strict=True))
        parts = (
            f"{name} {plain(value)}" if isinstance(value, str) else f"without {name}"
            for name, value in named
        )
        yield ", ".join(parts), line


def _curve(
    line: pd.DataFrame, metric: str, knob: str, positions: Mapping[str, float]
) -> pd.DataFrame:
    """The scores in percent: a row for each value of the knob, a column for each seed."""
    table = 100 * line.pivot_table(metric, PARAM + knob, replicate(line, metric.partition("/")[0]))
    return table.loc[sorted(table.index, key=positions.__getitem__)]


def _line(
    axes: Axes,
    curve: pd.DataFrame,
    positions: Mapping[str, float],
    spread: tuple[float, float] | None,
    *,
    number: int,
    label: str,
) -> None:
    """A line through the means over seeds, in the band of their t-intervals where there is a
    spread.
    """
    places, mean = [positions[str(value)] for value in curve.index], curve.mean(axis=1)
    color, style = (
        COLORS[number % len(COLORS)],
        DASHES[number % len(DASHES)] + MARKERS[number % len(MARKERS)],
    )
    axes.plot(places, mean, style, color=color, label=label)
    if spread:
        reach = (
            stats.t.ppf((1 + LEVEL) / 2, spread[1]) * (spread[0] / curve.notna().sum(axis=1)) ** 0.5
        )
        axes.fill_between(places, mean - reach, mean + reach, color=color, alpha=0.15, linewidth=0)
        if len(places) == 1:  # a band of one point has no width
            axes.errorbar(places, mean, yerr=reach, color=color, elinewidth=0.8, capsize=2)


def _pooled(curves: Iterable[pd.DataFrame]) -> tuple[float, float] | None:
    """Variance between seeds over all points, and its degrees of freedom; None where none has two
    seeds.
    """
    # lines may differ in the seeds that they have
    alike: dict[tuple[object, ...], list[pd.DataFrame]] = {}
    for curve in curves:
        alike.setdefault(tuple(curve.columns), []).append(curve.dropna())
    groups = [pd.concat(found) for seeds, found in alike.items() if len(seeds) > 1]
    total = sum(map(len, groups))
    found = [
        (len(points) / total, of_new_run(points.to_numpy())) for points in groups if len(points)
    ]
    return (
        combined((share * variance, freedom) for share, (variance, freedom) in found)
        if found
        else None
    )


def _positions(levels: Sequence[str]) -> dict[str, float]:
    """Where each value of a knob stands: at its number, or one after the other where some are none."""
    try:
        return {level: float(level) for level in levels}
    except ValueError:
        return {level: float(place) for place, level in enumerate(levels)}


def _ticks(axes: Axes, positions: Mapping[str, float]) -> None:
    """A logarithmic axis where the numbers span a decade, and a tick at every value, of a search at
    round ones.
    """
    places = list(positions.values())
    numbers = _positions(list(positions)) == positions and min(places) > 0
    if numbers and max(places) / min(places) >= DECADE:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    if len(places) <= MOST_TICKS or not numbers:
        axes.xaxis.set_tick_params(which="minor", length=0)
        axes.set_xticks(places, [plain(value) for value in positions])
