"""What a plan counts, against counts made by hand."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from occse.pipeline import Node
from sweeps.planning import Plan, describe, make_plan, total
from sweeps.schema import Spec
from sweeps.spec import Trial, trials

SHAPES = {"data.kind": "shapes", "*.init": "random"}


def make(**keys: object) -> Spec:
    return Spec.model_validate({"name": "s", "question": "why?", "base": SHAPES} | keys)


def stored(found: Sequence[Trial], *fields: str) -> set[str]:
    return {trial.nodes[field].fingerprint for trial in found for field in fields if field in trial.nodes}


def plan_with(found: Sequence[Trial], store: set[str], durations: dict[str, float] | None = None) -> Plan:
    return make_plan(found, has=lambda node: node.fingerprint in store, durations=durations)


def counts(plan: Plan) -> dict[str, tuple[int, int, int]]:
    return {row.kind: (row.visits, row.distinct, row.to_run) for row in plan.rows}


@pytest.fixture(scope="module")
def large() -> tuple[Spec, list[Trial]]:
    """2 backbones x (none + 5 lambdas x 2 erasing modes) x 3 alpha pairs x 4 alpha_walk x 3 seeds."""
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
        "RefineCam": cams * 4,  # alpha 4, 6, 24, 32; the scored one at alpha 4 is an affinity label's too
        "TrainAffinity": cams * 3,
        "MakePseudoLabels": 792,
        "TrainSegmentation": 792,
        "Segment": 792,
    }
    assert plan.visits == 792 * 10 + 720
    assert total(plan).startswith("8640 stage visits, 2971 distinct, 0 in the store, 2971 to run")


def test_large_grid_makes_each_configuration_of_a_stage_once(large: tuple[Spec, list[Trial]]) -> None:
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
    plan = plan_with(trials(make(base=SHAPES | {"crf.alpha": 4, "crf_low.alpha": 4}, baseline={})), set())
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


def test_store_is_asked_once_for_each_distinct_artifact() -> None:
    asked: list[str] = []

    def has(node: Node) -> bool:
        asked.append(node.fingerprint)
        return False

    plan = make_plan(trials(make(grid={"pseudo.beta": [1, 2]}, seeds=2)), has=has)
    assert len(asked) == len(set(asked)) == len(plan.nodes)


def test_nothing_runs_when_all_is_in_the_store() -> None:
    found = trials(make(baseline={}))
    plan = plan_with(found, {node.fingerprint for node in found[0].nodes.values()})
    assert plan.reasons == {}
    assert plan.seconds == 0
    assert (
        total(plan)
        == "11 stage visits, 11 distinct, 11 in the store, 0 to run; expected time: 0 s, one after the other"
    )


def test_time_is_the_sum_over_what_runs_and_unknown_where_a_part_was_never_measured() -> None:
    found = trials(make(baseline={}, seeds=2, targets=["crf"]))
    seconds = {"TrainClassifier": 600.0, "TrainCGNet": 3600.0, "MakeCam": 30.0, "RefineCam": 15.0}
    plan = plan_with(found, stored(found, "data") | stored(found[:1], "oc"), seconds)
    assert plan.seconds == 600 + 2 * (3600 + 30 + 15)
    assert total(plan).endswith("2.2 h, one after the other")
    assert plan_with(found, set(), seconds).seconds is None
    assert total(plan_with(found, set(), seconds)).endswith("unknown until each kind of stage has run once")


def test_report_tells_question_trials_stages_and_totals(tmp_path: Path) -> None:
    grid = {"cam.source": ["oc", "cgnet"], "cgnet.lambda_start": [1, 2]}
    spec = make(
        grid=grid,
        baseline={"cam.source": "oc"},
        seeds=2,
        expect="more",
        resources={"*": {"num_cpus": 7, "num_gpus": 0.5}},
    )
    found = trials(spec)
    plan = make_plan(
        found,
        has=lambda node: node.kind in ("Shapes", "TrainClassifier"),
        resources=spec.resources_of,
        durations={"MakeCam": 90},
    )
    report = describe(plan, spec)
    lines = [" ".join(line.split()) for line in report.splitlines()]
    assert lines[:2] == ["s: why?", "Expected: more"]
    assert (
        "Trials: 4 points of the grid and the baseline, 2 seeds: 10 written, 6 distinct (4 differ from another"
        in report
    )
    assert "* source=oc 0, 1 19 16 cam" in lines
    assert "source=cgnet, lambda_start=2 0, 1 21 18 cgnet" in lines
    assert "cam MakeCam 6 6 0 6 7 CPU, 0.5 GPU 90 s 2 not in the store; 4 after cgnet" in lines
    assert "oc TrainClassifier 6 2 2 0 7 CPU, 0.5 GPU unknown -" in lines
    assert report.splitlines()[-1] == total(plan)
