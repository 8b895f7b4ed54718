"""Ctrl-C on the driver of a real sweep: once lets a training reach its checkpoint, twice ends it
now.
"""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient
from processes import Terminal
from safetensors.torch import load_file
from small import SMALL
from waiting import wait_until

from occse.artifacts.execute import execute
from sweeps.progress.status import read_status
from sweeps.spec.trials import load_spec, trials
from sweeps.store.store import Store

PATIENCE_S = 300.0
SWEEP = {
    "name": "stopped",
    "question": "Does it stop and go on?",
    "profile": "embedded",
    "base": SMALL | {"oc.epochs": 60},
    "baseline": {},
    "targets": ["oc"],
    "resources": {"*": {"num_cpus": 1}},
}
CHECKPOINT = "scratch/*/checkpoint.pt"


def write_spec(folder: Path) -> Path:
    """The sweep's file; where its artifacts will be."""
    (folder / "stopped.yaml").write_text(yaml.safe_dump(SWEEP))
    return folder / "runs" / "store"


COMMAND = [sys.executable, "-m", "sweeps", "run", "stopped.yaml", "--num-cpus", "1"]


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}


def start(folder: Path) -> subprocess.Popen[str]:
    # a group of its own, so that the signal reaches all of it, as from a terminal
    return subprocess.Popen(
        COMMAND,
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def training(store: Path) -> bool:
    """True while the classifier is trained: its scratch is there, and its data are."""
    return bool(
        list(store.glob("Pretrain/*/manifest.json")) and list(store.glob("scratch/*/.lock"))
    )


def weights(store: Path) -> Path:
    (path,) = store.glob("TrainClassifier/*/model.safetensors")
    return path


def test_interrupt_once_leaves_a_checkpoint_twice_ends_at_once_and_the_command_goes_on(
    tmp_path: Path,
) -> None:
    store = write_spec(tmp_path)
    once = start(tmp_path)
    wait_until(lambda: training(store), what="a training", process=once)
    os.killpg(once.pid, signal.SIGINT)
    output, _ = once.communicate(timeout=PATIENCE_S)
    assert once.returncode == 130, output
    assert "stopping: nothing more starts" in output
    assert re.search(r"stopped +oc ", output)
    assert "0 of 1 trial done" in output
    assert "2 stages run" in output, "what was finished counts, though its trial did not end"
    assert "-m sweeps run stopped.yaml --num-cpus 1" in output.splitlines()[-1]
    assert list(store.glob(CHECKPOINT))
    assert not list(store.glob("TrainClassifier/*/manifest.json"))

    twice = start(tmp_path)
    wait_until(
        lambda: not list(store.glob("scratch/*/.stop")), what="the stage again", process=twice
    )
    os.killpg(twice.pid, signal.SIGINT)
    os.killpg(twice.pid, signal.SIGINT)
    output, _ = twice.communicate(timeout=PATIENCE_S)
    assert twice.returncode == 130, output

    last = start(tmp_path)
    output, _ = last.communicate(timeout=PATIENCE_S)
    assert last.returncode == 0, output
    (trial,) = trials(load_spec(tmp_path / "stopped.yaml"))
    for node in trial.nodes.values():
        execute(node, root=tmp_path / "whole")
    ours, theirs = load_file(weights(store)), load_file(weights(tmp_path / "whole"))
    assert ours.keys() == theirs.keys()
    assert all(ours[name].equal(theirs[name]) for name in ours)


def statuses(folder: Path) -> list[str]:
    """Of every run in MLflow, the sweep's and the trial's."""
    client = MlflowClient(f"sqlite:///{folder}/runs/mlflow.db")
    return [
        run.info.status
        for run in client.search_runs([client.get_experiment_by_name("stopped").experiment_id])
    ]


@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")  # of MLflow
def test_a_sweep_that_is_terminated_gives_everything_back_and_the_same_command_goes_on(
    tmp_path: Path,
) -> None:
    store = write_spec(tmp_path)
    first = start(tmp_path)
    wait_until(lambda: training(store), what="a training", process=first)
    first.terminate()
    output, _ = first.communicate(timeout=PATIENCE_S)
    assert first.returncode == 130, output
    assert "2 stages run" in output
    assert "stopped; to go on: " in output.splitlines()[-1]
    assert not list(store.glob("leases/*"))
    assert statuses(tmp_path) == ["KILLED", "KILLED"]
    assert [status.state for status in read_status(Store(store))] == ["stopped"]

    second = start(tmp_path)
    output, _ = second.communicate(timeout=PATIENCE_S)
    assert second.returncode == 0, output
    assert "1 stage run, 2 from the store" in output
    assert statuses(tmp_path) == ["FINISHED", "FINISHED"]


@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")  # of MLflow
def test_sweep_whose_terminal_is_closed_gives_everything_back_and_leaves_no_run_running(
    tmp_path: Path,
) -> None:
    store = write_spec(tmp_path)
    with Terminal(COMMAND, folder=tmp_path, environment=environment()) as terminal:
        wait_until(lambda: training(store), what="a training", process=terminal.process)
        terminal.close()
        terminal.process.wait(PATIENCE_S)
    assert statuses(tmp_path) == ["KILLED", "KILLED"], terminal.printed
    assert not list(store.glob("leases/*"))
    assert [status.state for status in read_status(Store(store))] == ["stopped"]
