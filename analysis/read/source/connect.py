"""The source that an address means."""

import os
import sqlite3
import sys
import time
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit

from analysis.read.secrets import MASK, masked
from analysis.read.source.database import PATIENCE_S, DatabaseSource, can_read, has_experiments
from analysis.read.source.run import Source, SourceError

TRACKING_URI = "MLFLOW_TRACKING_URI"
DEFAULT_TRACKING = "sqlite:///runs/mlflow.db"
PLAIN_SQLITE = "sqlite:///"
# Servers and databases of MLflow; it keeps no runs in plain folders any more.
SCHEMES = ("http", "https", "sqlite", "postgresql", "mysql", "mssql")
#: Seconds after which a person wants to know why nothing happens.
TELL_EVERY_S = 5.0


def connect(tracking: str | None) -> Source:
    """Return MLflow as `analysis.read.mlflow.load` reads it.

    Raises:
        ValueError: it is not a URI of a server or a database, or there is no such database.
        ConnectionError: the database stays locked.
    """
    # A relative path means another file in another folder.
    return _connect(tracking_uri(tracking), Path.cwd())


def tracking_uri(given: str | None) -> str:
    """Return the address of MLflow's runs: `given`, else MLFLOW_TRACKING_URI, else
    sqlite:///runs/mlflow.db.

    Raises:
        ValueError: `given` has `***` for its password, as printed commands have, and the
            environment does not have the same address with it.
    """
    environment = os.environ.get(TRACKING_URI, "")
    if given and MASK in given and given == masked(given):
        if masked(environment) != given:
            raise ValueError(
                f"--tracking {given}: expected a password instead of {MASK}, or the same URI with "
                f"its password in the environment variable {TRACKING_URI}"
            )
        return environment
    return given or environment or DEFAULT_TRACKING


def server_address(tracking: str | None) -> str:
    """Return the address of the tracking server's pages; empty for a database."""
    return page_address(tracking_uri(tracking))


def page_address(url: str) -> str:
    """Return an address for links; empty for what no browser opens.

    A page that is passed on must not hold the user and the password of the address.
    """
    address = urlsplit(url)
    if address.scheme not in ("http", "https"):
        return ""
    return address._replace(netloc=address.netloc.rpartition("@")[2]).geturl().rstrip("/")


# A report asks for thousands of files, and each look at the database before would take its time.
@lru_cache(maxsize=1)
def _connect(uri: str, folder: Path) -> Source:
    scheme, separator, _ = uri.partition("://")
    # `+` stands before the driver of a database, as in mysql+pymysql://
    if not separator or scheme.partition("+")[0] not in SCHEMES:
        raise ValueError(
            f"--tracking {masked(uri)}: expected a URI such as {DEFAULT_TRACKING} or "
            f"http://127.0.0.1:5000 (one of {', '.join(SCHEMES)})"
        )
    path = _database(uri)
    if path is not None:
        _check(path, uri)
    if path is not None and uri.startswith(PLAIN_SQLITE):
        try:
            is_known = can_read(path)
        except sqlite3.Error as error:
            raise SourceError(f"the database {path} cannot be read: {error}") from None
        if is_known:
            return DatabaseSource(folder / path, uri)
    # Imported where MLflow is needed alone: it takes a second.
    from analysis.read.source.server import ServerSource

    return ServerSource(uri)


def _database(uri: str) -> Path | None:
    """Return the file of an SQLite database; None for anything else."""
    scheme, separator, location = uri.partition(":///")
    if not separator or not scheme.startswith("sqlite"):
        return None
    # SQLAlchemy's arguments stand behind the file, as in sqlite:///runs/mlflow.db?timeout=60
    return Path(location.partition("?")[0])


def _check(path: Path, uri: str) -> None:
    """Refuse what is not an MLflow database, since MLflow would make one of it."""
    if not path.is_file():
        raise ValueError(
            f"there is no database {path} (tracking {uri}); run a sweep first, or name another "
            "--tracking"
        )
    start = time.monotonic()
    told_s = 0.0
    while True:
        try:
            if not has_experiments(path):
                raise ValueError(f"{path} is not a database of MLflow: it has no experiments")
            return
        except sqlite3.OperationalError as error:
            # a program that records holds the lock for seconds; another error is lasting
            waited_s = time.monotonic() - start
            if "locked" not in str(error):
                raise ConnectionError(f"the database {path} cannot be read: {error}") from None
            if waited_s > PATIENCE_S:
                raise ConnectionError(
                    f"the database {path} is locked by another program for {waited_s:.0f} s; end "
                    f"that program (`fuser {path}` names it), or read through a server that all "
                    "use: `python -m sweeps mlflow` and --tracking http://127.0.0.1:5000"
                ) from None
            if waited_s - told_s > TELL_EVERY_S:
                told_s = waited_s
                sys.stderr.write(f"waiting for the database {path}: another program locks it\n")
        except sqlite3.DatabaseError as error:
            raise ValueError(f"{path} is not a database of MLflow: {error}") from None
