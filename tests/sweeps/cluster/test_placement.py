"""Machines and order of stages on a cluster of several machines."""

import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray
from asking import (
    DONE,
    ensure,
    kinds,
    news,
    request_of,
    scheduler_of,
    settle,
)
from nodes import Nodes
from probe_stages import Hungry, Link, Probe, executions
from waiting import PATIENCE_S, wait_until

from sweeps.cluster.messages import Answer, AnswerState, EventKind


@pytest.fixture(scope="module")
def machines(nodes: Nodes) -> dict[str, Any]:
    return {"gpu": nodes.add(num_cpus=3, num_gpus=1), "cpu": nodes.add(num_cpus=2)}


@pytest.fixture
def scheduler(machines: dict[str, Any], tmp_path: Path) -> Any:
    return scheduler_of(tmp_path)


def places(scheduler: Any) -> dict[str, str]:
    """The node on which each stage runs now, by fingerprint."""
    return {stage.fingerprint: stage.worker.node for stage in news(scheduler).running}


def test_stages_without_a_gpu_leave_the_gpus_their_cpus(
    scheduler: Any, machines: dict[str, Any]
) -> None:
    # a busy machine takes seconds to start the process of cam
    crfs = [request_of(Probe(label=f"crf {n}", num_steps=150), cpus_per_gpu=2) for n in range(4)]
    cam = request_of(Probe(label="cam", num_steps=5), cpus=2, gpus=1)
    seen: dict[str, str] = {}
    ended_before: list[set[str]] = []

    def watch() -> None:
        while len(seen) < 5:
            now = news(scheduler)
            seen.update({stage.fingerprint: stage.worker.node for stage in now.running})
            if cam.fingerprint in seen and not ended_before:
                ended_before.append({event.fingerprint for event in now.events})
            time.sleep(0.1)

    watcher = threading.Thread(target=watch)
    watcher.start()
    for request in crfs:  # one after the other, so that their order is known
        ray.get(scheduler.ensure.remote(request, "a trial", 0.0))
    settle(scheduler, cam, *crfs)
    watcher.join(PATIENCE_S)
    where = [seen[each.fingerprint] for each in (cam, *crfs)]
    gpu, cpu = machines["gpu"].node_id, machines["cpu"].node_id
    assert where[0] == gpu
    assert where[1:4] == [cpu, cpu, gpu]
    # cam asked last, and waited for none of them
    assert crfs[0].fingerprint not in ended_before[0]


def test_the_longest_path_runs_first_and_a_later_asker_may_raise_it(
    scheduler: Any, tmp_path: Path
) -> None:
    first = request_of(Probe(label="first", num_steps=20), gpus=1)
    queue = [
        request_of(Probe(label=label), gpus=1, path_s=p)
        for label, p in (("low", 1), ("high", 9), ("raised", 0))
    ]
    for request in (first, *queue, replace(queue[2], path_s=5)):
        ray.get(scheduler.ensure.remote(request, "a trial", 0.0))
    settle(scheduler, first, *queue)
    assert executions(tmp_path) == ["first 0", "high 0", "raised 0", "low 0"]


def test_two_stages_share_a_gpu_when_each_asks_for_a_part(scheduler: Any) -> None:
    halves = [request_of(Probe(label=f"half {n}", num_steps=30), gpus=0.5) for n in range(2)]
    ray.get([scheduler.ensure.remote(each, "a trial", 0.0) for each in halves])
    wait_until(lambda: len(places(scheduler)) == 2, what="both halves")
    assert all(answer == DONE for answer in settle(scheduler, *halves))


def test_a_training_that_is_short_of_gpu_memory_is_tried_once_more_in_parts(
    scheduler: Any, tmp_path: Path
) -> None:
    hungry, too_hungry = Hungry(label="hungry"), Hungry(label="too hungry", parts=3)
    done, failed = settle(
        scheduler, *[request_of(probe, gpus=0.5) for probe in (hungry, too_hungry)]
    )
    assert done == DONE
    assert "out of memory" in failed.error
    assert sorted(executions(tmp_path)) == ["hungry 0", "hungry 0", "too hungry 0", "too hungry 0"]
    (manifest,) = tmp_path.glob("Hungry/*/manifest.json")
    assert '"accumulate": 2' in manifest.read_text()
    assert kinds(scheduler).count(EventKind.SPLIT) == 2


def test_what_no_machine_has_waits_for_one_and_says_so(nodes: Nodes, scheduler: Any) -> None:
    request = request_of(Probe(label="wide"), cpus=4)
    assert ray.get(scheduler.ensure.remote(request, "a trial", 1.0)) == Answer(
        state=AnswerState.PENDING
    )
    assert news(scheduler).unmet == ("4 CPUs",)
    wide = nodes.add(num_cpus=4)
    assert ensure(scheduler, request) == DONE
    assert news(scheduler).unmet == ()
    nodes.remove(wide)


def test_a_stage_goes_on_elsewhere_when_its_machine_is_lost(
    nodes: Nodes, scheduler: Any, tmp_path: Path
) -> None:
    lost = nodes.add(num_cpus=4)
    # the machine with the GPU is as good, but kept free
    request = request_of(Link(label="long", num_steps=60), cpus=3)
    ray.get(scheduler.ensure.remote(request, "a trial", 0.0))
    checkpoint = tmp_path / "scratch" / request.fingerprint / "step"
    wait_until(checkpoint.exists, what="a checkpoint")
    assert places(scheduler) == {request.fingerprint: lost.node_id}
    nodes.kill(lost)
    assert ensure(scheduler, request) == DONE
    first, second = executions(tmp_path)
    assert first == "long 0"
    assert int(second.split()[1]) > 0
