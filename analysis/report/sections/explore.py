"""The explorer: all runs of a sweep as points, lines and curves that a reader can filter."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.read.knobs import PARAM, aliases, is_number, ordered, varied
from analysis.read.training_curves import training_curves
from analysis.report.blocks import Block, Section, Widget
from analysis.report.material import Material, Sweep
from analysis.report.sections.runs import anchors
from analysis.studies.pareto import bill
from occse.naming.labels import Labels, value_text

# Reading the curves of a run from a database takes some 40 ms, and a plot of more lines is a blur.
MOST_CURVES = 60
# More filters and axes than these do not fit on a page; the tables of effects name all knobs.
MOST_KNOBS = 8
WITHOUT = (
    "With a script, this part plots all runs: scores and cost, parallel coordinates and training "
    "curves, filtered by knob. The tables have the scores of all runs, and the cost by variant."
)


def explore(material: Material) -> Section:
    """Return the plots of every sweep that has a score."""
    blocks: list[Block] = []
    for sweep in material.sweeps:
        if sweep.scored_stages:
            data = _data(sweep, material)
            blocks.append(Widget(kind="explorer", data=data, without=WITHOUT))
    return Section(key="explore", title="Explore the runs", blocks=blocks)


def _data(sweep: Sweep, material: Material) -> dict[str, Any]:
    """Return all that the script shows: scores in percent, knobs as ranks of their levels."""
    trials = sweep.trials
    stages = sweep.scored_stages
    knobs = list(aliases(trials, varied(trials)))[:MOST_KNOBS]
    levels = {knob: ordered(trials[PARAM + knob]) for knob in knobs}
    variants = list(sweep.names)
    records = trials.to_dict("records")
    baselines = {run["variant"] for run in records if run["baseline"]}
    targets = anchors(material.current)
    # Reversed, so that the first run of each variant is the one that stays.
    first_run = {run["variant"]: run["run_id"] for run in reversed(records)}
    return {
        "scores": list(map(sweep.labels.score, stages)),
        # headings of axes that stand close to each other
        "narrow": [sweep.labels.narrow_metric(f"{stage}/miou") for stage in stages],
        "knobs": [_knob(knob, levels[knob], sweep.labels) for knob in knobs],
        "variants": [
            {
                "name": sweep.names[variant],
                "baseline": variant in baselines,
                "anchor": targets[first_run[variant]],
            }
            for variant in variants
        ],
        "runs": [_run(run, stages, levels, variants) for run in records],
        "curves": _curves(sweep, material.tracking),
    }


def _knob(name: str, levels: Sequence[str], labels: Labels) -> dict[str, Any]:
    names = labels.value_names(name, levels)
    return {
        "label": labels.knob(name, short=name.rpartition(".")[2]),
        "levels": [names[value_text(level)] for level in levels],
        "numeric": all(map(is_number, levels)),
    }


def _run(
    run: Mapping[Any, Any],
    stages: Sequence[str],
    levels: Mapping[str, Sequence[str]],
    variants: Sequence[str],
) -> dict[str, Any]:
    # by artifact, as in the table of costs; the sums of old runs count one of two fields twice
    seconds = sum(bill(run).values()) or run["spent_s"] + run["saved_s"]
    ranks = []
    for knob, own in levels.items():
        value = run[PARAM + knob]
        # A knob without effect on a run is NaN there.
        ranks.append(own.index(value) if isinstance(value, str) else None)
    return {
        "variant": variants.index(run["variant"]),
        "seed": run["seed"],
        "run": f"{run['experiment_id']}/{run['run_id']}",
        "minutes": None if math.isnan(seconds) else round(seconds / 60, 2),
        "knobs": ranks,
        "scores": [_percent(run.get(f"{stage}/miou")) for stage in stages],
    }


def _percent(value: float | None) -> float | None:
    if value is None or math.isnan(value):
        return None
    return round(100 * value, 3)


def _curves(sweep: Sweep, tracking: str | None) -> dict[str, Any]:
    """Return the curves of the baseline and of the runs with the highest scores."""
    chosen = _ranked(sweep)[:MOST_CURVES]
    told = ""
    if len(chosen) < len(sweep.trials):
        told = (
            f"Curves of {len(chosen)} of {len(sweep.trials)} runs: the baseline's, and those with "
            f"the highest {sweep.labels.score(sweep.last_stage)}."
        )
    try:
        curves = training_curves(chosen, tracking=tracking)
    except (ValueError, ConnectionError) as error:
        return {"names": [], "lines": [], "told": f"No curves: {error}."}
    names = list(dict.fromkeys(curve.name for curve in curves))
    # The script knows a run by its position in the list `runs`.
    index = {run: number for number, run in enumerate(sweep.trials["run_id"])}
    lines = [
        {
            "curve": names.index(curve.name),
            "run": index[curve.run],
            "x": curve.steps,
            "y": [_short(value) for value in curve.values],
        }
        for curve in curves
    ]
    titles = list(map(sweep.labels.metric, names))
    return {"names": titles, "lines": lines, "told": told}


def _ranked(sweep: Sweep) -> list[str]:
    """Return the runs, the baseline's first, then by falling score."""
    metric = sweep.trials[f"{sweep.last_stage}/miou"]
    order = pd.DataFrame({"baseline": sweep.trials["baseline"], "score": metric})
    ranked = order.sort_values(["baseline", "score"], ascending=False, kind="stable")
    return [str(run) for run in sweep.trials.loc[ranked.index, "run_id"]]


def _short(value: float) -> float | None:
    """Return a value with the digits that a plot can show; JSON has no NaN."""
    return float(f"{value:.5g}") if math.isfinite(value) else None
