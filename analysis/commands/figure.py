"""`python -m analysis figure KIND EXPERIMENT --out FILE`: a figure for a paper (PDF, PNG, SVG)."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from analysis.commands.arguments import add_experiment
from analysis.commands.output import say, say_written
from analysis.figures.bars import class_bars, class_deltas, class_errors, variant_deltas
from analysis.figures.curves import knob_curves, threshold_curves
from analysis.figures.erasures import erasure_figure
from analysis.figures.frames import best_variant, class_frame, error_frame, threshold_frame
from analysis.figures.grids import heat_map
from analysis.figures.panels import panel_figure
from analysis.figures.picks import picked_rows
from analysis.figures.scatter import correlation_plot, pareto_plot, regret_plot
from analysis.figures.style import TWO_COLUMNS, check_file, save
from analysis.read.knobs import knob_values, scored, varied
from analysis.read.labels import labels_of, names_of, variant_called
from analysis.read.mlflow import load
from analysis.studies.compare import compare, compare_classes
from analysis.studies.correlation import correlation
from analysis.studies.pareto import pareto
from occse.naming.labels import value_text
from occse.naming.variants import marked_baseline

Draw = Callable[[pd.DataFrame, argparse.Namespace], Figure]
Arguments = Mapping[str, Mapping[str, Any]]

# Curves are drawn by the way of erasing unless the caller says otherwise.
ERASING = "cgnet.erasing"


def declare(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(required=True, metavar="KIND")
    for kind, (draw, summary, arguments) in KINDS.items():
        # argparse fills in the % of a help text, and leaves those of a description alone.
        of_kind = kinds.add_parser(kind, help=summary, description=summary.replace("%%", "%"))
        add_experiment(of_kind)
        of_kind.set_defaults(draw=draw)
        of_kind.add_argument(
            "--out", type=Path, required=True, metavar="FILE", help="a PDF, PNG or SVG file"
        )
        for name, options in arguments.items():
            of_kind.add_argument(name, **options)


def run(options: argparse.Namespace) -> int:
    """Draw a figure and write it."""
    check_file(options.out)
    trials = load(options.experiment, tracking=options.tracking, labels=options.labels)
    figure = options.draw(trials, options)
    save(figure, options.out)
    wide, high = figure.get_size_inches()
    say_written(options.out, f"a figure of {wide:.1f} x {high:.1f} inches")
    return 0


def _curve(trials: pd.DataFrame, options: argparse.Namespace) -> Figure:
    by = options.by
    if not by and options.knob != ERASING and ERASING in varied(trials):
        by = [ERASING]
    return knob_curves(
        _where(trials, options.where), metric=options.metric, knob=options.knob, by=by
    )


def _heatmap(trials: pd.DataFrame, options: argparse.Namespace) -> Figure:
    return heat_map(
        _where(trials, options.where),
        metric=options.metric,
        rows=options.rows,
        columns=options.columns,
    )


def _where(trials: pd.DataFrame, conditions: Sequence[str]) -> pd.DataFrame:
    """Return the trials with these values of knobs, and the baseline."""
    for knob, _, value in (condition.partition("=") for condition in conditions):
        # Compared as people read values, so that 6 finds "6.0"; NaN stays where there is no such
        # knob.
        held = knob_values(trials, knob).map(value_text, na_action="ignore")
        if value not in set(held):
            there = ", ".join(map(str, held.unique()))
            raise ValueError(f"--where {knob}={value}: no trial has it; there are: {there}")
        trials = trials[(held == value) | trials["baseline"]]
    return trials


def _classes(trials: pd.DataFrame, options: argparse.Namespace) -> Figure:
    return class_bars(class_frame(trials, _field(options), _chosen(trials, options)))


def _class_errors(trials: pd.DataFrame, options: argparse.Namespace) -> Figure:
    chosen = _chosen(trials, options)
    return class_errors(error_frame(trials, _field(options), chosen, tracking=options.tracking))


def _class_deltas(trials: pd.DataFrame, options: argparse.Namespace) -> Figure:
    variant = _variant(trials, options)
    found = compare_classes(trials, _field(options), variant, tracking=options.tracking)
    return class_deltas(found, name=_names(trials, options.metric)[variant])


def _deltas(trials: pd.DataFrame, options: argparse.Namespace) -> Figure:
    found = compare(trials, _field(options), tracking=options.tracking)
    name = labels_of(trials).metric(options.metric)
    return variant_deltas(found, _names(trials, options.metric), metric=name)


def _thresholds(trials: pd.DataFrame, options: argparse.Namespace) -> Figure:
    return threshold_curves(
        threshold_frame(trials, _chosen(trials, options), tracking=options.tracking)
    )


def _pareto(trials: pd.DataFrame, options: argparse.Namespace) -> Figure:
    return pareto_plot(
        pareto(trials, metric=options.metric),
        _names(trials, options.metric),
        labels_of(trials),
        rule=options.rule,
    )


def _correlation(trials: pd.DataFrame, options: argparse.Namespace) -> Figure:
    first, second = options.stages
    return correlation_plot(correlation(trials), labels_of(trials), first=first, second=second)


def _regret(trials: pd.DataFrame, options: argparse.Namespace) -> Figure:
    return regret_plot(correlation(trials), labels_of(trials))


def _panels(trials: pd.DataFrame, options: argparse.Namespace) -> Figure:
    variant = _variant(trials, options)
    rows, notes = picked_rows(
        trials,
        _field(options),
        variant,
        tracking=options.tracking,
        folders=options.panels,
        seed=options.seed,
    )
    for note in notes:
        say(note)
    return panel_figure(
        rows, ("baseline", _names(trials, options.metric)[variant]), width=TWO_COLUMNS
    )


def _erasures(trials: pd.DataFrame, options: argparse.Namespace) -> Figure:
    return erasure_figure(trials, tracking=options.tracking)


def _field(options: argparse.Namespace) -> str:
    field, _, name = options.metric.partition("/")
    if name != "miou":
        raise ValueError(
            f"--metric {options.metric}: expected the mIoU of a stage, such as seg/miou"
        )
    return str(field)


def _names(trials: pd.DataFrame, metric: str) -> dict[str, str]:
    return dict(names_of(scored(trials, metric)))


def _variant(trials: pd.DataFrame, options: argparse.Namespace) -> str:
    """Return the variant that was asked for; by default the best one beside the baseline.

    Raises:
        ValueError: several were asked for, of which the figure shows one.
    """
    if options.variant and len(options.variant) > 1:
        told = ", ".join(options.variant)
        raise ValueError(f"--variant: this figure shows one variant, got {told}")
    if options.variant:
        return variant_called(options.variant[0], scored(trials, options.metric))
    return best_variant(trials, options.metric)


def _chosen(trials: pd.DataFrame, options: argparse.Namespace) -> dict[str, str]:
    """The variants of a figure with their short names: those asked for, or the baseline and the
    best other one.
    """
    rows, names = scored(trials, options.metric), _names(trials, options.metric)
    chosen = [variant_called(name, rows) for name in options.variant or ()] or [
        *rows.loc[rows["baseline"], "variant"].unique(),
        best_variant(trials, options.metric),
    ]
    baselines = set(rows.loc[rows["baseline"], "variant"])
    return {
        each: marked_baseline(names.get(each, each)) if each in baselines else names.get(each, each)
        for each in chosen
    }


def _metric(default: str) -> Arguments:
    return {"--metric": {"default": default, "help": "the score (default: %(default)s)"}}


WHERE: Arguments = {
    "--where": {"nargs": "+", "default": (), "metavar": "KNOB=VALUE", "help": "only these trials"}
}
SEG, CAM = _metric("seg/miou"), _metric("cam/miou")
VARIANT: Arguments = {
    "--variant": {"nargs": "+", "help": "as in the table; default: the best beside the baseline"}
}
ALONG: Arguments = {
    "--knob": {"default": "cgnet.lambda_start", "help": "the axis (default: %(default)s)"},
    "--by": {
        "nargs": "+",
        "help": "a line for each value (default: cgnet.erasing, where it varies)",
    },
}
GRID: Arguments = {
    "--rows": {"default": "cgnet.lambda_start", "help": "knob (default: %(default)s)"},
    "--columns": {"default": "crf_low.alpha", "help": "knob (default: %(default)s)"},
}
RULE: Arguments = {
    "--rule": {
        "choices": ["alone", "shared"],
        "default": "alone",
        "help": "who pays for shared stages",
    }
}
PAIR: Arguments = {
    "--stages": {"nargs": 2, "default": ["cam", "seg"], "help": "scored stages (default: cam seg)"}
}
PICKS: Arguments = {
    "--panels": {
        "nargs": 2,
        "type": Path,
        "default": (),
        "help": "folders of `occse panels`: baseline, variant",
    },
    "--seed": {"type": int, "default": 0, "help": "of the image drawn at random (default: 0)"},
}
KINDS: Mapping[str, tuple[Draw, str, Arguments]] = {
    "curve": (
        _curve,
        "a score along a knob, with 95 %% t-intervals over seeds",
        {**SEG, **ALONG, **WHERE},
    ),
    "heatmap": (_heatmap, "a score by two knobs", {**SEG, **GRID, **WHERE}),
    "classes": (_classes, "IoU by class", {**SEG, **VARIANT}),
    "class-errors": (_class_errors, "missed and false pixels by class", {**SEG, **VARIANT}),
    "class-deltas": (_class_deltas, "differences from the baseline by class", {**SEG, **VARIANT}),
    "deltas": (_deltas, "differences of all variants from the baseline", SEG),
    "thresholds": (_thresholds, "mIoU of the activation maps by threshold", {**CAM, **VARIANT}),
    "pareto": (_pareto, "cost against score", {**SEG, **RULE}),
    "correlation": (_correlation, "the score of a stage against that of an earlier one", PAIR),
    "regret": (_regret, "what a gate after each stage would have lost", {}),
    "erasures": (_erasures, "the recursive experiment: erasing again and again", {}),
    "panels": (
        _panels,
        "the images with the largest gain and loss, and one at random",
        {**SEG, **VARIANT, **PICKS},
    ),
}
