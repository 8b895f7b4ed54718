"""The recursive experiment: erasing with the ordinary classifier again and again, from the curves
that MLflow keeps.
"""

from textwrap import wrap

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from mlflow import MlflowClient

from analysis.figures.style import COLORS, DASHES, GREY, MARKERS, TWO_COLUMNS, legend_below, page
from analysis.read.mlflow import tracking_uri

STAGE = "erase_and_infer"
PANELS = {
    "miou": "mIoU of the merged maps (%)",
    "covered": "object pixels given to their class (%)",
    "false_activation": "activated pixels of another class or none (%)",
}


def erasure_figure(trials: pd.DataFrame, *, tracking: str | None = None) -> Figure:
    """What erasing again and again does, by number of erasures.

    One line per variant: the mean over its seeds, in a band from the lowest to the highest of them.
    A grey line shows the mean of `cam/miou` where the sweep has it beside the stage.

    Args:
        trials: from `load`.
        tracking: as in `load`.

    Raises:
        ValueError: none of the trials has the stage.
    """
    trials = trials[trials["current"] & trials["planned"].map(lambda fields: STAGE in fields)]
    curves = _curves(trials, tracking)
    if curves.empty:
        raise ValueError(f"there is no curve {STAGE}/miou; does the sweep target {STAGE}?")
    with page(2.4, width=TWO_COLUMNS, columns=len(PANELS)) as (figure, panels):
        for axes, (name, title) in zip(panels, PANELS.items(), strict=True):
            _draw(axes, curves[curves["name"] == name], title)
        if "cam/miou" in trials and trials["cam/miou"].notna().any():
            panels[0].axhline(
                100 * trials["cam/miou"].mean(), color=GREY, linewidth=1, label="cam/miou"
            )
        legend_below(figure, panels[0], columns=3)
    return figure


def _curves(trials: pd.DataFrame, tracking: str | None) -> pd.DataFrame:
    """One row per point: variant, seed, name, number of erasures, value in percent."""
    client = MlflowClient(tracking_uri(tracking))
    return pd.DataFrame(
        [
            (trial["variant"], trial["seed"], name, point.step, 100 * point.value)
            for _, trial in trials.iterrows()
            for name in PANELS
            for point in client.get_metric_history(trial["run_id"], f"{STAGE}/{name}")
        ],
        columns=["variant", "seed", "name", "erasures", "value"],
    )


def _draw(axes: Axes, points: pd.DataFrame, title: str) -> None:
    for number, variant in enumerate(points["variant"].unique()):
        by_step = (
            points[points["variant"] == variant]
            .groupby("erasures")["value"]
            .agg(["mean", "min", "max"])
        )
        color, marker = COLORS[number % len(COLORS)], MARKERS[number % len(MARKERS)]
        axes.plot(
            by_step.index,
            by_step["mean"],
            DASHES[number % len(DASHES)] + marker,
            color=color,
            label=variant,
        )
        axes.fill_between(
            by_step.index, by_step["min"], by_step["max"], color=color, alpha=0.15, linewidth=0
        )
    axes.set_title("\n".join(wrap(title, 28)))
    axes.set_xlabel("number of erasures")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y")
