"""Several clusters on one store, a store on S3, and damage in the middle of a sweep: on a real
cluster.
"""

import os
import re
import time
from pathlib import Path
from typing import Any

import pytest
import ray
from asking import ask, ensure, kinds, news, request_of, scheduler_of
from probe_stages import Link, Probe, executions, make_trial
from sweeping import sweep_probes
from waiting import wait_until

from sweeps.cluster.messages import EventKind
from sweeps.spec.model import Spec
from sweeps.spec.trials import Trial
from sweeps.store.leases import EXPIRES_S, Lease, read_lease
from sweeps.store.store import Store

pytestmark = [
    # in this order: Ray's processes inherit the environment
    pytest.mark.usefixtures("s3", "cluster"),
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning"),  # of MLflow
]
SPEC = Spec(name="probe", question="Does it go on?", baseline={})


def test_of_two_clusters_one_runs_a_stage_and_the_other_waits_for_it(tmp_path: Path) -> None:
    one, two = (scheduler_of(tmp_path, name=name) for name in ("one", "two"))
    request = request_of(Probe(label="shared", num_steps=30))
    ask(one, request, until=lambda: bool(executions(tmp_path)))
    ask(two, request, until=lambda: EventKind.ELSEWHERE in kinds(two))
    fingerprint = request.fingerprint
    (waiting,) = news(two).waiting
    assert waiting.fingerprint == fingerprint
    assert waiting.why == f"another cluster runs it: {os.uname().nodename}"
    ask(two, request, until=lambda: kinds(two)[-1:] == [EventKind.DONE])
    assert kinds(two) == [EventKind.ELSEWHERE, EventKind.DONE]
    assert executions(tmp_path) == ["shared 0"]
    ask(one, request, until=lambda: kinds(one)[-1:] == [EventKind.DONE])
    files = Store(tmp_path).files
    wait_until(lambda: read_lease(files, fingerprint) is None, what="the end of the lease")


def test_a_stage_of_a_cluster_that_died_is_taken_over(tmp_path: Path) -> None:
    scheduler = scheduler_of(tmp_path, name="one")
    request = request_of(Probe(label="left"))
    name = f"leases/{request.fingerprint}.json"
    lease = Lease(
        owner="dead", host="elsewhere", pid=1, since=0.0, heartbeat=time.time() - EXPIRES_S + 4
    )
    Store(tmp_path).files.write(name, lease.model_dump_json().encode())
    ask(scheduler, request, until=lambda: kinds(scheduler)[-1:] == [EventKind.DONE])
    assert kinds(scheduler) == [EventKind.ELSEWHERE, EventKind.DONE]


def test_a_cluster_takes_nothing_while_its_trials_have_gone(tmp_path: Path) -> None:
    one, two = (scheduler_of(tmp_path, name=name) for name in ("one", "two"))
    request = request_of(Probe(label="shared", num_steps=3000))
    ask(one, request, until=lambda: bool(executions(tmp_path)))
    ask(two, request, until=lambda: EventKind.ELSEWHERE in kinds(two))
    ray.get([two.release.remote("a trial"), one.release.remote("a trial")])
    for scheduler in (one, two):
        wait_until(
            lambda s=scheduler: kinds(s)[-1:] == [EventKind.CANCELLED], what="a cancelled stage"
        )
    time.sleep(3)
    assert read_lease(Store(tmp_path).files, request.fingerprint) is None
    assert executions(tmp_path) == ["shared 0"]


def trial_of(order: int, *, num_steps: int = 0) -> Trial:
    return make_trial(
        order,
        data=Link(label="data"),
        oc=Probe(label="oc", upstream=("data",), num_steps=num_steps),
        cam=Probe(label=f"cam {order}", upstream=("data", "oc")),
    )


def sweep(store: Store, root: Path, *trials: Trial, lines: list[str]) -> Any:
    return sweep_probes(SPEC, trials, root, store=store, say=lines.append)


def test_an_input_that_was_damaged_since_is_made_again_in_the_same_sweep(tmp_path: Path) -> None:
    store, lines = Store(tmp_path / "store"), list[str]()
    sweep(store, tmp_path, trial_of(0), lines=lines)
    data = trial_of(0).nodes["data"]
    store.path(data, "digest.txt").write_text("0" * 64)  # which the driver has no reason to read
    summary = sweep(store, tmp_path, trial_of(1), lines=lines)
    assert summary.well
    assert executions(tmp_path / "store") == ["data 0", "oc 0", "cam 0 0", "data 0", "cam 1 0"]
    assert len(list((tmp_path / "store" / "corrupt" / "Link").iterdir())) == 1
    assert any(
        re.search(r"again +cam .* needs data, which was damaged or removed", line) for line in lines
    )


def test_damage_that_is_noticed_while_a_trial_is_recorded_is_told_and_mended_by_the_same_command(
    tmp_path: Path,
) -> None:
    store, lines = Store(tmp_path / "store"), list[str]()
    sweep(store, tmp_path, trial_of(0), lines=lines)
    store.path(trial_of(0).nodes["oc"], "curves.json").write_text("[]")
    summary = sweep(store, tmp_path, trial_of(0), lines=lines)
    assert "oc: " in summary.failed["variant 0 · seed 0"]
    assert "the same command makes it again" in summary.failed["variant 0 · seed 0"]
    assert sweep(store, tmp_path, trial_of(0), lines=lines).well
    assert executions(tmp_path / "store") == ["data 0", "oc 0", "cam 0 0", "oc 0"]


def test_a_sweep_on_s3_goes_on_from_its_checkpoints_and_runs_nothing_twice(
    s3: str, tmp_path: Path
) -> None:
    store, lines = Store(f"{s3}/{tmp_path.name}"), list[str]()
    summary = sweep(store, tmp_path, trial_of(0), trial_of(1), lines=lines)
    assert summary.well
    assert (summary.run, summary.reused) == (4, 0)
    assert sorted(executions(store.root)) == ["cam 0 0", "cam 1 0", "data 0", "oc 0"]
    again = sweep(store, tmp_path, trial_of(0), trial_of(1), trial_of(2), lines=lines)
    assert (again.run, again.reused) == (1, 4)
    assert len(executions(store.root)) == 5
    assert len(list(store.manifests())) == 5
    assert not list(store.files.find("scratch"))


def test_a_failure_on_s3_leaves_its_traceback_there(s3: str, tmp_path: Path) -> None:
    store = Store(f"{s3}/{tmp_path.name}")
    scheduler = scheduler_of(store.url)
    request = request_of(Probe(label="bad", fails=True))
    ask(scheduler, request, until=lambda: kinds(scheduler)[-1:] == [EventKind.FAILED])
    answer = ensure(scheduler, request)
    name = f"scratch/{request.fingerprint}/error.txt"
    assert f"[{store.url}/{name}]" in answer.error
    assert b"probe_stages.py" in (store.files.read(name) or b"")
