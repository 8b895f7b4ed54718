"""Two drivers on one record, each a real process."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from claiming import spec_of
from mlflow import MlflowClient
from probe_stages import Probe, make_trial

from sweeps.tracking.writer import Tracking

pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")


@contextmanager
def driver(uri: str, name: str, alpha: int) -> Iterator["subprocess.Popen[str]"]:
    """A driver that has opened the record; killed without a word at the end."""
    script = Path(__file__).with_name("claiming.py")
    folders = [str(script.parent), str(script.parent.parent), os.environ.get("PYTHONPATH", "")]
    process = subprocess.Popen(
        [sys.executable, str(script), uri, name, str(alpha)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(folders)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def statuses(uri: str, name: str) -> list[str]:
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(name)
    return [run.info.status for run in client.search_runs([experiment.experiment_id])]


def opened(uri: str, name: str, alpha: int) -> Tracking:
    tracking = Tracking(uri, spec=spec_of(name, alpha), source="mine.yaml")
    tracking.open([make_trial(0, data=Probe(label=str(alpha)))])
    return tracking


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/mlflow.db"


def test_live_sweep_keeps_its_name_from_another_file_until_its_driver_is_gone(uri: str) -> None:
    with driver(uri, "clash", 4):
        with pytest.raises(ValueError, match="expected a name that no running sweep has") as found:
            opened(uri, "clash", 8)
        assert "mine.yaml: name: " in str(found.value)
        assert "clash-4.yaml" in str(found.value)
        refused = Tracking(uri, spec=spec_of("clash", 8))
        with pytest.raises(ValueError, match="got 'clash'"):
            refused.open([])
        refused.close(failed=True)
        assert statuses(uri, "clash") == ["RUNNING", "RUNNING"], "the first goes on undisturbed"
        opened(uri, "clash", 4)  # the same trials: two drivers may share them
        opened(uri, "other", 8).close(failed=False)
    opened(uri, "clash", 8).close(failed=False)


def test_next_sweep_ends_the_runs_of_a_driver_that_was_killed_and_of_no_other(uri: str) -> None:
    with driver(uri, "living", 4):
        with driver(uri, "dying", 4):
            pass
        assert statuses(uri, "dying") == ["RUNNING", "RUNNING"]
        opened(uri, "next", 4).close(failed=False)
        assert statuses(uri, "dying") == ["KILLED", "KILLED"]
        assert statuses(uri, "living") == ["RUNNING", "RUNNING"]
    assert set(statuses(uri, "next")) == {"KILLED"}
