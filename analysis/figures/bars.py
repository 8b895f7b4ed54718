"""Scores by class, and differences from the baseline."""

from collections.abc import Mapping, Sequence
from textwrap import wrap

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.style import BETTER, COLORS, GREY, HATCHES, WORSE, legend_below, page
from analysis.statistics.bootstrap import Interval
from analysis.studies.compare import Comparison

LINE = 0.17  # inches for a line of text
WRAP = 32
PARTS = {
    "hit": (COLORS[0], "right (IoU)"),
    "missed": (COLORS[4], "missed"),
    "false": (COLORS[1], "false"),
}


def class_bars(ious: pd.DataFrame) -> Figure:
    """IoU of every class, a bar for each label, with the sample standard deviation over its seeds.

    Args:
        ious: columns `label`, `seed`, `class` and `iou`, fractions. Classes stand in the order of
        the first label.
    """
    labels = list(dict.fromkeys(ious["label"]))
    table = 100 * ious.groupby(["label", "class"])["iou"].agg(["mean", "std"])
    classes = list(table.loc[labels[0]].sort_values("mean").index)
    thick = 0.8 / len(labels)
    with page(0.7 + LINE * len(labels) + LINE * len(classes) * max(1, 0.6 * len(labels))) as (
        figure,
        (axes,),
    ):
        for number, label in enumerate(labels):
            rows = table.loc[label].loc[classes]
            places = [place + 0.4 - thick * (number + 0.5) for place in range(len(classes))]
            axes.barh(
                places,
                rows["mean"],
                thick,
                xerr=rows["std"].fillna(0),
                color=COLORS[number % len(COLORS)],
                hatch=HATCHES[number % len(HATCHES)],
                edgecolor="white",
                linewidth=0.3,
                error_kw={"elinewidth": 0.7, "ecolor": "#333333"},
                label=label,
            )
        _named(axes, classes, "IoU (%) ± standard deviation over seeds")
        legend_below(figure, axes, columns=1)
    return figure


def class_errors(shares: pd.DataFrame) -> Figure:
    """Where the IoU of each class is lost: pixels that were missed, and pixels that are false; a
    bar for each label.

    Args:
        shares: columns `label`, `class`, `hit`, `missed` and `false`, fractions of the union.
            Classes stand in the order of the first label, labels from above.
    """
    labels = list(dict.fromkeys(shares["label"]))
    table = 100 * shares.set_index(["label", "class"])[list(PARTS)]
    classes = list(table.loc[labels[0]].sort_values("hit").index)
    thick = 0.8 / len(labels)
    with page(0.9 + LINE * len(classes) * max(1, 0.6 * len(labels))) as (figure, (axes,)):
        for number, label in enumerate(labels):
            places, start = (
                [place + 0.4 - thick * (number + 0.5) for place in range(len(classes))],
                0.0,
            )
            for part, (color, name) in PARTS.items():
                width, shown = table.loc[label].loc[classes][part], name if not number else None
                axes.barh(
                    places, width, 0.9 * thick, left=start, color=color, linewidth=0, label=shown
                )
                start = start + width
        _named(axes, classes, "share of truth and prediction together (%)")
        axes.set_xlim(0, 100)
        axes.set_title("\n".join(wrap(f"from above: {'; '.join(labels)}", 54)), fontsize=7)
        legend_below(figure, axes, columns=3)
    return figure


def class_deltas(classes: Mapping[str, Interval], *, name: str) -> Figure:
    """Differences of the variant `name` from the baseline by class, sorted; grey where the 95 %
    interval holds 0.
    """
    chosen = sorted(classes.items(), key=lambda item: item[1].value)
    with page(0.7 + LINE * len(chosen)) as (figure, (axes,)):
        _deltas(axes, [found for _, found in chosen])
        axes.set_title("\n".join(wrap(f"{name} against the baseline", 54)), fontsize=7)
        _named(axes, [name for name, _ in chosen], "Δ IoU (points)")
    return figure


def variant_deltas(
    comparisons: Sequence[Comparison], names: Mapping[str, str], *, metric: str
) -> Figure:
    """Differences of all variants from the baseline, sorted, with their 95 % intervals; grey where
    that holds 0.

    Args:
        comparisons: of `analysis.studies.compare`.
        names: what to call each variant.
        metric: what was compared.
    """
    chosen = sorted(comparisons, key=lambda each: each.difference.value)
    labels = ["\n".join(wrap(names[each.variant], WRAP)) for each in chosen]
    lines = max(label.count("\n") + 1 for label in labels)
    with page(0.5 + (0.06 + 0.11 * lines) * len(chosen)) as (figure, (axes,)):
        _deltas(axes, [each.difference for each in chosen])
        _named(axes, labels, f"Δ {metric} (points)")
    return figure


def _deltas(axes: Axes, found: Sequence[Interval]) -> None:
    for place, each in enumerate(found):
        color = GREY if each.low <= 0 <= each.high else BETTER if each.value > 0 else WORSE
        reach = 100 * (each.high - each.value)
        error = {"elinewidth": 0.8, "capsize": 1.5, "capthick": 0.8, "ecolor": "#333333"}
        axes.barh(place, 100 * each.value, 0.7, xerr=reach, color=color, error_kw=error)
    axes.axvline(0, color="black", linewidth=0.6)


def _named(axes: Axes, names: Sequence[str], label: str) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(label)
    axes.grid(axis="x")
