"""Sections of the studies: tables and figures of each sweep, or the reason why there are none."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from analysis.report.blocks import (
    Beside,
    Block,
    Section,
    Text,
    beside,
    method_block,
    passage_blocks,
)
from analysis.report.material import Material, Sweep
from analysis.report.pictures import (
    Draw,
    along_knobs,
    attempt,
    class_differences,
    classes,
    correlation,
    cost_against_score,
    errors_by_class,
    missing_block,
    regret,
    thresholds,
)
from analysis.studies.correlation import correlation_passages
from analysis.studies.pareto import pareto, pareto_passage
from analysis.studies.variance import variance, variance_passage
from analysis.table.grid import Grid, Passage


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A study's answer for one sweep: passages, and figures with their titles.

    A figure stands beside the table in the same position, further ones below.
    """

    passages: list[Passage]
    draws: list[tuple[str, Draw]]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A study and the section that shows it.

    `study` takes the sweep and `tracking`; it raises ValueError where it has no answer.
    """

    key: str
    title: str
    study: Callable[[Sweep, str | None], Answer]


def _effects(sweep: Sweep, _tracking: str | None) -> Answer:
    # statsmodels and Optuna take seconds to import, which no other command should wait for
    from analysis.studies.effects import effects, effects_passages

    metric = f"{sweep.last_stage}/miou"
    passages = effects_passages(effects(sweep.trials, metric=metric), sweep.naming)
    return Answer(passages=passages, draws=list(along_knobs(sweep, metric)))


def _classes(sweep: Sweep, tracking: str | None) -> Answer:
    stage = sweep.last_stage
    draws: list[tuple[str, Draw]] = [
        ("IoU by class", lambda: classes(sweep, stage)),
        ("errors by class", lambda: errors_by_class(sweep, stage, tracking)),
        ("differences by class", lambda: class_differences(sweep, stage, tracking)),
        ("thresholds", lambda: thresholds(sweep, tracking)),
    ]
    return Answer(passages=[], draws=draws)


def _correlation(sweep: Sweep, _tracking: str | None) -> Answer:
    passages = correlation_passages(sweep.correlation, sweep.labels)
    draws: list[tuple[str, Draw]] = [
        ("correlation", lambda: correlation(sweep)),
        ("regret", lambda: regret(sweep)),
    ]
    return Answer(passages=passages, draws=draws)


def _variance(sweep: Sweep, tracking: str | None) -> Answer:
    found = variance(sweep.trials, sweep.last_stage, tracking=tracking)
    return Answer(passages=[variance_passage(found, sweep.labels)], draws=[])


def _pareto(sweep: Sweep, _tracking: str | None) -> Answer:
    found = pareto(sweep.trials, metric=f"{sweep.last_stage}/miou")
    draws: list[tuple[str, Draw]] = [("cost", lambda: cost_against_score(sweep, found))]
    return Answer(passages=[pareto_passage(found, sweep.naming)], draws=draws)


STUDIES = (
    Kind(key="effects", title="Effects of the knobs", study=_effects),
    Kind(key="classes", title="Classes and thresholds", study=_classes),
    Kind(key="correlation", title="Stage correlation", study=_correlation),
    Kind(key="variance", title="Variance by seed", study=_variance),
    Kind(key="pareto", title="Cost against score", study=_pareto),
)


def study_section(kind: Kind, material: Material) -> Section:
    """Return the section of a study, in which each sweep has its tables and figures."""
    blocks: list[Block] = []
    passages: list[Passage] = []
    for sweep in material.sweeps:
        try:
            answer = kind.study(sweep, material.tracking)
        # A study without an answer must not end the report.
        except ValueError as error:
            blocks.append(Text(paragraphs=[f"{sweep.prefix}Nothing to say here: {error}."]))
            continue
        passages += answer.passages
        blocks += _arranged(sweep, answer)
    blocks += method_block(passages)
    return Section(key=kind.key, title=kind.title, blocks=blocks)


def _arranged(sweep: Sweep, answer: Answer) -> Iterator[Block]:
    """Yield the tables, each with the figure of its position beside it, then further figures."""
    missing: list[str] = []
    pictures: list[Block] = []
    for title, draw in answer.draws:
        picture = attempt(sweep, title, draw, missing)
        if picture is not None:
            pictures.append(picture)
    for passage in answer.passages:
        blocks = passage_blocks(passage, prefix=sweep.prefix, suffix=sweep.suffix)
        for block in blocks:
            if isinstance(block, Grid) and pictures:
                yield from beside(block, pictures.pop(0))
            else:
                yield block
    if pictures:
        yield Beside(blocks=pictures)
    yield from missing_block(missing)
