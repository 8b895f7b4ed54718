"""What the other commands of `analysis` find, sweep by sweep: a section each, with the reason where
it says nothing.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from analysis.read.tidy import STAGES
from analysis.report.blocks import Block, Section, Text, from_markdown
from analysis.report.material import Material, Sweep
from analysis.studies.correlation import correlation_text
from analysis.studies.pareto import pareto, pareto_text
from analysis.studies.variance import variance, variance_text

Study = Callable[[Sweep, str, str | None], str]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A study: the captions of its tables, and the text it makes of a sweep, its last scored stage
    and `tracking`.
    """

    key: str
    title: str
    captions: Sequence[str]
    text: Study


def _effects(sweep: Sweep, stage: str, _tracking: str | None) -> str:
    # statsmodels and Optuna take seconds to import, which no other command should wait for
    from analysis.studies.effects import effects
    from analysis.studies.effects_text import effects_text

    return effects_text(effects(sweep.trials, metric=f"{stage}/miou"))


STUDIES = (
    Kind(
        key="effects",
        title="Effects of the knobs",
        captions=("Effects and interactions", "Means by knob, in percent"),
        text=_effects,
    ),
    Kind(
        key="correlation",
        title="Stage correlation",
        captions=(
            "Rank correlation of the stages' scores",
            "Points lost when a gate keeps the best of an earlier stage",
        ),
        text=lambda sweep, stage, tracking: correlation_text(sweep.correlation),
    ),
    Kind(
        key="variance",
        title="Variance by seed",
        captions=("Standard deviation by the seed of each stage, in points",),
        text=lambda sweep, stage, tracking: variance_text(
            variance(sweep.trials, stage, tracking=tracking)
        ),
    ),
    Kind(
        key="pareto",
        title="Cost against score",
        captions=("Cost of each variant, the cheapest first",),
        text=lambda sweep, stage, tracking: pareto_text(
            pareto(sweep.trials, metric=f"{stage}/miou")
        ),
    ),
)


def studies(material: Material) -> Iterator[Section]:
    """A section for each study, with a table for each sweep."""
    for kind in STUDIES:
        blocks: list[Block] = []
        for sweep in material.sweeps:
            prefix = f"{sweep.name}: " if len(material.sweeps) > 1 else ""
            name = f"{kind.key}_{sweep.key}" if prefix else kind.key
            try:
                text = kind.text(sweep, _last(sweep.trials), material.tracking)
            except ValueError as error:
                blocks.append(Text(paragraphs=[f"{prefix}nothing to say here: {error}."]))
            else:
                blocks += from_markdown(
                    text, name=name, captions=[prefix + caption for caption in kind.captions]
                )
        yield Section(key=kind.key, title=kind.title, blocks=blocks)


def _last(trials: pd.DataFrame) -> str:
    """The last stage that has a score.

    Raises:
        ValueError: none has.
    """
    found = [
        stage
        for stage in STAGES
        if f"{stage}/miou" in trials and trials[f"{stage}/miou"].notna().any()
    ]
    if not found:
        raise ValueError("no stage has a score yet")
    return found[-1]
