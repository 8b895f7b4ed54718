"""The figures of a report, each with a caption and, for those who cannot see it, what it shows in
numbers.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from typing import Any

import pandas as pd

from analysis.figures.bars import class_bars, class_deltas, class_errors, variant_deltas
from analysis.figures.curves import knob_curves, threshold_curves
from analysis.figures.frames import best_variant, class_frame, error_frame, threshold_frame
from analysis.figures.grids import heat_map
from analysis.figures.panels import panel_figure
from analysis.figures.picks import picked_rows
from analysis.figures.scatter import correlation_plot, pareto_plot, regret_plot
from analysis.read.knobs import (
    PARAM,
    aliases,
    is_number,
    ordered,
    scored,
    short_names,
    show,
    varied,
)
from analysis.report.blocks import Block, Picture, Section, Text
from analysis.report.findings import Finding
from analysis.report.material import Material, Sweep
from analysis.report.words import listed, percent, points
from analysis.studies.compare import compare_classes
from analysis.studies.pareto import pareto

WIDE = 6.9  # inches, both columns of a paper
MOST_KNOBS = 3


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A picture that is still to be drawn, from trials that may not be enough for it."""

    name: str
    draw: Callable[[], Picture]


def figures(material: Material, found: Mapping[str, Sequence[Finding]]) -> Section | None:
    """All figures that the trials are enough for, sweep by sweep; None without any score."""
    blocks: list[Block] = []
    several = len(material.sweeps) > 1
    for sweep in material.sweeps:
        missing = []
        for drawing in _drawings(sweep, found[sweep.name], material.tracking):
            try:
                made = drawing.draw()
            except ValueError as error:
                missing.append(f"{drawing.name}: {error}.")
                continue
            caption = f"{sweep.name}: {made.caption}" if several else made.caption
            blocks.append(
                replace(
                    made, name=f"{made.name}_{sweep.key}" if several else made.name, caption=caption
                )
            )
        if missing:
            blocks.append(Text(title="Not drawn", paragraphs=missing))
    return Section(key="figures", title="Figures", blocks=blocks) if blocks else None


def _drawings(sweep: Sweep, found: Sequence[Finding], tracking: str | None) -> Iterator[Drawing]:
    if not found:
        return
    trials = sweep.trials
    metric = f"{found[-1].stage}/miou"
    names = short_names(list(trials["variant"].unique()))
    last = found[-1].stage
    for finding in found:
        if finding.comparisons:
            yield Drawing(
                name=f"differences of {finding.stage}/miou",
                draw=partial(_differences, finding, names),
            )
    yield from _along_knobs(trials, metric)
    yield Drawing(name="thresholds", draw=partial(_thresholds, trials, tracking))
    yield Drawing(name="classes", draw=partial(_classes, trials, last))
    yield Drawing(name="errors by class", draw=partial(_class_errors, trials, last, tracking))
    yield Drawing(
        name="differences by class", draw=partial(_class_differences, trials, last, names, tracking)
    )
    yield Drawing(name="cost", draw=partial(_cost, trials, metric, names))
    yield Drawing(name="correlation", draw=partial(_correlation, sweep))
    yield Drawing(name="regret", draw=partial(_regret, sweep))
    yield Drawing(name="panels", draw=partial(_panels, trials, last, names, tracking))


def _differences(finding: Finding, names: Mapping[str, str]) -> Picture:
    metric = f"{finding.stage}/miou"
    ranked = sorted(finding.comparisons, key=lambda each: each.difference.value)
    lowest, highest = ranked[0], ranked[-1]
    alt = (
        f"A bar with its interval for each of {len(ranked)} variants, from {points(lowest.difference.value)} "
        f"({lowest.variant}) to {points(highest.difference.value)} ({highest.variant}); all numbers are in the table."
    )
    return Picture(
        name=f"differences_{finding.stage}",
        caption=f"{metric}: differences from the baseline in points, with 95 % intervals.",
        alt=alt,
        figure=variant_deltas(finding.comparisons, names, metric=metric),
    )


def _along_knobs(trials: pd.DataFrame, metric: str) -> Iterator[Drawing]:
    """Curves along the first few knobs that are numbers, and heat maps of each two of them."""
    rows = scored(trials, metric)
    together = aliases(rows, varied(rows))
    moving = list(together)
    numbers = [knob for knob in moving if rows[PARAM + knob].dropna().map(is_number).all()][
        :MOST_KNOBS
    ]
    for knob in numbers:
        along = rows[rows[PARAM + knob].notna()]
        by = [
            other for other in moving if other not in numbers and along[PARAM + other].nunique() > 1
        ][-1:]
        draw = partial(_along, rows, metric, knob, by, together[knob])
        yield Drawing(name=f"{metric} along {knob}", draw=draw)
    for one, other in combinations(numbers, 2):
        yield Drawing(
            name=f"{metric} by {one} and {other}", draw=partial(_heat, rows, metric, one, other)
        )


def _along(
    trials: pd.DataFrame, metric: str, knob: str, by: Sequence[str], others: Sequence[str]
) -> Picture:
    means = trials.groupby(PARAM + knob)[metric].mean()
    values = [f"{show(value)}: {percent(means[value])}" for value in ordered(trials[PARAM + knob])]
    lines = f", a line for each value of {listed(list(by))}" if by else ""
    return Picture(
        name=f"along_{knob.replace('.', '_')}",
        caption=f"{metric} along {knob}{lines}.{f' With it always moves {listed(others)}.' if others else ''}",
        alt=f"Mean {metric} in percent by {knob}, over everything else: {'; '.join(values)}.",
        figure=knob_curves(trials, metric=metric, knob=knob, by=by),
    )


def _heat(trials: pd.DataFrame, metric: str, one: str, other: str) -> Picture:
    means = trials.groupby([PARAM + one, PARAM + other])[metric].mean()

    def place(key: Any) -> str:  # noqa: ANN401  # a label of pandas
        return f"{percent(means[key])} at {one} {show(key[0])} and {other} {show(key[1])}"

    return Picture(
        name=f"heat_{one}_{other}".replace(".", "_"),
        caption=f"{metric} by {one} and {other}, in percent, over everything else.",
        alt=f"A grid of means: the highest is {place(means.idxmax())}, the lowest {place(means.idxmin())}.",
        figure=heat_map(trials, metric=metric, rows=one, columns=other),
    )


def _chosen(trials: pd.DataFrame, metric: str) -> dict[str, str]:
    """The baseline and the best other variant, by their short names."""
    rows = scored(trials, metric)
    names, baselines = (
        short_names(list(rows["variant"].unique())),
        list(rows.loc[rows["baseline"], "variant"].unique()),
    )
    return {each: f"{names[each]} (baseline)" for each in baselines} | {
        best: names[best] for best in [best_variant(trials, metric)] if best not in baselines
    }


def _thresholds(trials: pd.DataFrame, tracking: str | None) -> Picture:
    frame = threshold_frame(trials, _chosen(trials, "cam/miou"), tracking=tracking)
    means = frame.groupby(["label", "threshold"], sort=False)["miou"].mean()
    best = (
        means.reset_index()
        .sort_values("miou")
        .drop_duplicates("label", keep="last")
        .to_dict("records")
    )
    peaks = [
        f"{each['label']}: {percent(each['miou'])} at {each['threshold']:.2f}" for each in best
    ]
    return Picture(
        name="thresholds",
        caption="mIoU of the activation maps by threshold; marked is the threshold of the table.",
        alt=f"The curves' highest points, in percent: {'; '.join(peaks)}.",
        figure=threshold_curves(frame),
    )


def _classes(trials: pd.DataFrame, stage: str) -> Picture:
    chosen = _chosen(trials, f"{stage}/miou")
    frame = class_frame(trials, stage, chosen)
    if frame.empty:
        raise ValueError(f"no run has {stage}/iou by class")
    means = frame.groupby(["class", "label"], sort=False)["iou"].mean().unstack("label")
    shown = {
        label: [f"{name} {percent(value)}" for name, value in means[label].items()]
        for label in means
    }
    texts = [f"{label}: {listed(values)}" for label, values in shown.items()]
    return Picture(
        name=f"classes_{stage}",
        caption=f"{stage}: IoU by class of the baseline and of the best other variant, in percent.",
        alt=f"Bars. {'; '.join(texts)}.",
        figure=class_bars(frame),
    )


def _class_errors(trials: pd.DataFrame, stage: str, tracking: str | None) -> Picture:
    frame = error_frame(trials, stage, _chosen(trials, f"{stage}/miou"), tracking=tracking)
    means = frame.groupby("label", sort=False)[["missed", "false"]].mean()
    texts = [
        f"{label}: {percent(row['missed'])} missed, {percent(row['false'])} false"
        for label, row in means.iterrows()
    ]
    return Picture(
        name=f"class_errors_{stage}",
        caption=f"{stage}: where the IoU of each class is lost, pixels that were missed and pixels that are false.",
        alt=f"Stacked bars, in percent of the union; mean over the classes: {'; '.join(texts)}.",
        figure=class_errors(frame),
    )


def _class_differences(
    trials: pd.DataFrame, stage: str, names: Mapping[str, str], tracking: str | None
) -> Picture:
    variant = best_variant(trials, f"{stage}/miou")
    found = compare_classes(trials, stage, variant, tracking=tracking)
    ranked = sorted(found.items(), key=lambda item: -item[1].value)
    return Picture(
        name=f"class_differences_{stage}",
        caption=f"{stage}: IoU by class, {variant} against the baseline, in points with 95 % intervals.",
        alt=f"Differences: {', '.join(f'{name} {points(each.value)}' for name, each in ranked)}.",
        figure=class_deltas(found, name=names[variant]),
    )


def _cost(trials: pd.DataFrame, metric: str, names: Mapping[str, str]) -> Picture:
    found = pareto(trials, metric=metric)
    best = [each.variant for each in found.costs if each.best_alone]
    return Picture(
        name="pareto",
        caption=f"{metric} against the stage time of a trial, as if nothing else had been run.",
        alt=f"A point for each variant. Nothing beats, for its cost: {listed(best)}.",
        figure=pareto_plot(found, names),
    )


def _correlation(sweep: Sweep) -> Picture:
    found = sweep.correlation
    first, last = found.stages[0], found.stages[-1]
    rank = next(
        (
            each
            for each in found.ranks
            if (each.first, each.second, each.scope) == (first, last, "all")
        ),
        None,
    )
    said = (
        f"Spearman's correlation is {rank.value:+.2f}."
        if rank
        else "All have the same score in one of them."
    )
    return Picture(
        name="correlation",
        caption=f"{last}/miou against {first}/miou, a point for each variant.",
        alt=f"A scatter plot of {len(found.points)} variants. {said}",
        figure=correlation_plot(found, first=first, second=last),
    )


def _regret(sweep: Sweep) -> Picture:
    found = sweep.correlation
    lost = [f"{each.stage} {percent(each.lost)}" for each in found.regrets if each.kept == 1]
    return Picture(
        name="regret",
        caption=f"Points of {found.stages[-1]}/miou that a gate loses by how many variants it keeps.",
        alt=f"Curves that fall to 0. Points lost where one variant is kept, by the stage that chose: {listed(lost)}.",
        figure=regret_plot(found),
    )


def _panels(
    trials: pd.DataFrame, stage: str, names: Mapping[str, str], tracking: str | None
) -> Picture:
    variant = best_variant(trials, f"{stage}/miou")
    rows, notes = picked_rows(trials, stage, variant, tracking=tracking)
    return Picture(
        name="panels",
        caption=f"Where {variant} gains most on the baseline, where it loses most, and an image drawn at random"
        f"{', of those that have panels in MLflow' if notes else ''}.",
        alt=f"Images, activation maps and label maps of the baseline and of {variant}, {len(rows)} rows.",
        figure=panel_figure(rows, ("baseline", names[variant]), width=WIDE),
    )
