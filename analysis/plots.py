"""Figures of a sweep, drawn from the curves that MLflow keeps."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from mlflow import MlflowClient

from analysis.load import load, tracking_uri

STAGE = "erase_and_infer"
PANELS = {
    "miou": "mIoU of the merged maps (%)",
    "covered": "object pixels given to their class (%)",
    "false_activation": "activated pixels of another class or none (%)",
}
# Okabe and Ito's colours, which the colour-blind can tell apart; markers and dashes are for print in grey.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS, DASHES = "os^DvPX", ("-", "--", "-.", ":")


def erasure_figure(experiment: str, *, tracking: str | None = None) -> Figure:
    """What erasing again and again does, by number of erasures.

    One line per variant: the mean over its seeds, in a band from the lowest to the highest of them. A grey line shows
    the mean of `cam/miou` where the sweep has it beside the stage.

    Raises:
        ValueError: there is no such experiment, or none of its trials has the stage.
    """
    trials = load(experiment, tracking=tracking)
    trials = trials[trials["current"] & trials["planned"].map(lambda fields: STAGE in fields)]
    curves = _curves(trials, tracking)
    if curves.empty:
        raise ValueError(f"experiment {experiment!r} has no curve {STAGE}/miou; does its sweep target {STAGE}?")
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    panels: list[Axes] = list(figure.subplots(1, len(PANELS)))
    for axes, (name, title) in zip(panels, PANELS.items(), strict=True):
        _draw(axes, curves[curves["name"] == name], title)
    if "cam/miou" in trials and trials["cam/miou"].notna().any():
        level = 100 * trials["cam/miou"].mean()
        panels[0].axhline(level, color="grey", linewidth=1, label="cam/miou")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
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
        by_step = points[points["variant"] == variant].groupby("erasures")["value"].agg(["mean", "min", "max"])
        color, marker = COLORS[number % len(COLORS)], MARKERS[number % len(MARKERS)]
        dashes = DASHES[number % len(DASHES)]
        axes.plot(by_step.index, by_step["mean"], dashes, color=color, marker=marker, markersize=5, label=variant)
        axes.fill_between(by_step.index, by_step["min"], by_step["max"], color=color, alpha=0.15, linewidth=0)
    axes.set_title(title, fontsize="medium")
    axes.set_xlabel("number of erasures")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y", linewidth=0.4)
    axes.spines[["top", "right"]].set_visible(False)
