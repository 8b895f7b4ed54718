"""Shipped rates, where a store has no run of its own."""

from typing import Any

import pytest
from measured import measured

from occse.pipeline import Node, Pipeline, override, plan, profile
from occse.stage import Resources
from sweeps.plan.costs import make_costs
from sweeps.plan.past_runs import Estimate, PastRuns
from sweeps.plan.plan import make_plan
from sweeps.plan.plan_text import describe
from sweeps.plan.shipped import shipped_rates
from sweeps.spec.model import Spec
from sweeps.spec.trials import trials

GPU = Resources(num_cpus=4, num_gpus=1)
REFERENCE = profile("reference") | {"data.kind": "voc"}


def estimate(
    field: str,
    *,
    runs: tuple[Any, ...] = (),
    granted: Resources = GPU,
    **knobs: object,
) -> Estimate | None:
    nodes = plan(override(Pipeline(), REFERENCE | knobs))
    history = PastRuns(runs, shipped=shipped_rates())
    by_fingerprint: dict[str, Node] = {node.fingerprint: node for node in nodes.values()}
    return history.seconds(nodes[field], by_fingerprint, granted=granted)


def test_a_stage_without_runs_takes_the_shipped_rate_and_says_so() -> None:
    found = estimate("cgnet")
    assert found is not None
    assert found.usual == pytest.approx(15 * 10_582 / 52)
    assert found.where == (
        "a shipped figure, measured, NVIDIA H100 80 GB, torch 2.11, CUDA 13.0, 2026-11"
    )
    assert (found.runs, found.differs) == (frozenset(), ())


def test_derived_figures_name_what_they_come_from() -> None:
    found = estimate("affinity")
    assert found is not None
    assert found.where.startswith("a shipped figure, derived (from CGNet's step), NVIDIA H100")


def test_the_closest_rate_counts_and_what_differs_is_named() -> None:
    fast = {"cgnet.precision": "bfloat16", "cgnet.compile": True}
    found = estimate("cgnet", **fast)
    assert found is not None
    assert found.usual == pytest.approx(15 * 10_582 / 179)
    assert found.differs == ("batch_size",)
    assert "7.6 GiB of the GPU" in found.where
    sixteen = estimate("cgnet", **{"cgnet.batch_size": 16})
    assert sixteen is not None
    assert sixteen.usual == pytest.approx(15 * 10_582 / 56)
    assert sixteen.differs == ()


@pytest.mark.parametrize(
    ("field", "knobs"),
    [
        ("cgnet", {"cgnet.backbone": "resnet50", "cgnet.init": "imagenet"}),
        ("cgnet", {"cgnet.crop": 448}),
        ("cam", {"cam.scales": [1.0]}),
        ("cam", {"cam.source": "oc"}),
        ("seg", {}),
        ("pseudo", {}),
        ("cgnet", {"data.kind": "folder"}),
    ],
)
def test_what_was_not_measured_stays_unknown(field: str, knobs: dict[str, object]) -> None:
    assert estimate(field, **knobs) is None


def test_crf_has_a_rate_for_each_kind_of_device() -> None:
    on_gpu = estimate("crf", granted=Resources(num_cpus=8, num_gpus=0.25))
    on_cpu = estimate("crf", granted=Resources(num_cpus=4))
    assert on_gpu is not None
    assert on_cpu is not None
    assert on_gpu.usual == pytest.approx(10_582 / 204)
    assert on_cpu.usual == pytest.approx(10_582 / 12 * 8 / 4)


def test_a_run_of_the_store_counts_before_any_shipped_figure() -> None:
    nodes = plan(override(Pipeline(), REFERENCE))
    runs = [measured(node, seconds=77.0, gpu="a GPU", threads=4) for node in nodes.values()]
    found = estimate("cgnet", runs=tuple(runs))
    assert found is not None
    assert (found.usual, found.where) == (77.0, "a GPU")


def test_plan_marks_shipped_figures() -> None:
    spec = Spec.model_validate(
        {"name": "s", "question": "why?", "baseline": {}, "base": {"data.kind": "voc"}}
        | {"profile": "reference", "targets": ["cam"]}
    )
    made = make_plan(trials(spec), stored=lambda nodes: [], resources=spec.resources_of)
    texts = []
    for shipped in (shipped_rates(), ()):
        costs = make_costs(
            made,
            PastRuns([], shipped=shipped),
            machines=[{"CPU": 16.0, "GPU": 1.0}],
            resources=spec.resources_of,
        )
        texts.append(describe(made, spec, costs))
    with_rates, without = texts
    assert "Shipped figures replace runs that the store lacks" in with_rates
    assert "a shipped figure, measured, NVIDIA H100 80 GB" in with_rates
    assert "shipped" not in without.lower()
