"""The database of MLflow's runs: made by one of many, locked by another program, or none at all."""

import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from mlflow import MlflowClient

from sweeps.__main__ import main
from sweeps.tracking import database
from sweeps.tracking.database import check_experiment, connect, experiment_id

pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")
OPEN = """
import sys, time
from sweeps.tracking.database import connect, experiment_id
time.sleep(max(0.0, float(sys.argv[2]) - time.time()))
client = connect(sys.argv[1], create=True)
print(experiment_id(client, "sweep", uri=sys.argv[1]))
"""
NUM_PROCESSES = 4


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with MLflow's tables and a sweep."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    uri = f"sqlite:///{path}"
    experiment_id(connect(uri, create=True), "sweep", uri=uri)
    return path


def lock(path: Path) -> sqlite3.Connection:
    """A writer that holds the lock of the database until it is closed."""
    writer = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
    writer.execute("BEGIN EXCLUSIVE")
    return writer


def test_database_that_several_processes_start_at_once_is_made_by_one(tmp_path: Path) -> None:
    uri, start = f"sqlite:///{tmp_path}/new/mlflow.db", time.time() + 12
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", OPEN, uri, str(start)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # MLflow's own lock lies in the folder of temporary files, which jobs do not share
            env=os.environ | {"TMPDIR": str(tmp_path)},
        )
        for _ in range(NUM_PROCESSES)
    ]
    answers = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0] * NUM_PROCESSES, answers
    assert len({out for out, _ in answers}) == 1, "all of them have one experiment"


def test_database_that_is_locked_for_a_moment_is_waited_for_with_progress(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "FIRST_WORD_S", 0.5)
    lines: list[str] = []
    with closing(lock(path)) as writer:
        threading.Timer(3, writer.rollback).start()
        client = connect(f"sqlite:///{path}", create=False, say=lines.append)
        assert client.get_experiment_by_name("sweep") is not None
        time.sleep(0.1)
    assert "the database is locked by another program; waiting" in lines[0]


@pytest.mark.parametrize("command", [["reproduce", "sweep/trial"], ["store", "gc"]])
def test_database_that_stays_locked_is_told_with_its_remedy(
    command: list[str],
    path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(database, "PATIENCE_S", 1.5)
    with closing(lock(path)):
        uri = f"sqlite:///{path}?timeout=60"
        assert main([*command, "--store", str(tmp_path / "store"), "--tracking", uri]) == 1
    message = capsys.readouterr().err
    assert "the database is locked by another program for" in message
    assert f"fuser {path}" in message
    assert "python -m sweeps mlflow" in message


def test_database_uri_may_have_arguments_in_every_command(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = f"sqlite:///{path}?timeout=60"
    store = ["--store", str(tmp_path / "store")]
    assert main(["store", "gc", *store, "--tracking", uri]) == 0
    assert main(["reproduce", "sweep/none", *store, "--tracking", uri]) == 2
    assert "0 trials of 'sweep' are called 'none'" in capsys.readouterr().err
    table = tmp_path / "old.csv"
    table.write_text("variant,seed,cam/miou\nours,0,0.5\n")
    imported = ["import", "old", str(table), "--unit", "fraction", "--tracking", uri]
    assert main(imported) == 0
    experiment = MlflowClient(f"sqlite:///{path}").get_experiment_by_name("old")
    assert experiment is not None
    assert experiment.artifact_location == (path.parent / "mlartifacts" / "old").as_uri()


def test_database_that_is_another_file_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mlflow.db"
    path.write_text("name,score\n" * 100)
    assert main(["store", "gc", "--tracking", f"sqlite:///{path}"]) == 2
    assert f"MLflow at {path}: expected an SQLite database, got another file" in (
        capsys.readouterr().err
    )


def test_experiment_that_was_deleted_is_told_with_the_way_to_restore_it(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    client = connect(uri, create=True)
    deleted = experiment_id(client, "sweep", uri=uri)
    client.delete_experiment(deleted)
    with pytest.raises(ValueError, match="was deleted at") as caught:
        experiment_id(client, "sweep", uri=uri)
    command = str(caught.value).split("`")[1]
    program = str(Path(sys.executable).parent / "mlflow")
    subprocess.run(command.replace(" mlflow ", f" {program} "), shell=True, check=True)
    assert experiment_id(client, "sweep", uri=uri) == deleted


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b", "a\nb", "\x1b[2J"])
def test_experiment_name_that_leaves_its_folder_or_reaches_the_terminal_is_refused(
    name: str,
) -> None:
    with pytest.raises(ValueError, match="expected a name of printable characters"):
        check_experiment(name)


def test_artifacts_of_a_database_that_was_moved_are_adopted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    uri = f"sqlite:///{old}/mlflow.db"
    client = connect(uri, create=True)
    run = client.create_run(experiment_id(client, "sweep", uri=uri)).info.run_id
    client.log_text(run, "there", "file.txt")
    old.rename(new)
    moved = f"sqlite:///{new}/mlflow.db"
    assert main(["store", "adopt", "--tracking", moved]) == 0
    assert "1 run changed: MLflow now has the files in" in capsys.readouterr().out
    client = MlflowClient(moved)
    assert Path(client.download_artifacts(run, "file.txt")).read_text() == "there"
    # MLflow remembers where the files of a run go, so another run tells where new ones go
    more = client.create_run(experiment_id(client, "sweep", uri=moved)).info.run_id
    client.log_text(more, "more", "more.txt")
    assert not old.exists(), "new files go to the new place"
    assert main(["store", "adopt", "--tracking", moved]) == 0
    assert "nothing to change" in capsys.readouterr().out
    copy = tmp_path / "copy"
    shutil.copytree(new, copy)
    assert main(["store", "adopt", "--tracking", f"sqlite:///{copy}/mlflow.db"]) == 0
    assert "2 runs changed" in capsys.readouterr().out
    client = MlflowClient(f"sqlite:///{copy}/mlflow.db")
    assert str(copy) in client.get_run(run).info.artifact_uri, "not the original, which is there"
