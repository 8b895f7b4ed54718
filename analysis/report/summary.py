"""The first page: what was asked, what was expected, what came out, and how sure that is."""

from collections.abc import Iterator, Mapping, Sequence

import pandas as pd

from analysis.report.blocks import Section, Text
from analysis.report.costs import cost_text
from analysis.report.findings import Finding
from analysis.report.material import Material, Sweep
from analysis.report.words import against_baseline, listed, number, reach, score


def summary(material: Material, found: Mapping[str, Sequence[Finding]]) -> Section:
    """All sweeps in words; `found` by the name of the sweep."""
    blocks: list[Text] = []
    for sweep in material.sweeps:
        trials = sweep.trials
        name = sweep.name if len(material.sweeps) > 1 else ""
        blocks.append(Text(title=name, paragraphs=[*_asked(sweep), _progress(trials)]))
        for finding in found[sweep.name]:
            title = ": ".join(filter(None, (name, f"{finding.stage}/miou")))
            blocks.append(Text(title=title, paragraphs=[" ".join(_outcome(finding))]))
        blocks.append(
            Text(
                title="To bear in mind",
                paragraphs=[*_doubts(trials, found[sweep.name]), *cost_text(trials)],
            )
        )
    return Section(
        key="summary", title="Summary", blocks=[each for each in blocks if each.paragraphs]
    )


def _asked(sweep: Sweep) -> Iterator[str]:
    if sweep.question:
        yield f"Question: {sweep.question}"
    if sweep.expected:
        yield f"Expected: {sweep.expected}"


def _progress(trials: pd.DataFrame) -> str:
    if trials.empty:
        return "The sweep's file asks for none of its trials any more."
    done = {
        "finished": (trials["status"] == "FINISHED") & (trials["stopped"] == ""),
        "stopped by a gate": (trials["status"] == "FINISHED") & (trials["stopped"] != ""),
        "failed": trials["status"] == "FAILED",
        "not done yet": ~trials["status"].isin(["FINISHED", "FAILED"]),
    }
    counts = [f"{int(which.sum())} {how}" for how, which in done.items() if which.any()]
    variants, seeds = trials["variant"].nunique(), trials.groupby("variant").size()
    each = (
        number(int(seeds.max()), "seed")
        if seeds.nunique() == 1
        else f"{seeds.min()} to {seeds.max()} seeds"
    )
    more = " Numbers below are of what there is so far." if done["not done yet"].any() else ""
    return f"{number(variants, 'variant')} of {each}, {number(len(trials), 'trial')}: {listed(counts)}.{more}"


def _outcome(finding: Finding) -> Iterator[str]:
    """What one stage says."""
    best, compared = finding.best, finding.comparisons
    ends = f"; {reach(best.interval)}" if best.interval else ""
    yield (
        f"The best of {number(best.rivals, 'variant')} is {best.variant}, "
        f"{score(best.mean, best.std, best.seeds)}{ends}."
    )
    if finding.of_best is not None:
        yield f"That is {against_baseline(finding.of_best)}."
    elif best.baseline:
        yield "That is the baseline itself."
    elif compared:
        yield "It has no counts per image, so that it is not compared."
    if compared:
        by_verdict = [
            f"{sum(each.verdict == verdict for each in compared)} {verdict}"
            for verdict in ("better", "worse", "within noise")
        ]
        yield f"Of {number(len(compared), 'variant')} compared with the baseline: {listed(by_verdict)}."
    else:
        yield f"Nothing is compared: {finding.why_not}."


def _doubts(trials: pd.DataFrame, found: Sequence[Finding]) -> Iterator[str]:
    """What a reader should hold against the numbers."""
    if not trials.empty and trials.groupby("variant").size().max() == 1:
        yield "Every variant has one seed: there is no ± over seeds, and intervals speak of the choice of images alone."
    if any(finding.best.rivals > 2 for finding in found):
        yield (
            "The best of several was picked by the very number that is shown, which flatters it: expect less from a "
            "new seed. p-values are adjusted for the comparisons of one stage, not over stages."
        )
    if imported := int((trials["imported"] != "").sum()):
        yield f"{number(imported, 'run')} were imported from elsewhere: what their source does not tell is unknown."
