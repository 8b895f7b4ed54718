"""Whole sweeps on a real cluster, with what can go wrong."""

import os
import re
import signal
import threading
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient
from probe_stages import Link, Probe, executions, make_trial
from sweeping import sweep_probes, trial_runs, trial_statuses

from sweeps.driver.recorder import Summary
from sweeps.driver.tune import COORDINATOR_RETRIES
from sweeps.spec.model import Spec
from sweeps.spec.trials import Trial
from sweeps.store.store import Store

pytestmark = [
    pytest.mark.usefixtures("cluster"),
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning"),
]
SPEC = Spec(name="probe", question="Does it go on?", baseline={})
PATIENCE_S = 120.0


def trial_of(order: int, *, num_steps: int = 0, fails: bool = False) -> Trial:
    return make_trial(
        order,
        data=Probe(label="data"),
        oc=Probe(label="oc", upstream=("data",), num_steps=num_steps),
        cam=Probe(label=f"cam {order}", upstream=("data", "oc"), fails=fails),
        crf=Probe(label=f"crf {order}", upstream=("cam",)),
    )


def sweep(root: Path, *trials: Trial, lines: list[str] | None = None) -> Summary:
    return sweep_probes(SPEC, trials, root, say=(lines if lines is not None else []).append)


def test_a_failing_stage_fails_its_trial_and_no_other_and_the_next_sweep_repeats_only_that(
    tmp_path: Path,
) -> None:
    trials = [trial_of(0), trial_of(1, fails=True), trial_of(2)]
    lines: list[str] = []
    first = sweep(tmp_path, *trials, lines=lines)
    assert (first.run, first.reused, first.unrecorded) == (6, 0, 0)
    assert list(first.failed) == ["variant 1 · seed 0"]
    assert "cam: cam 1 was told to fail" in first.failed["variant 1 · seed 0"]
    assert not first.well
    assert sorted(executions(tmp_path / "store")) == sorted(
        f"{label} 0" for label in ("data", "oc", "cam 0", "cam 1", "cam 2", "crf 0", "crf 2")
    )
    expected = {"variant 0": "FINISHED", "variant 1": "FAILED", "variant 2": "FINISHED"}
    assert trial_statuses(tmp_path, SPEC.name) == expected
    assert len([line for line in lines if re.match(r"\d\d:\d\d  done ", line)]) == 6
    assert not list((tmp_path / "store").glob(".*"))

    second = sweep(tmp_path, *trials)
    assert (second.run, second.reused, len(second.failed)) == (0, 6, 1)
    assert executions(tmp_path / "store")[7:] == ["cam 1 0"]
    assert trial_statuses(tmp_path, SPEC.name) == expected


def test_mlflow_shows_what_runs_and_what_waits_while_the_sweep_runs(tmp_path: Path) -> None:
    sweep(tmp_path, trial_of(0))  # makes the database, which nobody may read meanwhile
    seen: dict[str, dict[str, float]] = {}
    wanted = {"data/miou", "oc/loss"}  # of a stage in the store, and of one that runs
    ended = threading.Event()

    def look() -> None:
        while not seen.get("variant 1", {}).keys() >= wanted and not ended.wait(0.2):
            pending = [
                run for run in trial_runs(tmp_path, SPEC.name) if run.info.status == "RUNNING"
            ]
            seen.update({run.data.tags["occse.variant"]: run.data.metrics for run in pending})

    looker = threading.Thread(target=look)
    looker.start()
    sweep(tmp_path, *(trial_of(order, num_steps=50) for order in (1, 2)))
    ended.set()
    looker.join()
    assert seen["variant 1"].keys() >= wanted
    assert "crf/miou" not in seen["variant 1"]
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    for run in trial_runs(tmp_path, SPEC.name):
        assert run.info.status == "FINISHED"
        assert sorted(
            point.step for point in client.get_metric_history(run.info.run_id, "oc/loss")
        ) == [1, 2]


def test_a_coordinator_that_is_killed_is_replaced(tmp_path: Path) -> None:
    trials = [trial_of(order, num_steps=40) for order in range(2)]
    killed: list[int] = []

    def kill_one() -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not killed and time.monotonic() < deadline:
            time.sleep(0.2)
            if executions(tmp_path / "store")[1:]:  # oc, which both wait for, has begun
                killed.append(coordinators()[0])
                os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill_one)
    killer.start()
    summary = sweep(tmp_path, *trials)
    killer.join()
    assert killed
    assert summary.well
    assert set(trial_statuses(tmp_path, SPEC.name).values()) == {"FINISHED"}
    assert sorted(executions(tmp_path / "store")) == sorted(
        f"{label} 0" for label in ("data", "oc", "cam 0", "cam 1", "crf 0", "crf 1")
    )


def test_a_manifest_that_is_damaged_is_set_aside_and_the_stage_run_again(tmp_path: Path) -> None:
    trials = [trial_of(0), trial_of(1)]
    store = Store(tmp_path / "store")
    for node in trials[0].nodes.values():
        store.execute(node)
    (store.root / "Probe" / trials[0].nodes["cam"].fingerprint / "manifest.json").write_text("{")
    assert sweep(tmp_path, *trials).well
    assert trial_statuses(tmp_path, SPEC.name) == {"variant 0": "FINISHED", "variant 1": "FINISHED"}
    assert executions(store.root).count("cam 0 0") == 2
    assert list((store.root / "corrupt").iterdir())


def coordinators() -> list[int]:
    """Processes of Tune's trials below this one."""
    parents: dict[int, int] = {}
    names: dict[int, str] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int(
                re.sub(r".*\) \S ", "", (folder / "stat").read_text()).split()[0]
            )
            names[int(folder.name)] = (folder / "cmdline").read_text()
        except (OSError, ValueError):
            continue

    def below(pid: int) -> bool:
        return pid == os.getpid() or (pid in parents and below(parents[pid]))

    return [
        pid for pid, name in names.items() if name.startswith("ray::Coordinator") and below(pid)
    ]


def test_a_coordinator_that_dies_too_often_ends_tune_and_the_sweep_goes_on_with_what_is_left(
    tmp_path: Path,
) -> None:
    killed: set[int] = set()

    def kill_all() -> None:
        deadline = time.monotonic() + PATIENCE_S
        while len(killed) <= COORDINATOR_RETRIES and time.monotonic() < deadline:
            time.sleep(0.1)
            for pid in coordinators():
                if pid not in killed and executions(tmp_path / "store"):
                    killed.add(pid)
                    os.kill(pid, signal.SIGKILL)
        (tmp_path / "store" / "go").touch()

    killer = threading.Thread(target=kill_all)
    killer.start()
    lines: list[str] = []
    trials = [
        make_trial(order, oc=Link(label="oc", waits="go"), cam=Probe(label=f"cam {order}"))
        for order in range(2)
    ]
    summary = sweep(tmp_path, *trials, lines=lines)
    killer.join()
    assert summary.well
    (warning,) = (line for line in lines if line.startswith("warning: Ray Tune ended"))
    assert warning.endswith("a coordinator died 4 times; going on with the 2 trials that are left")
    assert trial_statuses(tmp_path, SPEC.name) == {"variant 0": "FINISHED", "variant 1": "FINISHED"}
    assert sorted(executions(tmp_path / "store")) == ["cam 0 0", "cam 1 0", "oc 0"]
