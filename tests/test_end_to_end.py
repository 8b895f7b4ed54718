"""The command line from a sweep's file to its table: real stages, a real Ray cluster, a real MLflow
database.
"""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml
from processes import processes
from small import SMALL
from waiting import wait_until

import analysis.read.mlflow

pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")

SWEEP = {
    "name": "small",
    "question": "Does the whole method run?",
    "profile": "embedded",
    "base": SMALL | {"cgnet.epochs": 20},
    "grid": {"cam.source": ["oc", "cgnet"], "cgnet.erasing": ["cse"]},
    "baseline": {"cam.source": "oc"},
    "resources": {"*": {"num_cpus": 1}},
}
STAGES = (
    # 1 data, pretrain, oc and cgnet; 2 of cam, affinity, pseudo, deeplab and seg; 4 of crf: two
    # alphas are equal
    18
)


def run(folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "sweeps", "run", "small.yaml", "--num-cpus", "2"]
    environment = {
        name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"
    }
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    return output


def table(output: str) -> list[str]:
    return [line for line in output.splitlines() if line.startswith("|")]


def write_sweep(folder: Path) -> None:
    folder.mkdir()
    (folder / "small.yaml").write_text(yaml.safe_dump(SWEEP))


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder with a sweep that ran there, and what it printed."""
    folder = tmp_path_factory.mktemp("sweep") / "here"
    write_sweep(folder)
    return folder, finish(run(folder))


def test_a_sweep_runs_every_distinct_stage_once_and_ends_in_its_table(
    first: tuple[Path, str],
) -> None:
    folder, output = first
    assert "2 of 2 trials done in" in output
    assert f"{STAGES} stages run, 0 from the store" in output
    assert len(list((folder / "runs" / "store").glob("[A-Z]*/*/manifest.json"))) == STAGES
    assert len(re.findall(r"^\d\d:\d\d  done ", output, re.MULTILINE)) == STAGES
    assert "OC (baseline)" in output
    trials = analysis.read.mlflow.load("small", tracking=f"sqlite:///{folder}/runs/mlflow.db")
    assert len(trials) == 2
    headings = {
        "cam/miou": "CAM mIoU",
        "crf/miou": "CRF mIoU",
        "pseudo/miou": "Pseudo-label mIoU",
        "seg/miou": "Segmentation mIoU",
    }
    for metric, heading in headings.items():
        assert trials[metric].between(0, 1).all()
        assert heading in output


def test_running_it_again_runs_nothing_and_makes_no_second_run(first: tuple[Path, str]) -> None:
    folder, output = first
    before = analysis.read.mlflow.load("small", tracking=f"sqlite:///{folder}/runs/mlflow.db")
    again = finish(run(folder))
    assert "0 stages run, everything came from the store" in again
    assert table(again) == table(output)
    after = analysis.read.mlflow.load("small", tracking=f"sqlite:///{folder}/runs/mlflow.db")
    assert after.equals(before)


def test_killing_the_worker_of_a_stage_changes_nothing_in_the_table(
    first: tuple[Path, str], tmp_path: Path
) -> None:
    write_sweep(tmp_path / "there")
    process = run(tmp_path / "there")
    killed: list[int] = []

    def kill_when_training() -> None:
        killed.extend(
            wait_until(
                lambda: processes("ray::cgnet:", below=process.pid),
                what="a worker that trains CGNet",
                every_s=0.02,
            )
        )
        # the worker takes the stage's name a moment before the scheduler knows that it has begun
        time.sleep(0.3)
        for pid in killed:
            os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill_when_training)
    killer.start()
    output = finish(process)
    killer.join()
    assert len(killed) == 1
    assert re.search(r"again +cgnet .* its process died", output)
    assert f"{STAGES} stages run, 0 from the store" in output
    assert table(output) == table(first[1])
