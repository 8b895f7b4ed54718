"""The stages of a sweep's pipeline: their order, what each rests on, and which are scored.

A sweep logs them once, as `pipeline.json` on its own run, from what stands on the stage classes.
`load` keeps that text with every trial (column `pipeline`), and `pipeline_of` reads it. Nothing
else in `analysis` knows the name or the place of a stage, except where a study is about one
(`analysis.read.tidy` knows what the scores of the embedded stages rest on).

Runs recorded before 2026-11-27 have no `pipeline.json`; neither have imported runs. They have the
stages of `BEFORE`."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Literal

import pandas as pd

from analysis.read.json_text import parse_json

#: The version of `pipeline.json` that is read here.
VERSION = 1
COLUMN = "pipeline"
#: The class of the three CRFs of old runs.
CRF = "RefineCam"
Split = Literal["train", "val"]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A field of the pipeline.

    Attributes:
        field: its name, as in `cam/miou`.
        kind: the name of its class; stages of one class differ by their knobs alone.
        needs: the fields whose artifacts it may read.
        scored_split: the images on whose pixel ground truth it is scored; None for no score.
        display_name: its name for people.
        effort: its knobs that buy quality with time, such as epochs.
        seeded: True for a stage that draws random numbers from a knob `seed`.
    """

    field: str
    kind: str = ""
    needs: tuple[str, ...] = ()
    scored_split: Split | None = None
    display_name: str = ""
    effort: tuple[str, ...] = ()
    seeded: bool = False


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """The stages in the order in which they run."""

    stages: tuple[Stage, ...] = field(repr=False)

    @property
    def fields(self) -> tuple[str, ...]:
        """All fields, upstream first."""
        return tuple(stage.field for stage in self.stages)

    @property
    def scored(self) -> tuple[str, ...]:
        """The fields that have an mIoU, upstream first."""
        return tuple(stage.field for stage in self.stages if stage.scored_split)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The mIoU of every scored field, upstream first."""
        return tuple(f"{name}/miou" for name in self.scored)

    def split_of(self, name: str) -> str | None:
        """Return the split that the field `name` is scored on; None for no score."""
        return next((stage.scored_split for stage in self.stages if stage.field == name), None)

    def display_name(self, name: str) -> str:
        """Return the name of a field for people; the field itself where there is none."""
        found = (stage.display_name for stage in self.stages if stage.field == name)
        return next(found, "") or name

    def like(self, name: str) -> tuple[str, ...]:
        """Return the fields of the class of `name`, such as the CRFs of all alphas."""
        # A stage of an old run that tells no class is one by itself.
        kinds = {stage.field: stage.kind or stage.field for stage in self.stages}
        return tuple(each for each in self.fields if kinds[each] == kinds.get(name))

    def upstream(self, name: str) -> tuple[str, ...]:
        """Return the fields that `name` rests on, directly or not, and itself, upstream first."""
        needs = {stage.field: stage.needs for stage in self.stages}
        reached = {name}
        waiting = [name]
        while waiting:
            # Nothing is visited twice, so that even a circle in a damaged file comes to an end.
            new = set(needs.get(waiting.pop(), ())) - reached
            reached |= new
            waiting += sorted(new)
        return tuple(each for each in self.fields if each in reached)

    def seeded(self, name: str) -> tuple[str, ...]:
        """Return the fields upstream of `name` whose seeds are chance in its score.

        A field without needs is a data set: its seed says which images there are.
        """
        trained = {stage.field for stage in self.stages if stage.seeded and stage.needs}
        return tuple(each for each in self.upstream(name) if each in trained)

    def units(self, name: str) -> tuple[str, ...]:
        """Return the fields whose artifacts are the units of an analysis of `name`, itself last.

        Chance comes in with the trainings. Each unit rests on all units before it: trainings that
        do not rest on each other are branches, and neither is a unit.
        """
        line = [*(each for each in self.seeded(name) if each != name), name]
        reach = {each: set(self.upstream(each)) for each in line}

        def in_line(one: str) -> bool:
            return all(other in reach[one] or one in reach[other] for other in line)

        return tuple(each for each in line if in_line(each))

    def correlated(self) -> tuple[str, ...]:
        """Return the scored fields that rest on another scored one, or that another rests on."""
        reach = {each: set(self.upstream(each)) for each in self.scored}

        def has_partner(one: str) -> bool:
            others = [other for other in self.scored if other != one]
            return any(other in reach[one] or one in reach[other] for other in others)

        return tuple(each for each in self.scored if has_partner(each))


def _trained(name: str, *needs: str) -> Stage:
    return Stage(field=name, needs=needs, seeded=True)


def _scored(name: str, *needs: str, split: Split = "train") -> Stage:
    return Stage(field=name, needs=needs, scored_split=split)


#: The stages of runs that were recorded without `pipeline.json`.
BEFORE = Pipeline(
    stages=(
        Stage(field="data"),
        _trained("pretrain", "data"),
        _trained("oc", "data", "pretrain"),
        _trained("cgnet", "data", "oc", "pretrain"),
        _scored("cam", "data", "oc", "cgnet"),
        Stage(field="crf", kind=CRF, needs=("data", "cam"), scored_split="train"),
        Stage(field="crf_low", kind=CRF, needs=("data", "cam")),
        Stage(field="crf_high", kind=CRF, needs=("data", "cam")),
        _trained("affinity", "data", "crf_low", "crf_high", "pretrain"),
        _scored("pseudo", "data", "cam", "crf", "affinity"),
        _trained("deeplab", "data", "pseudo", "pretrain"),
        _scored("seg", "data", "deeplab", split="val"),
        _scored("erase_and_infer", "data", "oc"),
    )
)


def pipeline_of(trials: pd.DataFrame) -> Pipeline:
    """Return the pipeline of `trials` (from `load`); of several sweeps, the stages of all.

    Raises:
        ValueError: a text in the column `pipeline` is not one that this version reads.
    """
    texts = trials[COLUMN].dropna().unique() if COLUMN in trials else ()
    return merged([read_pipeline(text) for text in texts if text])


def merged(pipelines: Sequence[Pipeline]) -> Pipeline:
    """Return the first pipeline, and behind it the stages that only others have."""
    if not pipelines:
        return BEFORE
    # A field that both have is taken from the first: sweeps of two versions may order it otherwise.
    stages = {stage.field: stage for stage in pipelines[0].stages}
    for pipeline in pipelines[1:]:
        for stage in pipeline.stages:
            stages.setdefault(stage.field, stage)
    return Pipeline(stages=tuple(stages.values()))


# The same text stands with every trial, and most functions of `analysis` ask for the pipeline.
@cache
def read_pipeline(text: str) -> Pipeline:
    """Return the pipeline that the text of a `pipeline.json` describes.

    Raises:
        ValueError: it is no such text, or one of a later version.
    """
    try:
        content = parse_json(text)
        version, listed = content["version"], content["stages"]
        if version != VERSION:
            raise ValueError(f"expected version {VERSION}, it has {version}; update this program")
        stages = tuple(_stage(values) for values in listed)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"pipeline.json of a sweep cannot be read: {error!r}") from None
    return Pipeline(stages=stages)


def _stage(values: dict[str, object]) -> Stage:
    split = values.get("scored_split")
    if split not in ("train", "val", None):
        raise ValueError(f"scored_split is {split!r}; expected 'train', 'val' or null")
    return Stage(
        field=str(values["field"]),
        kind=str(values.get("class") or ""),
        needs=_texts(values.get("needs")),
        scored_split=split,
        display_name=str(values.get("display_name") or ""),
        effort=_texts(values.get("effort")),
        seeded=bool(values.get("seeded")),
    )


def _texts(values: object) -> tuple[str, ...]:
    return tuple(str(each) for each in values) if isinstance(values, Iterable) else ()
