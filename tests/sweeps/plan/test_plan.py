"""Counts of a plan, against counts made by hand."""

from collections.abc import Collection, Sequence

import pytest

from occse.pipeline import Node
from sweeps.plan.plan import Plan, make_plan, total
from sweeps.spec.model import Spec
from sweeps.spec.trials import Trial, trials

SHAPES = {"data.kind": "shapes", "*.init": "random"}


def make(**keys: object) -> Spec:
    return Spec.model_validate({"name": "s", "question": "why?", "base": SHAPES} | keys)


def stored(found: Sequence[Trial], *fields: str) -> set[str]:
    return {
        trial.nodes[field].fingerprint
        for trial in found
        for field in fields
        if field in trial.nodes
    }


def plan_with(found: Sequence[Trial], store: set[str]) -> Plan:
    return make_plan(
        found,
        stored=lambda nodes: [node.fingerprint for node in nodes if node.fingerprint in store],
    )


def counts(plan: Plan) -> dict[str, tuple[int, int, int]]:
    return {row.kind: (row.visits, row.distinct, row.to_run) for row in plan.rows}


@pytest.fixture(scope="module")
def large() -> tuple[Spec, list[Trial]]:
    """2 backbones x (none + 5 lambdas x 2 erasing modes) x 3 alphas x 4 alpha_walk x 3 seeds."""
    pairs = [(4, 24), (4, 32), (6, 24)]
    spec = make(
        base=SHAPES | {"crf.alpha": 4},
        variants={
            f"{backbone} {low}/{high}": {
                "oc.backbone": backbone,
                "cgnet.backbone": backbone,
                "crf_low.alpha": low,
                "crf_high.alpha": high,
            }
            for backbone in ("tiny", "resnet50")
            for low, high in pairs
        },
        grid={
            "cam.source": ["oc", "cgnet"],
            "cgnet.erasing": ["class_agnostic", "cse"],
            "cgnet.lambda_start": [1, 2, 3, 4, 5],
            "pseudo.alpha_walk": [8, 12, 16, 24],
        },
        seeds=3,
    )
    return spec, trials(spec)


def test_large_grid_shares_every_stage_that_can_be_shared(large: tuple[Spec, list[Trial]]) -> None:
    spec, found = large
    cams = 2 * 11 * 3
    assert spec.combinations() == 6 * 20 * 4 * 3
    assert len(found) == 792
    plan = plan_with(found, set())
    distinct = {row.kind: row.distinct for row in plan.rows}
    assert distinct == {
        "Shapes": 1,
        "TrainClassifier": 2 * 3,
        "TrainCGNet": 2 * 10 * 3,
        "MakeCam": cams,
        # alpha 4, 6, 24, 32; the scored one at alpha 4 is an affinity label's too
        "RefineCam": cams * 4,
        "TrainAffinity": cams * 3,
        "MakePseudoLabels": 792,
        "TrainSegmentation": 792,
        "Segment": 792,
    }
    assert plan.visits == 792 * 10 + 720
    assert total(plan) == "8640 stage visits, 2971 distinct, 0 in the store, 2971 to run"


def test_large_grid_makes_each_configuration_of_a_stage_once(
    large: tuple[Spec, list[Trial]],
) -> None:
    # validating 12 stages for each of 1440 pipelines is what made expansion slow
    made: dict[str, set[int]] = {}
    for trial in large[1]:
        for field, node in trial.nodes.items():
            made.setdefault(field, set()).add(id(node.stage))
    assert {field: len(stages) for field, stages in made.items()} == {
        "data": 1,
        "oc": 2 * 3,
        "cgnet": 2 * 10 * 3,
        "cam": 2,
        "crf": 1,
        "crf_low": 2,
        "crf_high": 2,
        "affinity": 3,
        "pseudo": 4,
        "deeplab": 3,
        "seg": 1,
    }


def test_stage_of_one_class_is_distinct_by_identity_not_by_field() -> None:
    plan = plan_with(
        trials(make(base=SHAPES | {"crf.alpha": 4, "crf_low.alpha": 4}, baseline={})), set()
    )
    row = next(row for row in plan.rows if row.kind == "RefineCam")
    assert (set(row.fields), row.visits, row.distinct) == ({"crf", "crf_low", "crf_high"}, 3, 2)


def test_reasons_tell_what_is_missing_from_what_waits_for_it() -> None:
    found = trials(make(grid={"cgnet.lambda_start": [1, 2]}))
    plan = plan_with(found, stored(found, "data", "oc") | stored(found[:1], "cgnet"))
    reasons = {row.kind: dict(row.reasons) for row in plan.rows}
    assert reasons["Shapes"] == reasons["TrainClassifier"] == {}
    assert reasons["TrainCGNet"] == {"not in the store": 1}
    assert reasons["MakeCam"] == {"not in the store": 1, "after cgnet": 1}
    assert reasons["TrainAffinity"] == {"after crf_low, crf_high": 2}
    assert counts(plan)["TrainCGNet"] == (2, 2, 1)


def test_store_is_asked_once_for_all_distinct_artifacts() -> None:
    asked: list[list[str]] = []

    def nothing(nodes: Collection[Node]) -> set[str]:
        asked.append([node.fingerprint for node in nodes])
        return set()

    plan = make_plan(trials(make(grid={"pseudo.beta": [1, 2]}, seeds=2)), stored=nothing)
    assert asked == [list(plan.nodes)]


def test_nothing_runs_when_all_is_in_the_store() -> None:
    found = trials(make(baseline={}))
    plan = plan_with(found, {node.fingerprint for node in found[0].nodes.values()})
    assert plan.reasons == {}
    assert total(plan) == "11 stage visits, 11 distinct, 11 in the store, 0 to run"
