"""The recursive experiment: erasing with the ordinary classifier again and again, by the curves in
MLflow.
"""

from textwrap import wrap

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.figures.style import GREY, TWO_COLUMNS, legend_below, look, page
from analysis.read.labels import labels_of
from analysis.read.source.connect import connect

STAGE = "erase_and_infer"
# Characters of 8 pt that fit above a third of the page.
TITLE_WIDTH = 28
PANELS = {
    "miou": "mIoU of the merged maps (%)",
    "covered": "object pixels given to their class (%)",
    "false_activation": "activated pixels of another class or none (%)",
}


def erasure_figure(trials: pd.DataFrame, *, tracking: str | None = None) -> Figure:
    """Draw the scores of the recursive experiment by number of erasures.

    A line for each variant is the mean over its seeds, in a band from the lowest to the highest
    seed. A grey line shows the mean of `cam/miou` where the sweep has it beside the stage.

    Args:
        trials: from `load`.
        tracking: as in `load`.

    Raises:
        ValueError: none of the trials has the stage.
    """
    # Each row has a tuple of stages, into which `isin` does not look.
    trials = trials[trials["current"] & trials["planned"].map(lambda fields: STAGE in fields)]
    curves = _curves(trials, tracking)
    if curves.empty:
        raise ValueError(f"there is no curve {STAGE}/miou; does the sweep target {STAGE}?")
    with page(2.4, width=TWO_COLUMNS, columns=len(PANELS)) as (figure, panels):
        for axes, (name, title) in zip(panels, PANELS.items(), strict=True):
            _draw(axes, curves[curves["name"] == name], title)
        if "cam/miou" in trials and trials["cam/miou"].notna().any():
            # The first panel alone shows an mIoU.
            mean = 100 * trials["cam/miou"].mean()
            name = labels_of(trials).metric("cam/miou")
            panels[0].axhline(mean, color=GREY, linewidth=1, label=name)
        legend_below(figure, panels[0], columns=3)
    return figure


def _curves(trials: pd.DataFrame, tracking: str | None) -> pd.DataFrame:
    """Return a row for each point: variant, seed, name, number of erasures, value in percent."""
    source = connect(tracking)
    rows = []
    for trial in trials.to_dict("records"):
        for name in PANELS:
            history = source.history(trial["run_id"], f"{STAGE}/{name}")
            rows += [
                (trial["variant"], trial["seed"], name, step, 100 * value)
                for step, value in history
            ]
    return pd.DataFrame(rows, columns=["variant", "seed", "name", "erasures", "value"])


def _draw(axes: Axes, points: pd.DataFrame, title: str) -> None:
    for number, variant in enumerate(points["variant"].unique()):
        own = points[points["variant"] == variant]
        by_step = own.groupby("erasures")["value"].agg(["mean", "min", "max"])
        style = look(number)
        line = style.dash + style.marker
        axes.plot(by_step.index, by_step["mean"], line, color=style.color, label=variant)
        axes.fill_between(
            by_step.index,
            by_step["min"],
            by_step["max"],
            color=style.color,
            alpha=0.15,
            linewidth=0,
        )
    axes.set_title("\n".join(wrap(title, TITLE_WIDTH)))
    axes.set_xlabel("number of erasures")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y")
