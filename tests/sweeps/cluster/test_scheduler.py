import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import ray
from asking import (
    DONE,
    ensure,
    kinds,
    news,
    request_of,
    running,
    scheduler_of,
)
from probe_stages import CURVE, Probe, executions
from waiting import PATIENCE_S, wait_until

from sweeps.cluster.code_version import source_digest
from sweeps.cluster.messages import Answer, AnswerState, EventKind
from sweeps.store.stop_file import stop_file

pytestmark = pytest.mark.usefixtures("cluster")


def test_many_asks_at_once_run_a_stage_once(tmp_path: Path) -> None:
    scheduler = scheduler_of(tmp_path)
    request = request_of(Probe(label="shared", num_steps=5))
    asks = [
        scheduler.ensure.remote(request, f"trial {number}", PATIENCE_S) for number in range(100)
    ]
    assert all(answer == DONE for answer in ray.get(asks))
    assert executions(tmp_path) == ["shared 0"]


def test_a_failure_reaches_who_waits_for_it_and_nobody_else(tmp_path: Path) -> None:
    scheduler = scheduler_of(tmp_path)
    bad, good = request_of(Probe(label="bad", fails=True)), request_of(Probe(label="good"))
    answers = [ensure(scheduler, bad, trial="one"), ensure(scheduler, bad, trial="two")]
    assert all(
        answer.state is AnswerState.FAILED and "bad was told to fail" in answer.error
        for answer in answers
    )
    assert ensure(scheduler, good, trial="three") == DONE
    assert executions(tmp_path).count("bad 0") == 1

    ray.get(scheduler.begin.remote())  # the next sweep may try again
    assert ensure(scheduler, bad).state is AnswerState.FAILED
    assert executions(tmp_path).count("bad 0") == 2


def test_a_stage_with_a_broken_manifest_is_made_again(tmp_path: Path) -> None:
    scheduler = scheduler_of(tmp_path)
    request = request_of(Probe(label="good"))
    ensure(scheduler, request)
    (path,) = tmp_path.glob("Probe/*/manifest.json")
    path.write_text("{")
    assert ensure(scheduler, request) == DONE
    assert executions(tmp_path) == ["good 0", "good 0"]
    assert len(list((tmp_path / "corrupt").iterdir())) == 1


def test_the_curve_of_a_stage_that_runs_is_handed_out_once(tmp_path: Path) -> None:
    scheduler = scheduler_of(tmp_path)
    request = request_of(Probe(label="curve"))
    ensure(scheduler, request)
    points = news(scheduler).points
    assert [point.values for point in points] == list(CURVE)
    assert {point.fingerprint for point in points} == {request.fingerprint}
    assert all(abs(point.at_ms / 1000 - time.time()) < PATIENCE_S for point in points)
    assert not ray.get(scheduler.news.remote(points[-1].id)).points


def test_the_traceback_of_a_failure_is_kept(tmp_path: Path) -> None:
    scheduler = scheduler_of(tmp_path)
    request = request_of(Probe(label="bad", fails=True))
    error = ensure(scheduler, request).error
    path = tmp_path / "scratch" / request.fingerprint / "error.txt"
    assert str(path) in error
    assert "probe_stages.py" in path.read_text()


def test_a_stage_whose_worker_is_killed_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    scheduler = scheduler_of(tmp_path)
    request = request_of(Probe(label="long", num_steps=30))
    scheduler.ensure.remote(request, "a trial", PATIENCE_S)
    checkpoint = tmp_path / "scratch" / request.fingerprint / "step"
    os.kill(running(scheduler, at=checkpoint.exists).worker.pid, signal.SIGKILL)
    assert ensure(scheduler, request) == DONE
    first, second = executions(tmp_path)
    assert (first, second.split()[0]) == ("long 0", "long")
    assert int(second.split()[1]) > 0
    assert kinds(scheduler) == [EventKind.RETRIED, EventKind.DONE]


def test_a_stage_that_loses_a_process_of_its_own_is_tried_again(tmp_path: Path) -> None:
    scheduler = scheduler_of(tmp_path)
    assert ensure(scheduler, request_of(Probe(label="shared", loses_process=True))) == DONE
    assert executions(tmp_path) == ["shared 0", "shared 0"]


def test_the_scheduler_comes_back_when_it_is_killed(tmp_path: Path) -> None:
    scheduler = scheduler_of(tmp_path)
    request = request_of(Probe(label="long", num_steps=10))
    scheduler.ensure.remote(request, "a trial", PATIENCE_S)
    running(scheduler)
    pid = news(scheduler).pid
    os.kill(pid, signal.SIGKILL)
    assert ensure(scheduler, request) == DONE
    assert news(scheduler).pid != pid


def test_a_stage_is_cancelled_when_the_last_that_wants_it_leaves(tmp_path: Path) -> None:
    scheduler = scheduler_of(tmp_path)
    request = request_of(Probe(label="long", num_steps=3000))
    ray.get([scheduler.ensure.remote(request, trial, 0.0) for trial in ("one", "two")])
    running(scheduler, at=lambda: bool(executions(tmp_path)))
    ray.get(scheduler.release.remote("one"))
    time.sleep(3)
    assert len(news(scheduler).running) == 1
    ray.get(scheduler.release.remote("two"))
    wait_until(lambda: not news(scheduler).running, what="the end of the stage")
    assert kinds(scheduler)[-1] is EventKind.CANCELLED
    # the actor hears of the end before the process has tidied up
    wait_until(lambda: not list(tmp_path.glob("Probe/*")), what="a tidy store")


def test_stop_file_of_an_earlier_attempt_is_gone_when_a_new_one_runs(tmp_path: Path) -> None:
    scheduler = scheduler_of(tmp_path)
    request = request_of(Probe(label="again", num_steps=20))
    left_behind = tmp_path / stop_file(request.fingerprint)
    left_behind.parent.mkdir(parents=True)
    left_behind.touch()
    asked = scheduler.ensure.remote(request, "a trial", PATIENCE_S)
    running(scheduler, at=lambda: bool(executions(tmp_path)))
    assert not left_behind.exists()
    assert ray.get(asked) == DONE


def test_trial_that_left_holds_no_stage_by_a_late_request(tmp_path: Path) -> None:
    scheduler = scheduler_of(tmp_path)
    request = request_of(Probe(label="long", num_steps=3000))
    ray.get([scheduler.ensure.remote(request, trial, 0.0) for trial in ("stays", "goes")])
    running(scheduler, at=lambda: bool(executions(tmp_path)))
    ray.get(scheduler.leave.remote(["goes"], 0.0))
    assert len(news(scheduler).running) == 1
    # its process may ask once more before it ends
    ray.get(scheduler.ensure.remote(request, "goes", 0.0))
    ray.get(scheduler.leave.remote(["stays"], PATIENCE_S))
    assert kinds(scheduler)[-1] is EventKind.CANCELLED


def test_another_store_has_another_scheduler(tmp_path: Path) -> None:
    one, two = scheduler_of(tmp_path / "one"), scheduler_of(tmp_path / "two")
    pids = [news(scheduler).pid for scheduler in (one, two, scheduler_of(tmp_path / "one"))]
    assert pids[0] == pids[2] != pids[1]


def test_what_the_actor_and_the_trials_import_is_light() -> None:
    heavy = "{'torch', 'occse.stage', 'mlflow'}"
    code = (
        "import sys, sweeps.cluster.scheduler, sweeps.cluster.coordinator; "
        f"print(*{heavy}.intersection(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not done.stdout.strip()


def test_the_source_digest_is_the_same_in_every_process() -> None:
    code = "from sweeps.cluster.code_version import source_digest; print(source_digest())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == source_digest()


def test_draining_one_trial_leaves_what_another_waits_for_and_starts_nothing_more(
    tmp_path: Path,
) -> None:
    scheduler = scheduler_of(tmp_path)
    shared, own, next_ = (
        request_of(Probe(label=label, num_steps=20)) for label in ("shared", "own", "next")
    )
    asked = [scheduler.ensure.remote(shared, "stays", PATIENCE_S)]
    asked += [scheduler.ensure.remote(request, "goes", 0.0) for request in (shared, own)]
    running(scheduler, at=lambda: len(executions(tmp_path)) == 2)
    assert ray.get(scheduler.drain.remote(["goes"])) == 1
    assert (tmp_path / stop_file(own.fingerprint)).exists()
    assert not (tmp_path / stop_file(shared.fingerprint)).exists()
    assert ray.get(scheduler.ensure.remote(next_, "goes", 0.0)) == Answer(state=AnswerState.PENDING)
    assert ray.get(asked[0]) == DONE
    assert sorted(executions(tmp_path)) == ["own 0", "shared 0"]
