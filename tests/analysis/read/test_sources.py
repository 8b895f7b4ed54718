"""Both sources of runs give the same: the database's tables, and MLflow's client."""

import math
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric

import analysis.read.source.server as server
from analysis.read.mlflow import read_experiment
from analysis.read.source.connect import connect, tracking_uri
from analysis.read.source.database import DatabaseSource, can_read
from analysis.read.source.run import Source, SourceError
from analysis.read.source.server import ServerSource

pytestmark = pytest.mark.filterwarnings(
    "ignore:The ``noload`` loader strategy is deprecated:sqlalchemy.exc.SADeprecationWarning"
)

Record = Callable[..., str]
NAME = "two ways"
TEXT = "labels · µ\nof a file"


@pytest.fixture(scope="module")
def run(record: Record, tracking: str) -> str:
    """A run with a curve, a NaN, an infinity and files, beside four others, one deleted."""
    for seed in range(3):
        record(NAME, "oc", seed=seed, metrics={"cam/miou": 0.5 + seed / 8, "cam/iou/cat": 0.1})
    client = MlflowClient(tracking)
    client.delete_run(record(NAME, "deleted", order=2))
    run = record(NAME, "cse λ=1", order=1, status="FAILED", tags={"occse.name.cat": "Katze 'x'"})
    points = [Metric("cgnet/loss", 1 / step, 7 - step, step) for step in (1, 2, 3)]
    client.log_batch(run, [*points, Metric("cgnet/loss", math.nan, 9, 4)])
    client.log_batch(run, [Metric("cam/iou/cat", 0.25, 1, 0), Metric("cam/x", math.inf, 1, 0)])
    client.log_text(run, TEXT, "panels/image 1 µ.txt")
    client.log_text(run, TEXT, "panels/below/other.txt")
    return run


@pytest.fixture
def sources(tracking: str, database: Path) -> tuple[Source, Source]:
    return DatabaseSource(database, tracking), ServerSource(tracking)


def test_database_file_is_read_directly(tracking: str) -> None:
    assert isinstance(connect(tracking), DatabaseSource)
    assert isinstance(connect("http://127.0.0.1:1"), ServerSource)


def test_frames_of_both_sources_are_equal_page_by_page(
    run: str, sources: tuple[Source, Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "PAGE", 2)
    direct, client = (read_experiment(source, NAME, "") for source in sources)
    assert len(direct) == 4
    pd.testing.assert_frame_equal(direct, client)


def test_curves_of_both_sources_are_equal(run: str, sources: tuple[Source, Source]) -> None:
    direct, client = (source.history(run, "cgnet/loss") for source in sources)
    assert [step for step, _ in direct] == [step for step, _ in client] == [3, 2, 1, 4]
    assert direct[:3] == client[:3]
    assert math.isnan(direct[3][1])
    assert sorted(sources[0].metrics(run)) == sorted(sources[1].metrics(run))


def test_files_of_both_sources_are_equal(run: str, sources: tuple[Source, Source]) -> None:
    direct, client = (source.files(run, "panels") for source in sources)
    assert direct == client == ["panels/below", "panels/image 1 µ.txt"]
    assert [source.files(run, "nothing") for source in sources] == [[], []]
    for source in sources:
        with source.file(run, direct[1]) as path:
            assert path.read_text() == TEXT
        with pytest.raises(OSError, match=r"missing\.npz"), source.file(run, "missing.npz"):
            pass
        with pytest.raises(SourceError, match="not found"):
            source.metrics("0" * 32)


def test_password_that_a_printed_command_masks_is_taken_from_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(ValueError, match=r"expected a password instead of \*\*\*"):
        tracking_uri("http://me:***@host")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@host")
    assert tracking_uri("http://me:***@host") == "http://me:secret@host"
    assert tracking_uri("http://me:other@host") == "http://me:other@host"
    with pytest.raises(ValueError, match="http://you"):
        tracking_uri("http://you:***@host")


@pytest.mark.parametrize("change", ["column", "workspace"])
def test_a_database_of_another_schema_is_left_to_mlflow(
    run: str, tracking: str, database: Path, tmp_path: Path, change: str
) -> None:
    experiment = MlflowClient(tracking).get_run(run).info.experiment_id
    copy = tmp_path / "mlflow.db"
    copy.write_bytes(database.read_bytes())
    assert can_read(copy)
    changes = {
        "column": "ALTER TABLE latest_metrics RENAME COLUMN is_nan TO nan",
        "workspace": "UPDATE experiments SET workspace = 'mine' WHERE name = 'two ways'",
    }
    with sqlite3.connect(copy) as connection:
        connection.execute(changes[change])
    connection.close()
    assert not can_read(copy)
    source = connect(f"sqlite:///{copy}")
    assert isinstance(source, ServerSource)
    with pytest.raises(SourceError):
        source.runs(experiment, "trial")


def test_table_of_a_database_imports_no_mlflow(run: str, tracking: str) -> None:
    code = "import sys; from analysis.__main__ import main\n"
    code += f"main(['table', {NAME!r}, '--tracking', {tracking!r}])\n"
    code += "print('mlflow' in sys.modules, 'sqlalchemy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "False False", done.stderr


def test_files_are_found_beside_a_database_that_was_moved(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    client = MlflowClient(f"sqlite:///{old}/mlflow.db")
    location = (old / "mlartifacts" / NAME).as_uri()
    run = client.create_run(client.create_experiment(NAME, location)).info.run_id
    client.log_text(run, TEXT, "panels/one.txt")
    old.rename(new)
    source = DatabaseSource(new / "mlflow.db", f"sqlite:///{new}/mlflow.db")
    assert source.files(run, "panels") == ["panels/one.txt"]
    with source.file(run, "panels/one.txt") as path:
        assert path.read_text() == TEXT
        assert new in path.parents
