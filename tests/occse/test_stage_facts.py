"""Facts of a stage stand on its class: a new one needs no other file."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from occse.artifacts.execute import execute
from occse.pipeline import (
    STAGES,
    Pipeline,
    default_pipeline,
    override,
    pipeline_class,
    pipeline_facts,
    plan,
    scored_fields,
    stage_classes,
    use_pipeline,
)
from occse.stage import Context, ScoredSplit, Stage


class Sharpness(Stage):
    """A scored stage of its own: the share of pixels that the CAM covers."""

    display_name: ClassVar[str] = "sharpness"
    scored_split: ClassVar[ScoredSplit | None] = "train"
    may_need: ClassVar[tuple[str, ...]] = ("data", "cam")
    effort: ClassVar[frozenset[str]] = frozenset({"repeats"})

    repeats: int = 1

    def needs(self) -> tuple[str, ...]:
        return ("data", "cam")

    def run(self, ctx: Context) -> dict[str, float]:
        return {"miou": 0.5 * self.repeats}


class WithSharpness(Pipeline):
    sharpness: Sharpness = Sharpness()


@pytest.fixture
def with_sharpness() -> Iterator[None]:
    use_pipeline(WithSharpness)
    yield
    use_pipeline(Pipeline)
    del STAGES["Sharpness"]


def fact(name: str) -> dict[str, Any]:
    return {stage["field"]: stage[name] for stage in pipeline_facts(default_pipeline())["stages"]}


def test_facts_are_in_the_order_of_the_pipeline() -> None:
    facts = pipeline_facts(default_pipeline("embedded"))
    assert facts["version"] == 1
    assert [stage["field"] for stage in facts["stages"]] == list(Pipeline.model_fields)
    assert facts["stages"][0]["class"] == "Shapes"


def test_facts_of_the_scored_stages() -> None:
    scored = {field: split for field, split in fact("scored_split").items() if split}
    assert scored == {
        "cam": "train",
        "crf": "train",
        "pseudo": "train",
        "seg": "val",
        "erase_and_infer": "train",
    }
    assert tuple(scored) == scored_fields()
    names = {fact("display_name")[field] for field in scored}
    assert names == {"CAM", "CRF", "pseudo labels", "segmentation", "erase and infer"}


def test_facts_name_the_seeded_stages_and_those_that_others_rest_on() -> None:
    seeded = [field for field, is_seeded in fact("seeded").items() if is_seeded]
    assert seeded == ["pretrain", "oc", "cgnet", "affinity", "deeplab"]
    assert fact("needs")["pseudo"] == ["data", "cam", "crf", "affinity"]


@pytest.mark.parametrize("field", list(Pipeline.model_fields))
def test_facts_name_knobs_and_upstream_fields_that_exist(field: str) -> None:
    fields = list(Pipeline.model_fields)
    for stage in stage_classes(field):
        knobs = stage.model_fields.keys()
        assert stage.architecture <= stage.effort <= knobs
        assert stage.effortless <= knobs
        assert not stage.effortless & stage.effort
        assert set(stage.may_need) <= set(fields[: fields.index(field)])


@pytest.mark.parametrize(
    "knobs",
    [
        {},
        {"*.backbone": "tiny", "*.init": "pretrain"},
        {"cam.source": "oc", "pseudo.source": "cam"},
        {"pseudo.source": "crf"},
    ],
)
def test_facts_allow_all_that_a_stage_needs(knobs: dict[str, Any]) -> None:
    for field, node in plan(
        # only the drawn data has what `pretrain` needs
        override(Pipeline(), {"data.kind": "shapes"} | knobs),
        targets=tuple(Pipeline.model_fields),
    ).items():
        assert set(node.inputs) <= set(node.stage.may_need), field


@pytest.mark.usefixtures("with_sharpness")
def test_a_scored_stage_is_its_own_class_and_one_line_of_a_pipeline(
    small_store: Path, small_pipeline: Pipeline
) -> None:
    assert pipeline_class() is WithSharpness
    assert scored_fields()[-1] == "sharpness"
    assert fact("effort")["sharpness"] == ["repeats"]
    knobs = {field: small_pipeline.stage(field) for field in Pipeline.model_fields}
    pipeline = override(WithSharpness(**knobs), {"sharpness.repeats": 2})
    before = plan(small_pipeline)
    nodes = plan(pipeline, targets=("seg", "crf", "sharpness"))
    assert {field: nodes[field].fingerprint for field in before} == {
        field: node.fingerprint for field, node in before.items()
    }
    assert execute(nodes["sharpness"], root=small_store).metrics == {"miou": 1.0}
