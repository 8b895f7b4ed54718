"""Runs written straight into MLflow's database, many in one transaction.

Through MLflow's interface the record of a trial that is in the store takes seven transactions and
40 ms of CPU, of which a sweep of thousands of trials makes minutes. The rows here are those that
the interface writes, which `tests/sweeps/tracking/test_bulk.py` compares. Where runs are behind a
server, or in tables of another form, there is no `BulkWriter`, and the interface takes all."""

import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sweeps.tracking.metrics import note_scores

if TYPE_CHECKING:  # importing it takes a second that other commands do without
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

# The tables of MLflow 3.17 and their columns. In a version that has others a row might mean
# something else, so that nothing is written into them here.
TABLES = {
    "SqlRun": {
        "run_uuid",
        "name",
        "source_type",
        "source_name",
        "entry_point_name",
        "user_id",
        "status",
        "start_time",
        "end_time",
        "deleted_time",
        "source_version",
        "lifecycle_stage",
        "artifact_uri",
        "experiment_id",
    },
    "SqlTag": {"key", "value", "run_uuid"},
    "SqlParam": {"key", "value", "run_uuid"},
    "SqlMetric": {"key", "value", "timestamp", "step", "is_nan", "run_uuid"},
    "SqlLatestMetric": {"key", "value", "timestamp", "step", "is_nan", "run_uuid"},
}
# Runs of one transaction: half a second in which other programs wait for the database, and rows in
# memory that need little beside what a sweep of thousands takes.
TOGETHER = 200
Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class NewRun:
    """Run to be made; its name is the tag `mlflow.runName`.

    Attributes:
        tags: its tags.
        params: its params.
        start_ms: when it started, in milliseconds since 1970; now, where it is not told.
    """

    tags: Mapping[str, str]
    params: Mapping[str, str]
    start_ms: int | None = None


@dataclass(frozen=True, kw_only=True)
class RunEnd:
    """End of a run that has no metrics so far.

    Attributes:
        run: the run.
        tags: those to be set; one without a value is deleted.
        params: those that it shall have; the ones that it has stay.
        metrics: all that it shall have.
        status: `FINISHED` or `FAILED`.
        end_ms: when it ended, in milliseconds since 1970.
    """

    run: "Run"
    tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: "Sequence[Metric]"
    status: str
    end_ms: int


class BulkWriter:
    """Writes runs into the database of a tracking store. Each method is one transaction.

    All raise MlflowException where the database does not answer, as MLflow's client does.

    Args:
        store: MLflow's `SqlAlchemyStore`.
        tables: SQLAlchemy's tables by the names of `TABLES`.
    """

    def __init__(self, store: Any, tables: Mapping[str, Any]) -> None:  # noqa: ANN401
        self._store = store
        self._tables = tables

    def make(self, experiment_id: str, new: Sequence[NewRun]) -> "list[Run]":
        """Make runs with the status RUNNING, and return them in the same order."""
        from mlflow.utils.uri import append_to_uri_path

        location = self._store.get_experiment(experiment_id).artifact_location
        rows = []
        tags: list[Row] = []
        params: list[Row] = []
        now_ms = int(1000 * time.time())
        for run in new:
            run_id = uuid.uuid4().hex
            rows.append(
                {
                    "run_uuid": run_id,
                    "name": run.tags["mlflow.runName"],
                    "source_type": "UNKNOWN",
                    "source_name": "",
                    "entry_point_name": "",
                    "user_id": run.tags.get("mlflow.user", "unknown"),
                    "status": "RUNNING",
                    "start_time": now_ms if run.start_ms is None else run.start_ms,
                    "end_time": None,
                    "deleted_time": None,
                    "source_version": "",
                    "lifecycle_stage": "active",
                    "artifact_uri": append_to_uri_path(  # type: ignore[no-untyped-call]
                        location, run_id, "artifacts"
                    ),
                    "experiment_id": int(experiment_id),
                }
            )
            tags += _pairs(run_id, run.tags)
            params += _pairs(run_id, run.params)
        with self._store.ManagedSessionMaker(read_only=False) as session:
            self._insert(session, "SqlRun", rows)
            self._insert(session, "SqlTag", tags)
            self._insert(session, "SqlParam", params)
        return [_entity(row, run) for row, run in zip(rows, new, strict=True)]

    def start(self, run: "Run", start_ms: int) -> None:
        """Let a run start at `start_ms`, in milliseconds since 1970."""
        runs = self._tables["SqlRun"]
        change = runs.update().where(runs.c.run_uuid == run.info.run_id)
        with self._store.ManagedSessionMaker(read_only=False) as session:
            session.execute(change.values(start_time=start_ms))

    def end(self, ends: Sequence[RunEnd]) -> bool:
        """End runs, with all that they have.

        Returns:
            False where nothing was written, because another program deleted one of the runs, or
            wrote into it.
        """
        from mlflow.exceptions import MlflowException

        try:
            with self._store.ManagedSessionMaker(read_only=False) as session:
                if not self._all_active(session, ends):
                    return False
                self._end(session, ends)
        except MlflowException as error:
            # a row that is there already
            if error.error_code == "BAD_REQUEST":
                return False
            raise
        for each in ends:
            # no more: nothing is written to it again, and there may be thousands
            each.run.data.tags["occse.complete"] = each.tags["occse.complete"]
            note_scores(each.run, each.metrics)
        return True

    def arrange(self, run: "Run", metrics: "Sequence[Metric]") -> None:
        """Let the metrics that a run has stand in the order of `metrics`, and others behind them.

        MLflow's pages show them in the order of their rows, and its page that compares runs opens
        on the first. What came live is that of the first stages.
        """
        from sqlalchemy import select

        table = self._tables["SqlLatestMetric"]
        of_run = table.c.run_uuid == run.info.run_id
        keys = list(dict.fromkeys(metric.key for metric in metrics))
        ranks = {key: rank for rank, key in enumerate(keys)}
        with self._store.ManagedSessionMaker(read_only=False) as session:
            rows = [dict(row) for row in session.execute(select(table).where(of_run)).mappings()]
            ordered = sorted(rows, key=lambda row: ranks.get(row["key"], len(keys)))
            if ordered != rows:
                session.execute(table.delete().where(of_run))
                session.execute(table.insert(), ordered)

    def accepts(
        self, tags: Mapping[str, str], params: Mapping[str, str], metrics: "Sequence[Metric]"
    ) -> bool:
        """Return whether MLflow accepts keys and values; its interface tells what it refuses."""
        from mlflow.entities import Param, RunTag
        from mlflow.exceptions import MlflowException
        from mlflow.utils.validation import _validate_batch_log_data

        told = [RunTag(key, value) for key, value in tags.items()]
        try:
            _, _, valid = _validate_batch_log_data(  # type: ignore[no-untyped-call]
                metrics, [Param(key, value) for key, value in params.items()], told
            )
        except MlflowException:
            return False
        # it may be set to cut what is long
        return [tag.value for tag in valid] == [tag.value for tag in told]

    def _all_active(self, session: Any, ends: Sequence[RunEnd]) -> bool:  # noqa: ANN401
        from sqlalchemy import func, select

        runs = self._tables["SqlRun"]
        ids = [each.run.info.run_id for each in ends]
        found = session.execute(
            select(func.count())
            .select_from(runs)
            .where(runs.c.run_uuid.in_(ids), runs.c.lifecycle_stage == "active")
        )
        return bool(found.scalar() == len(ids))

    def _end(self, session: Any, ends: Sequence[RunEnd]) -> None:  # noqa: ANN401
        from sqlalchemy import bindparam

        params: list[Row] = []
        points: list[Row] = []
        latest: list[Row] = []
        for each in ends:
            known = each.run.data.params
            new = {key: value for key, value in each.params.items() if key not in known}
            params += _pairs(each.run.info.run_id, new)
            rows = list(self._points(each))
            points += rows
            latest += _latest(rows)
        self._set_tags(session, [(each.run, each.tags) for each in ends])
        self._insert(session, "SqlParam", params)
        self._insert(session, "SqlMetric", points)
        self._insert(session, "SqlLatestMetric", latest)
        runs = self._tables["SqlRun"]
        change = runs.update().where(runs.c.run_uuid == bindparam("run_id"))
        session.execute(
            change.values(status=bindparam("new_status"), end_time=bindparam("ended")),
            [
                {"run_id": each.run.info.run_id, "new_status": each.status, "ended": each.end_ms}
                for each in ends
            ],
        )

    def _set_tags(
        self,
        session: Any,  # noqa: ANN401
        tags_of_runs: "Sequence[tuple[Run, Mapping[str, str]]]",
    ) -> None:
        """Set those tags that differ, as `RunEnd.tags` says."""
        tags = self._tables["SqlTag"]
        rows: list[Row] = []
        for run, own in tags_of_runs:
            known = run.data.tags
            changed = {key: value for key, value in own.items() if known.get(key, "") != value}
            old = [key for key in changed if key in known]
            if old:
                session.execute(
                    tags.delete().where(tags.c.run_uuid == run.info.run_id, tags.c.key.in_(old))
                )
            told = {key: value for key, value in changed.items() if value}
            rows += _pairs(run.info.run_id, told)
        self._insert(session, "SqlTag", rows)

    def _points(self, end: RunEnd) -> Iterator[Row]:
        """Yield a row per metric and step; two equal ones are one."""
        seen = set()
        for metric in end.metrics:
            # the database knows no NaN and no infinity
            is_nan, value = self._store.sanitize_metric_value(metric.value)
            point = (metric.key, metric.timestamp, metric.step, value, is_nan)
            if point not in seen:
                seen.add(point)
                yield {
                    "key": metric.key,
                    "value": value,
                    "timestamp": metric.timestamp,
                    "step": metric.step,
                    "is_nan": is_nan,
                    "run_uuid": end.run.info.run_id,
                }

    def _insert(self, session: Any, table: str, rows: Sequence[Row]) -> None:  # noqa: ANN401
        if rows:
            session.execute(self._tables[table].insert(), rows)


def bulk_writer(client: "MlflowClient") -> BulkWriter | None:
    """Return a writer into the database that a client has open.

    None where it talks to a server, or to a version of MLflow with other tables.
    """
    from mlflow.store.tracking import sqlalchemy_store
    from mlflow.store.tracking.dbmodels import models

    tracking = getattr(client, "_tracking_client", None)
    store = getattr(tracking, "store", None)
    # not a subclass: that of workspaces has rules of its own for what may be written
    if type(store) is not sqlalchemy_store.SqlAlchemyStore:
        return None
    tables = {}
    for name, columns in TABLES.items():
        table = getattr(getattr(models, name, None), "__table__", None)
        if table is None or {column.name for column in table.columns} != columns:
            return None
        tables[name] = table
    return BulkWriter(store, tables)


def _pairs(run_id: str, values: Mapping[str, str]) -> list[Row]:
    return [{"run_uuid": run_id, "key": key, "value": value} for key, value in values.items()]


def _latest(points: Sequence[Row]) -> list[Row]:
    """Return the last point of each metric."""
    last: dict[str, Row] = {}
    for point in points:
        known = last.get(point["key"])
        if known is None or _moment(point) > _moment(known):
            last[point["key"]] = point
    return list(last.values())


def _moment(point: Row) -> tuple[int, int, float]:
    """Return the order of the points of a metric; MLflow, too, takes the larger value last."""
    return point["step"], point["timestamp"], point["value"]


def _entity(row: Row, run: NewRun) -> "Run":
    from mlflow.entities import Param, Run, RunData, RunInfo, RunTag

    info = RunInfo(
        run_id=row["run_uuid"],
        run_name=row["name"],
        experiment_id=str(row["experiment_id"]),
        user_id=row["user_id"],
        status=row["status"],
        start_time=row["start_time"],
        end_time=None,
        lifecycle_stage=row["lifecycle_stage"],
        artifact_uri=row["artifact_uri"],
    )
    tags = [RunTag(key, value) for key, value in run.tags.items()]
    params = [Param(key, value) for key, value in run.params.items()]
    return Run(info, RunData(params=params, tags=tags))
