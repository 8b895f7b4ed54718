"""Location of MLflow's runs: the URI, the database where no server has it, and the experiment."""

import fcntl
import logging
import os
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from occse.artifacts.secrets import masked

if TYPE_CHECKING:  # importing it takes a second that `plan` does without
    from mlflow import MlflowClient

ARTIFACTS = "mlartifacts"
SCHEME = "sqlite:///"
# What MLflow takes; a plain path would silently become a folder of files.
SCHEMES = ("http", "https", "sqlite", "postgresql", "mysql", "mssql")
# Another program holds the lock of a database for seconds when it records; one that holds it for
# longer hangs, or is a browser of databases with an open transaction.
PATIENCE_S = 60.0
# A person who waits wants to know why within seconds.
FIRST_WORD_S = 2.0
# Often enough to show that it still waits.
TELL_EVERY_S = 10.0


def database(uri: str) -> Path | None:
    """Return the file that a tracking URI means; None for a server or another database."""
    if not uri.startswith(SCHEME):
        return None
    # SQLAlchemy's arguments stand behind the file, as in sqlite:///runs/mlflow.db?timeout=60
    return Path(uri.removeprefix(SCHEME).partition("?")[0])


def place(uri: str) -> str:
    """Return a tracking URI as every process on this machine would name the same records.

    Without user, password and arguments, and with the whole path of a file: for people, and to tell
    sweeps of one name apart.
    """
    path = database(uri)
    if path is not None:
        return f"{SCHEME}{path.absolute()}"
    # masked first: a password may hold any of the signs that parts are told by
    scheme, separator, rest = masked(uri).partition("://")
    server = rest.partition("?")[0].rpartition("@")[2]
    return f"{scheme}{separator}{server}".rstrip("/")


def artifacts(database: Path) -> Path:
    """Return the folder of the runs' files, beside the database.

    MLflow would take a relative folder for one below the current folder.
    """
    return database.absolute().parent / ARTIFACTS


def local_folder(location: str) -> Path | None:
    """Return the folder on this machine that a file URI means; None for any other location."""
    address = urlsplit(location)
    return Path(unquote(address.path)) if address.scheme == "file" else None


def check_uri(uri: str) -> str:
    """Return a tracking URI as it is.

    Raises:
        ValueError: MLflow keeps no runs at such a URI.
    """
    scheme, colon, _ = uri.partition("://")
    if not colon or scheme.partition("+")[0] not in SCHEMES:
        raise ValueError(
            f"MLflow at {masked(uri)}: expected a URI such as sqlite:///runs/mlflow.db or "
            f"http://127.0.0.1:5000 (one of {', '.join(SCHEMES)})"
        )
    if scheme.startswith("sqlite") and database(uri) in (None, Path()):
        raise ValueError(
            f"MLflow at {masked(uri)}: expected a file, as in sqlite:///runs/mlflow.db, or "
            "sqlite:////home/me/mlflow.db for an absolute path"
        )
    return uri


def connect(uri: str, *, create: bool, say: Callable[[str], None] | None = None) -> "MlflowClient":
    """Return a client of MLflow, once its database exists and no other program locks it.

    Args:
        uri: where MLflow keeps its runs.
        create: whether to make a database file that does not exist.
        say: takes lines for people while another program holds the lock; by default they go to the
            standard error.

    Raises:
        ValueError: `uri` is none of MLflow's, or there is no such file.
        ConnectionError: the file is not a database, or it stays locked.
    """
    from mlflow import MlflowClient

    path = database(check_uri(uri))
    for name in ("alembic", "mlflow"):
        # hundreds of migration lines on a new database
        logging.getLogger(name).setLevel(logging.ERROR)
    if path is not None:
        if not create and not path.exists():
            raise ValueError(
                f"MLflow at {masked(uri)}: there is no such file; expected the database of a sweep"
            )
        _prepare(path, uri, say or _tell)
    return MlflowClient(tracking_uri=uri)


def experiment_id(client: "MlflowClient", name: str, *, uri: str) -> str:
    """Return the id of an experiment, which is made where there is none.

    Raises:
        ValueError: it was deleted in MLflow, or its name cannot be one.
    """
    check_experiment(name)
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        return _make_experiment(client, name, uri=uri)
    if experiment.lifecycle_stage == "deleted":
        command = f"mlflow experiments restore --experiment-id {experiment.experiment_id}"
        raise ValueError(
            f"the experiment {name!r} was deleted at {masked(uri)}; expected one that is not. "
            f"Restore it (`MLFLOW_TRACKING_URI={masked(uri)} {command}`), or give the sweep "
            "another name"
        )
    return str(experiment.experiment_id)


def _make_experiment(client: "MlflowClient", name: str, *, uri: str) -> str:
    from mlflow.exceptions import MlflowException

    path = database(uri)
    location = (artifacts(path) / name).as_uri() if path else None
    try:
        return str(client.create_experiment(name, artifact_location=location))
    except MlflowException as error:
        experiment = client.get_experiment_by_name(name)
        # another sweep of this name may have made it since it was looked for
        if error.error_code != "RESOURCE_ALREADY_EXISTS" or experiment is None:
            raise
        return str(experiment.experiment_id)


def adopt(path: Path) -> int:
    """Point the runs of a database at the artifacts beside it, and return how many were changed.

    MLflow keeps absolute locations. Those whose files lie beside the database, because its folder
    was moved or copied, are rewritten; all others are left alone. A copy must not read and write
    the files of the original, so it does not matter whether these are still there.

    Raises:
        ValueError: the file is not a database of MLflow, or it cannot be written.
    """
    here = artifacts(path)
    changed = 0
    try:
        with closing(sqlite3.connect(path, timeout=PATIENCE_S)) as connection, connection:
            for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
                locations = connection.execute(f"SELECT DISTINCT {column} FROM {table}").fetchall()
                for (location,) in locations:
                    moved = _moved(location or "", here)
                    if moved is None:
                        continue
                    done = connection.execute(
                        f"UPDATE {table} SET {column} = ? WHERE {column} = ?", (moved, location)
                    )
                    if table == "runs":
                        changed += done.rowcount
    except sqlite3.Error as error:
        raise ValueError(
            f"{path}: expected a database of MLflow that can be written: {error}"
        ) from error
    return changed


def _moved(location: str, here: Path) -> str | None:
    """Return where an artifact folder of `location` is in `here`, if it is there and not told."""
    address = urlsplit(location)
    if address.scheme not in ("", "file"):
        return None
    folder = Path(unquote(address.path))
    if ARTIFACTS not in folder.parts:
        return None
    # the last one: a folder above may have the same name
    index = len(folder.parts) - 1 - folder.parts[::-1].index(ARTIFACTS)
    moved = here.joinpath(*folder.parts[index + 1 :])
    return moved.as_uri() if moved.is_dir() and moved != folder else None


def check_experiment(name: str) -> None:
    """Refuse the name of an experiment that would leave the folder of its files.

    Raises:
        ValueError: it is one.
    """
    outside = name in ("", ".", "..") or "/" in name or "\\" in name
    if outside or not name.isprintable():
        raise ValueError(
            f"experiment {name!r}: expected a name of printable characters without / and \\, "
            "that is not . or .."
        )


def _prepare(path: Path, uri: str, say: Callable[[str], None]) -> None:
    """Make the tables of a new database, and wait until no other program writes to it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    patience = _Patience(f"MLflow at {masked(uri)}", say)
    # Two processes that make the tables at once break each other's migration: one of them does,
    # the others wait. The lock ends with the process that holds it.
    with _alone(path, patience):
        if not _has_tables(path, patience):
            from mlflow.tracking import MlflowClient

            MlflowClient(tracking_uri=uri).search_experiments(max_results=1)


class _Patience:
    """Waits for a lock, tells why, and gives up after `PATIENCE_S` with a remedy."""

    def __init__(self, subject: str, say: Callable[[str], None]) -> None:
        self._subject = subject
        self._say = say
        self._start = time.monotonic()
        self._next_word = FIRST_WORD_S

    def wait(self, why: str, *, path: Path) -> None:
        waited = time.monotonic() - self._start
        if waited > PATIENCE_S:
            raise ConnectionError(
                f"{self._subject}: {why} for {waited:.0f} s; end that program (`fuser {path}` "
                "names it), or let all of them record through one server: `python -m sweeps "
                "mlflow` and --tracking http://127.0.0.1:5000"
            )
        if waited > self._next_word:
            self._next_word = waited + TELL_EVERY_S
            self._say(f"{self._subject}: {why}; waiting, {waited:.0f} of {PATIENCE_S:.0f} s")
        time.sleep(0.1)


@contextmanager
def _alone(path: Path, patience: _Patience) -> Iterator[None]:
    try:
        lock = os.open(path.with_name(f".{path.name}.lock"), os.O_CREAT | os.O_RDWR, 0o666)
    except OSError:
        # a folder that may only be read: its database has its tables, or never gets them
        yield
        return
    try:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                patience.wait("another program prepares the database", path=path)
            except OSError:
                break  # a file system without locks
        yield
    finally:
        os.close(lock)


def _has_tables(path: Path, patience: _Patience) -> bool:
    """Tell whether MLflow's tables are there, once the database can be read and written."""
    if not path.exists():
        return False
    while True:
        try:
            # by its path: a name with ? or % would be taken apart in a URI
            with closing(sqlite3.connect(path, timeout=1.0, isolation_level=None)) as connection:
                if os.access(path, os.W_OK):
                    # the lock that a writer needs, given back at once
                    connection.execute("BEGIN IMMEDIATE")
                    connection.execute("ROLLBACK")
                tables = connection.execute(
                    "SELECT name FROM sqlite_master WHERE name = 'alembic_version'"
                ).fetchall()
                if not tables:
                    return False
                return bool(connection.execute("SELECT * FROM alembic_version").fetchall())
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                raise ConnectionError(f"MLflow at {path}: {error}") from error
            patience.wait("the database is locked by another program", path=path)
        except sqlite3.DatabaseError as error:
            raise ValueError(
                f"MLflow at {path}: expected an SQLite database, got another file ({error}); "
                "give another --tracking, or move the file away"
            ) from error


def _tell(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
