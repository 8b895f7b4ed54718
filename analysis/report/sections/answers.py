"""The first page: the question, the expectation, and what the scores say, with their doubts."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import pandas as pd

from analysis.report.blocks import Block, Quote, Section, Text, beside, passage_blocks
from analysis.report.findings import Finding
from analysis.report.material import Material, Sweep
from analysis.report.pictures import attempt, differences
from analysis.report.sections.costs import cost_text
from analysis.report.words import against_baseline, claim, ends, points, score
from analysis.studies.compare import Comparison, p_text
from analysis.studies.expectations import Judgement, expectations_passage
from analysis.table.grid import Grid, GridCell, cell, named
from occse.naming.counts import listed, number

ADJUSTED = (
    "p-values are adjusted by Holm's method for all comparisons of one score, not over scores; "
    "intervals are not adjusted."
)


def answers(
    material: Material,
    found: Mapping[str, Sequence[Finding]],
    judged: Mapping[str, Sequence[Judgement]],
) -> Section:
    """Return the answers of all sweeps; `found` and `judged` are by the name of the sweep."""
    blocks: list[Block] = []
    for sweep in material.sweeps:
        findings = found[sweep.name]
        if not sweep.is_alone:
            blocks.append(Text(title=sweep.name, paragraphs=[]))
        blocks += _asked(sweep)
        if judged[sweep.name]:
            passage = expectations_passage(judged[sweep.name], sweep.naming)
            blocks += passage_blocks(passage, prefix=sweep.prefix, suffix=sweep.suffix)
        if findings:
            # Findings are upstream first, so the last one is of the stage that ends the method.
            blocks.append(Text(paragraphs=[_headline(sweep, findings[-1])]))
            blocks += beside(_grid(sweep, findings), _picture(sweep, findings[-1]))
        doubts = [_progress(sweep.trials), *_doubts(sweep.trials, findings)]
        blocks.append(Text(title="To bear in mind", paragraphs=[*doubts, *cost_text(sweep.trials)]))
    return Section(key="summary", title="Answers", blocks=blocks)


def _asked(sweep: Sweep) -> Iterator[Quote]:
    if sweep.question:
        yield Quote(label="Question", text=sweep.question)
    if sweep.expected:
        yield Quote(label="Expected", text=sweep.expected)


def _headline(sweep: Sweep, finding: Finding) -> str:
    """Return what the last scored stage says, in two sentences."""
    best = finding.best
    mean = f"{score(best.mean, best.std)} % ({number(best.seeds, 'seed')})"
    name = sweep.names[best.variant]
    first = f"By {finding.metric}, the last score, {name} has the highest mean, {mean}."
    if finding.of_best is not None:
        against = against_baseline(finding.of_best)
        return f"{first} Against the baseline that is {against}."
    if best.is_baseline:
        return f"{first} That is the baseline itself."
    reason = finding.why_not or "it has no counts per image"
    return f"{first} It is not compared with the baseline: {reason}."


def _grid(sweep: Sweep, findings: Sequence[Finding]) -> Grid:
    """Return a row for each scored stage: the highest mean, and how it compares."""
    return Grid(
        name=f"answers{sweep.suffix}",
        caption=f"{sweep.prefix}The highest mean of each score in percent, against the baseline",
        heads=[
            "score",
            "variant",
            "mean",
            "difference",
            "95 % interval",
            "p (Holm)",
            "verdict",
        ],
        rows=[_row(sweep, finding) for finding in findings],
        notes=[*map(_counts, findings), ADJUSTED],
    )


def _row(sweep: Sweep, finding: Finding) -> list[GridCell]:
    best = finding.best
    start = [
        named(finding.metric, f"{finding.stage}/miou"),
        named(sweep.names[best.variant], best.variant),
        cell(score(best.mean, best.std)),
    ]
    compared = finding.of_best
    if compared is None:
        verdict = "the baseline itself" if best.is_baseline else "not compared"
        return [*start, cell(""), cell(""), cell(""), GridCell(text=verdict)]
    return [
        *start,
        cell(points(compared.difference.value)),
        cell(ends(compared.difference)),
        cell(p_text(compared.p_holm)),
        GridCell(text=claim(compared)),
    ]


def _counts(finding: Finding) -> str:
    """Return how many variants are better and worse than the baseline."""
    if finding.why_not:
        return f"{finding.metric}: nothing is compared: {finding.why_not}."
    verdicts = Counter(comparison.verdict for comparison in finding.comparisons)
    # What is left in `verdicts` after these two is within noise.
    counts = [f"{verdicts.pop(verdict, 0)} {verdict}" for verdict in ("better", "worse")]
    counts += [f"{count} {verdict}" for verdict, count in verdicts.items()]
    compared = number(len(finding.comparisons), "variant")
    text = f"of {compared} compared with the baseline, {listed(counts)}"
    limits = _limits(finding.comparisons)
    return f"{finding.metric}: {text}{f'; {limits}' if limits else ''}."


def _limits(comparisons: Sequence[Comparison]) -> str:
    """Return how many of the claims do not hold at other alphas or thresholds; empty for none."""
    limited = [each.elsewhere for each in comparisons if each.elsewhere and each.elsewhere.opposite]
    if not limited:
        return ""
    return f"{len(limited)} of these claims are reversed at another recorded {limited[0].knob}"


def _picture(sweep: Sweep, finding: Finding) -> Block | None:
    if not finding.comparisons:
        return None
    return attempt(sweep, "differences", lambda: differences(finding, sweep.names), [])


def _progress(trials: pd.DataFrame) -> str:
    if trials.empty:
        return "The sweep's file asks for none of its trials any more."
    is_finished = trials["status"] == "FINISHED"
    was_stopped = trials["stopped"] != ""
    # KILLED among them: the next run of the sweep goes on with such a trial.
    is_open = ~trials["status"].isin(["FINISHED", "FAILED"])
    # A trial that a gate stopped is FINISHED in MLflow, with a tag that names the gate.
    masks = {
        "finished": is_finished & ~was_stopped,
        "stopped by a gate": is_finished & was_stopped,
        "failed": trials["status"] == "FAILED",
        "not done yet": is_open,
    }
    counts = [f"{int(mask.sum())} {state}" for state, mask in masks.items() if mask.any()]
    # Trials of one variant differ in their seeds alone.
    by_variant = trials.groupby("variant").size()
    seeds = f"{by_variant.min()} to {by_variant.max()} seeds"
    if by_variant.nunique() == 1:
        seeds = number(int(by_variant.max()), "seed")
    variants = number(trials["variant"].nunique(), "variant")
    trials_text = number(len(trials), "trial")
    text = f"{variants} of {seeds}, {trials_text}: {listed(counts)}."
    return f"{text} All numbers are of what there is so far." if is_open.any() else text


def _doubts(trials: pd.DataFrame, findings: Sequence[Finding]) -> Iterator[str]:
    """Yield what a reader should hold against the numbers."""
    most_seeds = 0 if trials.empty else trials.groupby("variant").size().max()
    if most_seeds == 1:
        yield (
            "Every variant has one seed: there is no ± over seeds, and intervals cover the "
            "choice of images alone."
        )
    elif most_seeds == 2:
        yield (
            "± is the standard deviation of two seeds, which is hardly known: a ± 0.1 may be luck, "
            "and is no proof of a small spread."
        )
    if any(finding.best.rivals > 2 for finding in findings):
        yield (
            "The highest of several means was picked by the very number that is shown, which "
            "flatters it: expect less from a new seed. It is compared with the baseline, not with "
            "the second."
        )
    imported = int((trials["imported"] != "").sum())
    if imported:
        yield (
            f"{number(imported, 'run')} imported from elsewhere: what the source does not tell is "
            "unknown."
        )
