"""Runs of an SQLite database of MLflow, read from its tables.

MLflow's own way through its object mapper takes four times as long and four times the memory for a
sweep of 1,000 trials, and its import alone a second. The tables and columns below are those of
every MLflow since 1.0; a database that lacks one is left to MLflow (`can_read`). What is read is
the same either way: tests/analysis/read/test_sources.py holds the two against each other."""

import math
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

from analysis.read.source.run import KIND_TAG, Kind, Run, Source, SourceError

#: Seconds that a database may stay locked; a program that records holds the lock for some.
PATIENCE_S = 60.0
COLUMNS = {
    "experiments": {"experiment_id", "name", "lifecycle_stage"},
    "runs": {
        "run_uuid", "experiment_id", "status", "lifecycle_stage", "start_time", "artifact_uri",
    },
    "tags": {"run_uuid", "key", "value"},
    "params": {"run_uuid", "key", "value"},
    "latest_metrics": {"run_uuid", "key", "value", "is_nan"},
    "metrics": {"run_uuid", "key", "value", "step", "timestamp", "is_nan"},
}  # fmt: skip
# The folder of artifacts that the platform makes beside the database.
ARTIFACTS = "mlartifacts"
# A server of several workspaces has one database for all of them, and names are unique within each.
WORKSPACE = "workspace"


def can_read(path: Path) -> bool:
    """Tell whether the tables of the database are those that this module knows."""
    with closing(_connect(path)) as database:
        for table, wanted in COLUMNS.items():
            columns = {row[1] for row in database.execute(f"PRAGMA table_info({table})")}
            if not wanted <= columns:
                return False
            if WORKSPACE in columns:
                others = f"SELECT 1 FROM {table} WHERE {WORKSPACE} <> 'default' LIMIT 1"
                if database.execute(others).fetchone():
                    return False
    return True


def has_experiments(path: Path) -> bool:
    """Tell whether the file is a database of MLflow.

    Raises:
        sqlite3.Error: it is locked for a second, damaged, or no database.
    """
    with closing(_connect(path, timeout_s=1.0)) as database:
        tables = database.execute("SELECT 1 FROM sqlite_master WHERE name = 'experiments'")
        return tables.fetchone() is not None


class DatabaseSource:
    """The database file `path`, which nothing here writes to."""

    def __init__(self, path: Path, uri: str) -> None:
        self._path = path
        self._uri = uri

    def experiments(self) -> dict[str, str]:
        """Return the ids of all experiments by name, without deleted ones."""
        with self._reading() as database:
            rows = database.execute(
                "SELECT name, experiment_id FROM experiments WHERE lifecycle_stage = 'active'"
            )
            return {name: str(number) for name, number in rows}

    def runs(self, experiment_id: str, kind: Kind) -> list[Run]:
        """Return the runs of one kind, the newest first."""
        with self._reading() as database:
            # All five statements see one state, though another program may record meanwhile.
            database.execute("BEGIN")
            database.execute(
                "CREATE TEMP TABLE chosen AS SELECT run_uuid, status, start_time FROM runs "
                "JOIN tags USING (run_uuid) WHERE experiment_id = ? AND tags.key = ? "
                "AND tags.value = ? AND lifecycle_stage = 'active'",
                (int(experiment_id), KIND_TAG, kind),
            )
            tags = _texts(database, "tags")
            params = _texts(database, "params")
            metrics = _metrics(database)
            chosen = database.execute(
                "SELECT run_uuid, status FROM chosen ORDER BY start_time DESC, run_uuid"
            ).fetchall()
        return [
            Run(
                run_id=run_id,
                experiment_id=experiment_id,
                status=status,
                tags=tags.get(run_id, {}),
                params=params.get(run_id, {}),
                metrics=metrics.get(run_id, {}),
            )
            for run_id, status in chosen
        ]

    def metrics(self, run_id: str) -> list[str]:
        """Return the names of the metrics of a run."""
        self._location(run_id)  # an unknown run is an error, not one without metrics
        with self._reading() as database:
            rows = database.execute("SELECT key FROM latest_metrics WHERE run_uuid = ?", (run_id,))
            return [key for (key,) in rows]

    def history(self, run_id: str, metric: str) -> list[tuple[int, float]]:
        """Return step and value of every point of a metric, in the order of logging."""
        with self._reading() as database:
            rows = database.execute(
                "SELECT step, value, is_nan FROM metrics WHERE run_uuid = ? AND key = ? "
                "ORDER BY timestamp, step, value",
                (run_id, metric),
            )
            return [(step, math.nan if is_nan else value) for step, value, is_nan in rows]

    def files(self, run_id: str, folder: str) -> list[str]:
        """Return the names of the artifacts in a folder of a run."""
        root = self._root(run_id)
        if root is None:
            return self._server().files(run_id, folder)
        if not (root / folder).is_dir():
            return []
        return sorted(f"{folder}/{path.name}" for path in (root / folder).iterdir())

    @contextmanager
    def file(self, run_id: str, name: str) -> Iterator[Path]:
        """Yield the artifact `name` where it lies."""
        root = self._root(run_id)
        if root is None:
            with self._server().file(run_id, name) as path:
                yield path
            return
        path = root / name
        if not path.is_file():
            raise FileNotFoundError(f"there is no file {path}")
        yield path

    def _root(self, run_id: str) -> Path | None:
        """Return the folder of a run's artifacts; None for one that is not on a disk.

        The database has it as an absolute path. Where the folder of the database was moved, copied
        or shared, the artifacts lie beside the database as before; those of a copy come before
        those of the original.
        """
        root = _folder(self._location(run_id))
        if root is None or ARTIFACTS not in root.parts:
            return root
        # the last one: a folder above may have the same name
        index = len(root.parts) - 1 - root.parts[::-1].index(ARTIFACTS)
        moved = self._path.absolute().parent.joinpath(*root.parts[index:])
        return moved if moved.is_dir() else root

    def _location(self, run_id: str) -> str:
        with self._reading() as database:
            found = database.execute(
                "SELECT artifact_uri FROM runs WHERE run_uuid = ?", (run_id,)
            ).fetchone()
        if found is None:
            raise SourceError(f"Run with id={run_id} not found")
        return str(found[0])

    def _server(self) -> Source:
        # Imported for artifacts on an object store alone: MLflow takes a second.
        from analysis.read.source.server import ServerSource

        return ServerSource(self._uri)

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(_connect(self._path)) as database:
                yield database
        except sqlite3.Error as error:
            raise SourceError(f"the database {self._path} cannot be read: {error}") from error


def _connect(path: Path, *, timeout_s: float = PATIENCE_S) -> sqlite3.Connection:
    # Read-only, so that a look at a database that another program writes never locks it.
    address = f"{path.absolute().as_uri()}?mode=ro"
    database = sqlite3.connect(address, uri=True, timeout=timeout_s)
    database.execute("PRAGMA temp_store = MEMORY")
    return database


def _texts(database: sqlite3.Connection, table: str) -> dict[str, dict[str, str]]:
    """Return key and value by run of the table `tags` or `params`."""
    found: dict[str, dict[str, str]] = {}
    # Most values are those of all trials. Kept once, they take a tenth of the memory.
    known: dict[str, str] = {}
    rows = database.execute(
        f"SELECT run_uuid, key, value FROM {table} JOIN chosen USING (run_uuid)"
    )
    for run_id, key, value in rows:
        own = found.get(run_id)
        if own is None:
            own = found[run_id] = {}
        own[known.setdefault(key, key)] = known.setdefault(value, value)
    return found


def _metrics(database: sqlite3.Connection) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    known: dict[str, str] = {}
    rows = database.execute(
        "SELECT run_uuid, key, value, is_nan FROM latest_metrics JOIN chosen USING (run_uuid)"
    )
    for run_id, key, value, is_nan in rows:
        own = found.setdefault(run_id, {})
        own[known.setdefault(key, key)] = math.nan if is_nan else value
    return found


def _folder(location: str) -> Path | None:
    """Return the folder that an artifact location means; None for one that is not on a disk."""
    address = urlsplit(location)
    if address.scheme == "file":
        return Path(unquote(address.path))
    return None if address.scheme else Path(location)
