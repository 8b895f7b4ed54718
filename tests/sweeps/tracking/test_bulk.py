"""Runs that were written into the database at once, against those that MLflow's interface wrote."""

import json
import math
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.store.tracking.dbmodels import models
from probe_stages import Probe, Scored, make_trial

from occse.artifacts.execute import execute
from occse.stage import Context
from sweeps.driver.recorder import Recorder
from sweeps.spec.model import Spec
from sweeps.spec.trials import Trial
from sweeps.store.store import Store
from sweeps.tracking import bulk, writer
from sweeps.tracking.database import connect
from sweeps.tracking.live import LiveMetrics
from sweeps.tracking.tags import Record
from sweeps.tracking.writer import Tracking

pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")
SPEC = Spec(name="bulk", question="Are the rows the same?", baseline={})
TABLES = ("tags", "params", "metrics", "latest_metrics")
# Columns that a run has of its own, whoever writes it.
OWN = {"run_uuid", "artifact_uri", "start_time", "end_time"}


class Curved(Probe):
    """A probe with a curve that is not a number in between."""

    def run(self, ctx: Context) -> dict[str, float]:
        super().run(ctx)
        losses = (2.0, math.nan, math.inf, 2.0)
        points = [{"step": step, "loss": loss} for step, loss in enumerate(losses, start=1)]
        (ctx.output / "curves.json").write_text(json.dumps(points))
        return {"miou": 0.25, "loss": 2.0}


def trial_of(order: int) -> Trial:
    return make_trial(
        order, data=Scored(label="data"), cam=Curved(label=f"cam {order}", upstream=("data",))
    )


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, list[Record]]:
    """Three trials: done, failed, and stopped by a gate."""
    store = Store(tmp_path_factory.mktemp("store"))
    found = []
    for order in range(3):
        trial = trial_of(order)
        manifests = {field: execute(node, root=store.root) for field, node in trial.nodes.items()}
        found.append(Record(trial=trial, manifests=manifests, reused=frozenset({"data"})))
    done, failed, stopped = found
    failed = replace(failed, failed={"cam": "it was told to"})
    return store, [done, failed, replace(stopped, stopped=("cam", "it is not among the best"))]


def database_of(folder: Path, records: tuple[Store, list[Record]], *, before: bool = False) -> Path:
    """Record trials together, or `before` they are recorded with MLflow's interface."""
    store, ended = records
    path = folder / "mlflow.db"
    tracking = Tracking(f"sqlite:///{path}", spec=SPEC)
    tracking.open([record.trial for record in ended])
    tracking.log_together(ended, store=store)
    if before:
        for record in ended:
            tracking.log(record, store=store)
    tracking.close(failed=True)
    return path


def rows_of(path: Path, table: str) -> list[list[tuple[str, object]]]:
    """Return the rows of a table, with the trial in place of the run."""
    with closing(sqlite3.connect(path)) as connection:
        query = "SELECT run_uuid, value FROM tags WHERE key = 'occse.variant'"
        trials = dict(map(tuple, connection.execute(query)))
        cursor = connection.execute(f"SELECT * FROM {table}")
        columns = [column[0] for column in cursor.description]
        rows = [dict(zip(columns, row, strict=True)) for row in cursor]
    found = []
    for row in rows:
        if row["run_uuid"] in trials:
            ignored = OWN | {"value"} if row.get("key") == "mlflow.parentRunId" else OWN
            values = [(key, value) for key, value in row.items() if key not in ignored]
            found.append([("trial", trials[row["run_uuid"]]), *values])
    return sorted(found, key=repr)


def test_bulk_rows_and_files_are_those_of_mlflows_interface(
    records: tuple[Store, list[Record]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = database_of(tmp_path / "at once", records)
    monkeypatch.setattr(writer, "bulk_writer", lambda client: None)
    one_by_one = database_of(tmp_path / "one by one", records, before=True)
    for table in TABLES:
        rows = rows_of(at_once, table)
        assert rows == rows_of(one_by_one, table)
        assert table == "params" or len(rows) > 6
    assert len(rows_of(at_once, "runs")) == 3
    ends = rows_of(at_once, "runs")
    assert ends == rows_of(one_by_one, "runs")
    assert [dict(run)["status"] for run in ends] == ["FINISHED", "FAILED", "FINISHED"]
    files = [
        sorted((path.name, path.read_bytes()) for path in path.parent.rglob("config.yaml"))
        for path in (at_once, one_by_one)
    ]
    assert files[0] == files[1]
    assert len(files[0]) == 3


def test_bulk_leaves_a_run_that_was_deleted_to_the_interface_and_records_the_others(
    records: tuple[Store, list[Record]], tmp_path: Path
) -> None:
    store, ended = records
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    tracking = Tracking(uri, spec=SPEC)
    trials = [record.trial for record in ended]
    tracking.open(trials)
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(SPEC.name)
    assert experiment is not None
    (gone,) = client.search_runs([experiment.experiment_id], "tags.`occse.order` = '0'")
    client.delete_run(gone.info.run_id)
    lines: list[str] = []
    recorder = Recorder(store=store, live=LiveMetrics(store), tracking=tracking, say=lines.append)
    recorder.expect(trials)
    with recorder.together():
        for trial in trials:
            recorder.end(trial, {}, None)
            assert not lines
    summary = recorder.close()
    assert list(summary.refused) == [trials[0].name]
    runs = client.search_runs([experiment.experiment_id], "tags.`occse.kind` = 'trial'")
    assert sorted(run.data.tags["occse.complete"] for run in runs) == sorted(
        trial.identity for trial in trials[1:]
    )
    points = client.get_metric_history(runs[0].info.run_id, "cam/loss")
    assert [point.step for point in points] == [1, 2, 3, 4], "each once, though it was tried twice"


def test_bulk_writes_nothing_into_tables_that_it_does_not_know(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = connect(f"sqlite:///{tmp_path}/mlflow.db", create=True)
    assert bulk.bulk_writer(client) is not None, "the installed MLflow has other tables"
    monkeypatch.setitem(bulk.TABLES, "SqlTag", {"key", "value"})
    assert bulk.bulk_writer(client) is None
    monkeypatch.undo()
    monkeypatch.delattr(models, "SqlParam")
    assert bulk.bulk_writer(client) is None
    assert bulk.bulk_writer(MlflowClient("http://127.0.0.1:1")) is None
