"""The cost of a plan, against sums made by hand from manifests."""

from typing import Any

import pytest
from measured import measured

from occse.pipeline import Node
from occse.stage import Resources
from sweeps.cluster.machines import Machine
from sweeps.plan.costs import Costs, make_costs
from sweeps.plan.past_runs import PastRuns, Range
from sweeps.plan.plan import make_plan
from sweeps.plan.plan_text import describe
from sweeps.spec.model import Spec
from sweeps.spec.trials import trials

SHAPES = {"data.kind": "shapes", "*.init": "random", "*.backbone": "tiny", "*.epochs": 2}
ONE_CPU = Resources(num_cpus=1)


def make(**keys: Any) -> Spec:
    keys.setdefault("base", {})
    base = SHAPES | keys.pop("base")
    return Spec.model_validate(
        {"name": "s", "question": "why?", "baseline": {}, "base": base} | keys
    )


def nodes_of(spec: Spec) -> dict[str, Node]:
    """Of the first trial, by field."""
    return dict(trials(spec)[0].nodes)


def by_fingerprint(nodes: dict[str, Node]) -> dict[str, Node]:
    return {node.fingerprint: node for node in nodes.values()}


def seconds_of(field: str, spec: Spec, history: PastRuns, *, granted: Resources = ONE_CPU) -> Any:
    nodes = nodes_of(spec)
    return history.seconds(nodes[field], by_fingerprint(nodes), granted=granted)


def runs_of(field: str, *specs: Spec, seconds: list[float], **more: Any) -> PastRuns:
    """A store with that field's artifact of each spec, and with what it hangs on."""
    manifests = []
    for spec, each in zip(specs, seconds, strict=True):
        nodes = nodes_of(spec)
        manifests += [measured(node, seconds=0.0) for name, node in nodes.items() if name != field]
        manifests.append(measured(nodes[field], seconds=each, **more))
    return PastRuns(manifests)


def test_other_seeds_rates_and_lambdas_are_as_good_as_the_stage_itself() -> None:
    others = [
        make(seeds=[1]),
        make(base={"cgnet.lr": 0.5}),
        make(base={"cgnet.lambda_start": 7}),
    ]
    estimate = seconds_of("cgnet", make(), runs_of("cgnet", *others, seconds=[10.0, 30.0, 14.0]))
    assert (estimate.low, estimate.usual, estimate.high, len(estimate.runs)) == (
        10.0,
        14.0,
        30.0,
        3,
    )
    assert (estimate.where, estimate.differs) == ("a processor", ())


@pytest.mark.parametrize(
    "knob", [{"cgnet.epochs": 3}, {"cgnet.backbone": "resnet50"}, {"data.num_train": 99}]
)
def test_nothing_is_said_from_another_amount_of_work(knob: dict[str, Any]) -> None:
    history = runs_of("cgnet", make(base=knob | {"data.num_scored": 9}), seconds=[10.0])
    assert seconds_of("cgnet", make(base={"data.num_scored": 9}), history) is None


def test_the_network_that_a_stage_runs_decides_too() -> None:
    history = runs_of("cam", make(base={"cgnet.backbone": "resnet50"}), seconds=[10.0])
    assert seconds_of("cam", make(), history) is None


def test_the_nearest_runs_count_and_what_they_differ_in_is_told() -> None:
    near, far = make(base={"cgnet.crop": 64}), make(base={"cgnet.crop": 64, "cgnet.batch_size": 2})
    estimate = seconds_of("cgnet", make(), runs_of("cgnet", far, near, seconds=[99.0, 10.0]))
    assert (estimate.usual, estimate.differs) == (10.0, ("crop",))


def test_times_of_a_gpu_say_nothing_of_a_cpu() -> None:
    history = runs_of("cgnet", make(), seconds=[10.0], gpu="a GPU", threads=4)
    assert seconds_of("cgnet", make(), history) is None
    estimate = seconds_of("cgnet", make(), history, granted=Resources(num_cpus=4, num_gpus=1))
    assert (estimate.usual, estimate.where, estimate.differs) == (10.0, "a GPU", ())
    assert seconds_of(
        "cgnet", make(), history, granted=Resources(num_cpus=2, num_gpus=0.5)
    ).differs == ("CPUs",)


def test_maps_grow_with_images_and_networks_do_not() -> None:
    nodes = nodes_of(make())
    counted = {"images": 500.0, "images/train_aug": 400.0, "images/val": 100.0}
    history = PastRuns(
        [
            measured(nodes["data"], seconds=1, metrics=counted),
            *(measured(nodes[field], seconds=1, size=40_000) for field in ("oc", "cgnet", "cam")),
            measured(nodes["seg"], seconds=1, size=10_000),
        ]
    )

    def size(field: str, spec: Spec) -> Any:
        nodes = nodes_of(spec)
        return history.bytes(nodes[field], by_fingerprint(nodes))

    more = make(base={"data.num_train": 800, "data.num_val": 300, "cgnet.epochs": 5})
    assert [size(field, more).usual for field in ("cam", "seg", "cgnet")] == [
        80_000,
        30_000,
        40_000,
    ]
    voc = make(base={"data.kind": "voc"})
    assert size("cam", voc).usual == 24_000 * 10_582, (
        "small images tell nothing of large ones; the benchmark does"
    )
    assert (size("cam", voc).where, size("cam", voc).runs) == (
        "a benchmark's images of 500 x 375",
        frozenset(),
    )
    assert size("cam", make(base={"data.kind": "voc", "cam.reduction": 2})) is None
    assert size("seg", make(base={"data.kind": "coco"})).usual == pytest.approx(
        2_200 * 40_137 * 640 * 480 / 187_500
    )
    assert size("cgnet", voc).usual == 40_000
    assert size("cam", make(base={"data.kind": "folder"})) is None


def costs_of(
    spec: Spec, history: PastRuns, *, machine: Machine, stored: tuple[str, ...] = ("Shapes",)
) -> Costs:
    plan = make_plan(
        trials(spec),
        stored=lambda nodes: [node.fingerprint for node in nodes if node.kind in stored],
        resources=spec.resources_of,
    )
    return make_costs(plan, history, machines=[machine], resources=spec.resources_of)


@pytest.fixture
def history() -> PastRuns:
    """oc 100 to 300 s, cgnet 1000, cam 50, all on a GPU; crf 40 s on one CPU."""
    nodes = nodes_of(make(targets=["crf"]))
    again = nodes_of(make(targets=["crf"], seeds=[1]))
    manifests = [
        measured(nodes["data"], seconds=1.0, metrics={"images/train_aug": 400.0, "images": 400.0})
    ]
    manifests += [
        measured(nodes["oc"], seconds=100.0, gpu="a GPU"),
        measured(again["oc"], seconds=300.0, gpu="a GPU"),
    ]
    manifests += [
        measured(nodes["cgnet"], seconds=1000.0, gpu="a GPU"),
        measured(nodes["cam"], seconds=50.0, gpu="a GPU"),
    ]
    return PastRuns([*manifests, measured(nodes["crf"], seconds=40.0)])


GRID = {"targets": ["crf"], "grid": {"cgnet.lambda_start": [1, 2, 3]}, "baseline": None}
NEEDS = {
    "oc": {"num_gpus": 1},
    "cgnet": {"num_gpus": 0.5},
    "cam": {"num_gpus": 1},
    "*": {"num_cpus": 1},
}


def test_costs_are_the_sums_of_what_runs(history: PastRuns) -> None:
    costs = costs_of(make(**GRID, resources=NEEDS), history, machine={"CPU": 4, "GPU": 1})
    assert {row.kind: row.to_run for row in costs.rows} == {
        "TrainClassifier": 1,
        "TrainCGNet": 3,
        "MakeCam": 3,
        "RefineCam": 3,
    }
    assert {row.kind: row.gpu_s for row in costs.rows} == {
        "TrainClassifier": 200,
        "TrainCGNet": 3 * 1000 * 0.5,
        "MakeCam": 3 * 50,
        "RefineCam": 0,
    }
    fixed = 3 * 1000 * 0.5 + 3 * 50
    assert costs.gpu_s == Range(low=100 + fixed, usual=200 + fixed, high=300 + fixed)
    # oc; two CGNets share the GPU, then the third with nothing beside it; their CAMs; the last CRF
    wall = 2 * 1000 + 50 + 40
    assert costs.wall_s.usual == pytest.approx(200 + wall, abs=2 * 50)
    assert costs.wall_s.high - costs.wall_s.low == 200
    assert not costs.unknown
    assert costs.trial_networks == 2000
    assert costs.trial_maps == 2000


def test_stages_of_one_class_may_hold_different_gpus() -> None:
    spec = make(
        targets=["crf", "crf_low"],
        baseline={},
        resources={"*": {"num_cpus": 1}, "crf_low": {"num_gpus": 0.5}},
    )
    nodes = nodes_of(spec)
    images = {"images/train_aug": 400.0, "images": 400.0}
    past = [
        measured(nodes["data"], seconds=1.0, metrics=images),
        measured(nodes["crf"], seconds=100.0),
        measured(nodes["crf_low"], seconds=40.0, gpu="a GPU"),
    ]
    costs = costs_of(spec, PastRuns(past), machine={"CPU": 4, "GPU": 1})
    (row,) = (row for row in costs.rows if row.kind == "RefineCam")
    assert row.to_run == 2
    assert row.gpu_s == 40.0 * 0.5


def test_more_gpus_take_less_time_and_no_fewer_gpu_hours(history: PastRuns) -> None:
    spec = make(**GRID, resources=NEEDS)
    one, three = (costs_of(spec, history, machine={"CPU": 8, "GPU": gpus}) for gpus in (1, 3))
    assert three.wall_s.usual == 200 + 1000 + 50 + 40
    assert three.gpu_s == one.gpu_s


def test_what_never_ran_is_unknown_and_named(history: PastRuns) -> None:
    spec = make(**GRID, resources={"*": {"num_cpus": 1}})
    costs = costs_of(spec, history, machine={"CPU": 1})
    assert costs.unknown == ["TrainClassifier", "TrainCGNet", "MakeCam"]
    assert costs.wall_s.usual == 3 * 40
    plan = make_plan(
        trials(spec),
        stored=lambda nodes: [node.fingerprint for node in nodes if node.kind == "Shapes"],
        resources=spec.resources_of,
    )
    text = describe(plan, spec, costs)
    assert (
        "Time on 1 CPU and 0 GPUs, in the order of the scheduler: more than 2 min; "
        "no past run has TrainClassifier, TrainCGNet, MakeCam" in text
    )
