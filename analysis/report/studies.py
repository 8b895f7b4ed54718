"""Sections of the studies: a passage of each sweep, or the reason why a study has no answer."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pandas as pd

from analysis.read.knobs import scored_stages
from analysis.report.blocks import Block, Section, Text, passage_blocks
from analysis.report.material import Material, Sweep
from analysis.studies.correlation import correlation_passages
from analysis.studies.pareto import pareto, pareto_passage
from analysis.studies.variance import variance, variance_passage
from analysis.table.grid import Passage

# The sweep, its last scored stage and `tracking`.
Study = Callable[[Sweep, str, str | None], list[Passage]]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A study and the section that shows it."""

    key: str
    title: str
    study: Study


def _effects(sweep: Sweep, stage: str, _tracking: str | None) -> list[Passage]:
    # statsmodels and Optuna take seconds to import, which no other command should wait for
    from analysis.studies.effects import effects, effects_passages

    return effects_passages(effects(sweep.trials, metric=f"{stage}/miou"))


def _correlation(sweep: Sweep, _stage: str, _tracking: str | None) -> list[Passage]:
    return correlation_passages(sweep.correlation)


def _variance(sweep: Sweep, stage: str, tracking: str | None) -> list[Passage]:
    return [variance_passage(variance(sweep.trials, stage, tracking=tracking))]


def _pareto(sweep: Sweep, stage: str, _tracking: str | None) -> list[Passage]:
    return [pareto_passage(pareto(sweep.trials, metric=f"{stage}/miou"))]


STUDIES = (
    Kind(key="effects", title="Effects of the knobs", study=_effects),
    Kind(key="correlation", title="Stage correlation", study=_correlation),
    Kind(key="variance", title="Variance by seed", study=_variance),
    Kind(key="pareto", title="Cost against score", study=_pareto),
)


def studies(material: Material) -> Iterator[Section]:
    """Yield a section for each study, in which each sweep has its tables."""
    several = len(material.sweeps) > 1
    for kind in STUDIES:
        blocks: list[Block] = []
        methods: list[str] = []
        for sweep in material.sweeps:
            prefix = f"{sweep.name}: " if several else ""
            suffix = f"_{sweep.key}" if several else ""
            try:
                passages = kind.study(sweep, _last(sweep.trials), material.tracking)
            except ValueError as error:
                blocks.append(Text(paragraphs=[f"{prefix}nothing to say here: {error}."]))
                continue
            for passage in passages:
                blocks += passage_blocks(passage, prefix=prefix, suffix=suffix)
                methods += passage.method
        if methods:
            blocks.append(Text(paragraphs=list(dict.fromkeys(methods))))
        yield Section(key=kind.key, title=kind.title, blocks=blocks)


def _last(trials: pd.DataFrame) -> str:
    """Return the last stage that has a score.

    Raises:
        ValueError: no stage has a score.
    """
    found = scored_stages(trials)
    if not found:
        raise ValueError("no stage has a score yet")
    return found[-1]
