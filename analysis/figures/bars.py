"""Scores by class, and differences from the baseline."""

from collections.abc import Mapping, Sequence
from textwrap import wrap

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.style import BETTER, COLORS, GREY, WORSE, legend_below, look, page
from analysis.statistics.bootstrap import Interval
from analysis.studies.compare import Comparison, class_verdicts

# Inches that a line of 7 pt text takes with its leading.
LINE = 0.17
# Characters of 7 pt that fit beside the bars.
NAME_WIDTH = 32
# Characters of 7 pt that fit across the whole column.
TITLE_WIDTH = 54
# Share of a class's room that its bars fill; the rest parts it from the next class.
FILLED = 0.8
PARTS = {
    "hit": (COLORS[0], "right (IoU)"),
    "missed": (COLORS[4], "missed"),
    "false": (COLORS[1], "false"),
}
VERDICT_COLORS = {"better": BETTER, "worse": WORSE, "within noise": GREY}
THIN_BARS = {"elinewidth": 0.8, "capsize": 1.5, "capthick": 0.8, "ecolor": "#333333"}


def class_bars(ious: pd.DataFrame) -> Figure:
    """Draw the IoU of every class, a bar for each label, ± standard deviation over its seeds.

    Args:
        ious: columns `label`, `seed`, `class` and `iou`, fractions. Classes stand in the order of
            the first label.
    """
    labels = list(dict.fromkeys(ious["label"]))
    table = 100 * ious.groupby(["label", "class"])["iou"].agg(["mean", "std"])
    # barh draws upwards, so the best class stands on top.
    classes = list(table.loc[labels[0]].sort_values("mean").index)
    # A line of the legend for each label. A class has room for its name, and for all its bars.
    room = LINE * len(labels) + LINE * len(classes) * max(1, 0.6 * len(labels))
    with page(0.7 + room) as (figure, (axes,)):
        for number, label in enumerate(labels):
            rows = table.loc[label].loc[classes]
            style = look(number)
            axes.barh(
                _bar_positions(number, len(labels), len(classes)),
                rows["mean"],
                FILLED / len(labels),
                # One seed has no deviation: NaN in pandas.
                xerr=rows["std"].fillna(0),
                color=style.color,
                hatch=style.hatch,
                edgecolor="white",
                linewidth=0.3,
                error_kw={"elinewidth": 0.7, "ecolor": "#333333"},
                label=label,
            )
        _name_bars(axes, classes, "IoU (%) ± standard deviation over seeds")
        legend_below(figure, axes, columns=1)
    return figure


def class_errors(shares: pd.DataFrame) -> Figure:
    """Draw the parts of each class's union: right, missed and false pixels, a bar for each label.

    Args:
        shares: columns `label`, `class`, `hit`, `missed` and `false`, fractions of the union.
            Classes stand in the order of the first label, labels from above.
    """
    labels = list(dict.fromkeys(shares["label"]))
    table = 100 * shares.set_index(["label", "class"])[list(PARTS)]
    classes = list(table.loc[labels[0]].sort_values("hit").index)
    # Bars in parts have no edge: a gap keeps those of two labels apart.
    thickness = 0.9 * FILLED / len(labels)
    with page(0.9 + LINE * len(classes) * max(1, 0.6 * len(labels))) as (figure, (axes,)):
        for number, label in enumerate(labels):
            positions = _bar_positions(number, len(labels), len(classes))
            rows = table.loc[label].loc[classes]
            start = pd.Series(0.0, index=rows.index)
            for part, (color, name) in PARTS.items():
                axes.barh(
                    positions,
                    rows[part],
                    thickness,
                    left=start,
                    color=color,
                    linewidth=0,
                    # one entry in the legend serves the bars of all labels
                    label=name if number == 0 else None,
                )
                start = start + rows[part]
        _name_bars(axes, classes, "share of truth and prediction together (%)")
        axes.set_xlim(0, 100)
        axes.set_title(_wrapped(f"from above: {'; '.join(labels)}", TITLE_WIDTH), fontsize=7)
        legend_below(figure, axes, columns=3)
    return figure


def class_deltas(classes: Mapping[str, Interval], *, name: str) -> Figure:
    """Draw the differences of the variant `name` from the baseline by class, sorted.

    A bar is coloured where its p-value, adjusted for all classes by Holm's method, is below 0.05;
    the lines are the 95 % intervals, which are not adjusted.
    """
    verdicts = class_verdicts(classes)
    ranked = sorted(classes.items(), key=lambda item: item[1].value)
    intervals = [interval for _, interval in ranked]
    colors = [VERDICT_COLORS[verdicts[label]] for label, _ in ranked]
    with page(0.7 + LINE * len(ranked)) as (figure, (axes,)):
        _draw_differences(axes, intervals, colors)
        axes.set_title(_wrapped(f"{name} against the baseline", TITLE_WIDTH), fontsize=7)
        _name_bars(axes, [label for label, _ in ranked], "Δ IoU (points)")
    return figure


def variant_deltas(
    comparisons: Sequence[Comparison], names: Mapping[str, str], *, metric: str
) -> Figure:
    """Draw the differences of all variants from the baseline, sorted.

    A bar has the colour of the comparison's verdict, which is that of the table; the lines are the
    95 % intervals, which are not adjusted.

    Args:
        comparisons: of `analysis.studies.compare`.
        names: what to call each variant.
        metric: what was compared.
    """
    ranked = sorted(comparisons, key=lambda comparison: comparison.difference.value)
    labels = [_wrapped(names[comparison.variant], NAME_WIDTH) for comparison in ranked]
    lines = max(label.count("\n") + 1 for label in labels)
    colors = [VERDICT_COLORS[comparison.verdict] for comparison in ranked]
    with page(0.5 + (0.06 + 0.11 * lines) * len(ranked)) as (figure, (axes,)):
        _draw_differences(axes, [comparison.difference for comparison in ranked], colors)
        _name_bars(axes, labels, f"Δ {metric} (points)")
    return figure


def _draw_differences(axes: Axes, intervals: Sequence[Interval], colors: Sequence[str]) -> None:
    for position, (interval, color) in enumerate(zip(intervals, colors, strict=True)):
        axes.barh(
            position,
            100 * interval.value,
            0.7,
            # Intervals reach as far to the left as to the right.
            xerr=100 * (interval.high - interval.value),
            color=color,
            error_kw=THIN_BARS,
        )
    axes.axvline(0, color="black", linewidth=0.6)


def _bar_positions(number: int, labels: int, classes: int) -> list[float]:
    """Return the heights of the bars of the label with this number, one for each class."""
    # The axis points upwards, and the first label stands on top.
    offset = FILLED / 2 - FILLED / labels * (number + 0.5)
    return [index + offset for index in range(classes)]


def _name_bars(axes: Axes, names: Sequence[str], label: str) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(label)
    axes.grid(axis="x")


def _wrapped(text: str, width: int) -> str:
    return "\n".join(wrap(text, width))
