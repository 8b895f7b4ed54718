"""The figures of a report, each with a caption and, for those who cannot see it, a description in
numbers.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
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
from analysis.figures.style import TWO_COLUMNS
from analysis.read.knobs import PARAM, aliases, is_number, ordered, scored, varied
from analysis.read.labels import labels_of
from analysis.report.blocks import Block, Folded, Picture, Text
from analysis.report.findings import Finding
from analysis.report.material import Sweep
from analysis.report.words import percent, points
from analysis.studies.compare import compare_classes
from analysis.studies.pareto import Pareto
from analysis.table.digits import signed
from occse.naming.counts import listed
from occse.naming.variants import marked_baseline

# Curves and heat maps of more knobs than these would bury the rest of the report.
MOST_KNOBS = 3
# More bars than these are taller than a page; half of them are the highest, half the lowest.
MOST_BARS = 40
# A heat map of more rows or columns than these is not readable in a column of a paper.
MOST_CELLS = 12
Draw = Callable[[], Picture]


def attempt(sweep: Sweep, title: str, draw: Draw, missing: list[str]) -> Picture | None:
    """Draw a picture; where the trials are not enough for it, add the reason to `missing`."""
    try:
        return sweep.own(draw())
    except ValueError as error:
        missing.append(f"{sweep.prefix}{title}: {error}.")
        return None


def missing_block(missing: Sequence[str]) -> list[Block]:
    """Return the reasons why pictures are missing, folded; nothing where none is."""
    if not missing:
        return []
    return [Folded(title="Not drawn", blocks=[Text(paragraphs=missing)])]


def differences(finding: Finding, names: Mapping[str, str]) -> Picture:
    """Draw the differences from the baseline in one stage's score."""
    ranked = sorted(finding.comparisons, key=lambda comparison: comparison.difference.value)
    lowest = ranked[0]
    highest = ranked[-1]
    shown = ranked
    among = ""
    if len(ranked) > MOST_BARS:
        half = MOST_BARS // 2
        shown = [*ranked[:half], *ranked[-half:]]
        among = f", the {half} lowest and the {half} highest of {len(ranked)}"
    return Picture(
        name=f"differences_{finding.stage}",
        caption=(
            f"{finding.metric}: differences from the baseline in points{among}. Colour: the "
            "verdict after Holm's adjustment. Lines: 95 % intervals, not adjusted."
        ),
        alt=(
            f"A bar with its interval for each of {len(ranked)} variants, from "
            f"{points(lowest.difference.value)} ({names[lowest.variant]}) to "
            f"{points(highest.difference.value)} ({names[highest.variant]}); all numbers are in "
            "the table."
        ),
        figure=variant_deltas(shown, names, metric=finding.metric),
    )


def along_knobs(sweep: Sweep, metric: str) -> Iterator[tuple[str, Draw]]:
    """Yield curves along the first few knobs that are numbers, and heat maps of each two of them.

    Each comes as a title and a function that draws.
    """
    rows = scored(sweep.trials, metric)
    together = aliases(rows, varied(rows))
    # A missing value (a knob without effect there) tells nothing of the knob's type.
    numeric = [knob for knob in together if rows[PARAM + knob].dropna().map(is_number).all()]
    numeric = numeric[:MOST_KNOBS]
    labels = labels_of(rows)
    for knob in numeric:
        along = rows[rows[PARAM + knob].notna()]
        others = [
            other
            for other in together
            if other not in numeric and along[PARAM + other].nunique() > 1
        ]
        # lines for the values of one more knob; those of two would not be told apart
        title = f"{labels.metric(metric)} along {labels.knob(knob)}"
        yield title, _along(rows, metric, knob, others[-1:], together[knob])
    for one, other in combinations(numeric, 2):
        title = f"{labels.metric(metric)} by {labels.knob(one)} and {labels.knob(other)}"
        yield title, _heat(rows, metric, one, other)


def _along(
    trials: pd.DataFrame, metric: str, knob: str, by: Sequence[str], others: Sequence[str]
) -> Draw:
    labels = labels_of(trials)
    name = labels.metric(metric)
    along = labels.knob(knob)

    def draw() -> Picture:
        means = trials.groupby(PARAM + knob)[metric].mean()
        levels = ordered(trials[PARAM + knob])
        values = [f"{labels.value(knob, level)}: {percent(means[level])}" for level in levels]
        lines = f", a line for each value of {listed(list(map(labels.knob, by)))}" if by else ""
        moving = (
            f" It always moves together with {listed(list(map(labels.knob, others)))}."
            if others
            else ""
        )
        return Picture(
            name=f"along_{knob.replace('.', '_')}",
            caption=f"{name} along {along}{lines}.{moving}",
            alt=f"Mean {name} in percent by {along}, over everything else: {'; '.join(values)}.",
            figure=knob_curves(trials, metric=metric, knob=knob, by=by),
        )

    return draw


def _heat(trials: pd.DataFrame, metric: str, one: str, other: str) -> Draw:
    labels = labels_of(trials)
    name = labels.metric(metric)

    def setting(cell: Mapping[Any, Any], knob: str) -> str:
        return f"{labels.knob(knob)} {labels.value(knob, cell[PARAM + knob])}"

    def draw() -> Picture:
        for knob in (one, other):
            levels = trials[PARAM + knob].nunique()
            if levels > MOST_CELLS:
                # `attempt` catches it, and the report says why the map is missing.
                raise ValueError(
                    f"{labels.knob(knob)} has {levels} values; "
                    f"a heat map shows at most {MOST_CELLS}"
                )
        cells = trials.groupby([PARAM + one, PARAM + other])[metric].mean().reset_index()
        texts = [
            f"{percent(cell[metric])} at {setting(cell, one)} and {setting(cell, other)}"
            for cell in cells.sort_values(metric).to_dict("records")
        ]
        return Picture(
            name=f"heat_{one}_{other}".replace(".", "_"),
            caption=(
                f"{name} by {labels.knob(one)} and {labels.knob(other)}, in percent, over "
                "everything else."
            ),
            alt=f"A grid of means: the highest is {texts[-1]}, the lowest {texts[0]}.",
            figure=heat_map(trials, metric=metric, rows=one, columns=other),
        )

    return draw


def thresholds(sweep: Sweep, tracking: str | None) -> Picture:
    """Draw the mIoU of the activation maps by threshold."""
    frame = threshold_frame(sweep.trials, _chosen(sweep, "cam/miou"), tracking=tracking)
    means = frame.groupby(["label", "threshold"], sort=False)["miou"].mean().reset_index()
    # By rising score: the last row of each label is the peak of its curve.
    best = means.sort_values("miou").drop_duplicates("label", keep="last").to_dict("records")
    peaks = [
        f"{point['label']}: {percent(point['miou'])} at {point['threshold']:.2f}" for point in best
    ]
    return Picture(
        name="thresholds",
        caption=(
            "mIoU of the activation maps by threshold, mean over seeds; marked is each seed at the "
            "threshold of its score."
        ),
        alt=f"The curves' highest points, in percent: {'; '.join(peaks)}.",
        figure=threshold_curves(frame),
    )


def classes(sweep: Sweep, stage: str) -> Picture:
    """Draw the IoU by class of the baseline and of the other variant with the highest mean."""
    frame = class_frame(sweep.trials, stage, _chosen(sweep, f"{stage}/miou"))
    if frame.empty:
        raise ValueError(f"no run has {stage}/iou by class")
    means = frame.groupby(["class", "label"], sort=False)["iou"].mean().unstack("label")
    texts = []
    for label in means:
        values = [f"{name} {percent(value)}" for name, value in means[label].items()]
        texts.append(f"{label}: {listed(values)}")
    return Picture(
        name=f"classes_{stage}",
        caption=(
            f"{sweep.labels.metric(f'{stage}/iou')} by class in percent, of the baseline and of "
            "the other variant with the highest mean."
        ),
        alt=f"Bars. {'; '.join(texts)}.",
        figure=class_bars(frame),
    )


def errors_by_class(sweep: Sweep, stage: str, tracking: str | None) -> Picture:
    """Draw the pixels of each class that were missed, and those that are false."""
    chosen = _chosen(sweep, f"{stage}/miou")
    frame = error_frame(sweep.trials, stage, chosen, tracking=tracking)
    means = frame.groupby("label", sort=False)[["missed", "false"]].mean()
    texts = [
        f"{label}: {percent(row['missed'])} missed, {percent(row['false'])} false"
        for label, row in means.iterrows()
    ]
    return Picture(
        name=f"class_errors_{stage}",
        caption=(
            f"{sweep.labels.metric(f'{stage}/iou')} of each class, and what is lost of it: pixels "
            "that were missed, and pixels that are false."
        ),
        alt=(f"Stacked bars, in percent of the union; mean over the classes: {'; '.join(texts)}."),
        figure=class_errors(frame),
    )


def class_differences(sweep: Sweep, stage: str, tracking: str | None) -> Picture:
    """Draw the differences from the baseline by class of the variant with the highest mean."""
    variant = best_variant(sweep.trials, f"{stage}/miou")
    found = compare_classes(sweep.trials, stage, variant, tracking=tracking)
    ranked = sorted(found.items(), key=lambda item: -item[1].value)
    texts = [f"{name} {points(interval.value)}" for name, interval in ranked]
    return Picture(
        name=f"class_differences_{stage}",
        caption=(
            f"{sweep.labels.metric(f'{stage}/iou')} by class, {sweep.names[variant]} against the "
            "baseline, in points. Colour: after Holm's adjustment over classes. Lines: 95 % "
            "intervals, not adjusted."
        ),
        alt=f"Differences: {', '.join(texts)}.",
        figure=class_deltas(found, name=sweep.names[variant]),
    )


def cost_against_score(sweep: Sweep, found: Pareto) -> Picture:
    """Draw the score of each variant by its cost."""
    front = [sweep.names[cost.variant] for cost in found.costs if cost.best_alone]
    return Picture(
        name="pareto",
        caption=(
            f"{sweep.labels.metric(found.metric)} against the stage time of a trial, as if nothing "
            "else had run."
        ),
        alt=f"A point for each variant. Not beaten at their cost: {listed(front)}.",
        figure=pareto_plot(found, sweep.names, sweep.labels),
    )


def correlation(sweep: Sweep) -> Picture:
    """Draw the last stage's score by the first one's."""
    found = sweep.correlation
    first = found.stages[0]
    last = found.stages[-1]
    pair = (first, last, "all")
    ranks = [rank for rank in found.ranks if (rank.first, rank.second, rank.scope) == pair]
    # Without a rank the correlation is undefined: one of the stages gives all variants one score.
    said = "All have the same score in one of them."
    if ranks:
        said = f"Spearman's correlation is {signed(ranks[0].value, 2)}."
    return Picture(
        name="correlation",
        caption=(
            f"{sweep.labels.score(last)} against {sweep.labels.score(first)}, a point for each "
            "variant."
        ),
        alt=f"A scatter plot of {len(found.points)} variants. {said}",
        figure=correlation_plot(found, sweep.labels, first=first, second=last),
    )


def regret(sweep: Sweep) -> Picture:
    """Draw the points that a gate loses by the number of variants that it keeps."""
    found = sweep.correlation
    lost = [
        f"{sweep.labels.score(regret.stage)} {percent(regret.lost)}"
        for regret in found.regrets
        if regret.kept == 1
    ]
    last = found.stages[-1]
    return Picture(
        name="regret",
        caption=(
            f"Points of {sweep.labels.score(last)} that a gate loses by how many variants it keeps."
        ),
        alt=(
            "Curves that fall to 0. Points lost where one variant is kept, by the score that "
            f"chose: {listed(lost)}."
        ),
        figure=regret_plot(found, sweep.labels),
    )


def panels(sweep: Sweep, stage: str, tracking: str | None) -> Picture:
    """Draw three images by the baseline and by the variant with the highest mean."""
    variant = best_variant(sweep.trials, f"{stage}/miou")
    rows, notes = picked_rows(sweep.trials, stage, variant, tracking=tracking)
    among = ", of those that have panels in MLflow" if notes else ""
    name = sweep.names[variant]
    return Picture(
        name="panels",
        caption=(
            f"The images on which {name} gains most on the baseline and loses most, and one drawn "
            f"at random{among}. Points are the difference in the image's own mIoU, mean over "
            "seeds; the panels are of one seed."
        ),
        alt=(
            f"Images, activation maps and label maps of the baseline and of {name}, "
            f"{len(rows)} rows."
        ),
        figure=panel_figure(rows, ("baseline", name), width=TWO_COLUMNS),
    )


def _chosen(sweep: Sweep, metric: str) -> dict[str, str]:
    """Return the baseline and the other variant with the highest mean, by their short names."""
    rows = scored(sweep.trials, metric)
    baselines = rows.loc[rows["baseline"], "variant"].unique()
    chosen = {str(variant): marked_baseline(sweep.names[variant]) for variant in baselines}
    best = best_variant(sweep.trials, metric)
    chosen.setdefault(best, sweep.names[best])
    return chosen
