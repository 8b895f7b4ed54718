"""The plan as a person reads it."""

import re

from measured import measured

from sweeps.plan.costs import make_costs
from sweeps.plan.past_runs import PastRuns
from sweeps.plan.plan import make_plan, total
from sweeps.plan.plan_text import amount, describe
from sweeps.spec.model import Spec
from sweeps.spec.trials import trials

SHAPES = {"data.kind": "shapes", "*.init": "random"}


def make(**keys: object) -> Spec:
    return Spec.model_validate({"name": "s", "question": "why?", "base": SHAPES} | keys)


def report_of(
    spec: Spec, *, whole: bool = False, stored: tuple[str, ...] = ("Shapes", "TrainClassifier")
) -> str:
    found = trials(spec)
    plan = make_plan(
        found,
        stored=lambda nodes: [node.fingerprint for node in nodes if node.kind in stored],
        resources=spec.resources_of,
    )
    history = PastRuns(
        measured(node, seconds=90, size=5_000_000) for node in found[0].nodes.values()
    )
    costs = make_costs(plan, history, machines=[{"CPU": 8, "GPU": 0}], resources=spec.resources_of)
    return describe(plan, spec, costs, whole=whole)


def test_report_tells_question_trials_stages_costs_and_totals() -> None:
    grid = {"cam.source": ["oc", "cgnet"], "cgnet.lambda_start": [1, 2]}
    baseline = {"cam.source": "oc"}
    resources = {"*": {"num_cpus": 7, "num_gpus": 0.5}}
    spec = make(grid=grid, baseline=baseline, seeds=2, expect="more", resources=resources)
    report = report_of(spec)
    lines = [" ".join(line.split()) for line in report.splitlines()]
    assert lines[:2] == ["s: why?", "Expected: more"]
    written = "Trials: 4 points of the grid and the baseline, 2 seeds: 10 written, 6 distinct"
    assert f"{written} (4 differ from others only in knobs without effect there)." in report
    assert "* source=oc 0, 1 19 16 cam" in lines
    assert "source=cgnet, lambda_start=2 0, 1 21 18 cgnet" in lines
    assert (
        "cam MakeCam 6 6 0 6 7 CPUs (asks for 7 CPUs, 0.5 GPU) 2 not in the store; 4 after cgnet"
        in lines
    )
    assert "oc TrainClassifier 6 2 2 0 7 CPUs (asks for 7 CPUs, 0.5 GPU) -" in lines
    assert "TrainCGNet 4 unknown unknown - unknown unknown -" in lines
    assert (
        "TrainSegmentation 6 90 s 9 min - 5 MB 30 MB 1 run on a processor with other CPUs" in lines
    )
    assert "GPU hours: none" in lines
    plan = make_plan(
        trials(spec),
        stored=lambda nodes: [
            node.fingerprint for node in nodes if node.kind in ("Shapes", "TrainClassifier")
        ],
    )
    assert report.splitlines()[-1] == total(plan)


def test_many_variants_are_folded_unless_all_are_wanted() -> None:
    spec = make(grid={"pseudo.alpha_walk": list(range(1, 31))})
    assert "  ... and 10 more variants; --all lists them" in report_of(spec).splitlines()
    assert "alpha_walk=30 " not in report_of(spec)
    assert "alpha_walk=30 " in report_of(spec, whole=True)
    assert "--all" not in report_of(spec, whole=True)


def test_disk_of_which_nothing_was_ever_measured_is_unknown() -> None:
    spec = make(baseline={})
    plan = make_plan(trials(spec), stored=lambda _: ())
    costs = make_costs(plan, PastRuns([]), machines=[{"CPU": 8}], resources=spec.resources_of)
    assert "Disk: unknown until each kind of stage has run once;" in describe(plan, spec, costs)
    partly = report_of(make(grid={"cgnet.backbone": ["tiny", "resnet38"]}))
    assert re.search(r"Disk: more than [1-9]\d* MB;", partly)


def test_nothing_to_run_costs_nothing() -> None:
    spec = make(baseline={})
    kinds = tuple(node.kind for node in trials(spec)[0].nodes.values())
    assert "Cost" not in report_of(spec, stored=kinds)


def test_amounts_for_people() -> None:
    assert [amount(size) for size in (999, 1000, 73_100, 1.5e6, 8.64e8, 1.234e9)] == [
        "999 B",
        "1 kB",
        "73.1 kB",
        "1.5 MB",
        "864 MB",
        "1.23 GB",
    ]
