"""Demands of several schedulers on one cluster that can grow, as the autoscaler hears them."""

import time
from dataclasses import replace
from pathlib import Path

import pytest
import ray
from asking import DONE, request_of, settle
from probe_stages import Probe
from ray.experimental.internal_kv import _internal_kv_get
from waiting import wait_until

from sweeps.cluster.demand import connect_demand
from sweeps.cluster.messages import SchedulerSettings
from sweeps.cluster.scheduler import connect

pytestmark = pytest.mark.usefixtures("cluster")
ASKED = {"CPU": 1.0}


def total() -> list[dict[str, float]]:
    found: list[dict[str, float]] = ray.get(connect_demand().total.remote())
    return found


def test_demands_of_two_schedulers_are_summed_and_end_with_their_stages(tmp_path: Path) -> None:
    schedulers = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        settings = SchedulerSettings(root=str(tmp_path / name), autoscaling=True)
        schedulers.append(connect(settings))
    short = [request_of(Probe(label=f"short {n}", num_steps=10)) for n in range(2)]
    long = request_of(Probe(label="long", num_steps=100))
    for request in short:
        ray.get(schedulers[0].ensure.remote(request, "a trial", 0.0))
    ray.get(schedulers[1].ensure.remote(long, "a trial", 0.0))
    wait_until(lambda: len(total()) == 3, what="the sum of both demands")
    told = _internal_kv_get(b"autoscaler_resource_request") or b""
    assert told.decode().count('"CPU"') == 3, "the autoscaler hears the sum"
    assert settle(schedulers[0], *short) == [DONE, DONE]
    wait_until(lambda: total() == [ASKED], what="the demand of the other scheduler alone")
    assert settle(schedulers[1], long) == [DONE]
    wait_until(lambda: total() == [], what="no demand")


def test_sweeps_of_two_schedulers_share_the_cluster_by_their_weights(tmp_path: Path) -> None:
    """Three stages fit at a time; the second sweep has twice the weight and comes later."""
    schedulers = {}
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        schedulers[name] = connect(SchedulerSettings(root=str(tmp_path / name)))
    weights = {"first": 1.0, "second": 2.0}
    requests = {
        name: [
            replace(request_of(Probe(label=f"{name} {n}", num_steps=10), cpus=0.66), weight=weight)
            for n in range(9)
        ]
        for name, weight in weights.items()
    }

    def ask(name: str) -> None:
        for request in requests[name]:
            ray.get(schedulers[name].ensure.remote(request, "a trial", 0.0))

    def on_machines() -> list[int]:
        accounts = ray.get([scheduler.account.remote() for scheduler in schedulers.values()])
        return [len(account["held"]) for account in accounts]

    ask("first")
    wait_until(lambda: on_machines() == [3, 0], what="the first sweep alone")
    ask("second")
    wait_until(lambda: on_machines() == [1, 2], what="shares by weight")
    # without a common line each scheduler would hand out the whole cluster, and Ray would choose
    for _ in range(10):
        assert sum(on_machines()) <= 3
        time.sleep(0.1)
    for scheduler in schedulers.values():
        ray.get(scheduler.leave.remote(["a trial"], 10.0))
