"""Where MLflow keeps its runs: the database when no server does, and the experiment."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # importing it takes a second that `plan` does without
    from mlflow import MlflowClient

ARTIFACTS = "mlartifacts"
SCHEME = "sqlite:///"


def database(uri: str) -> Path | None:
    """The file that a tracking URI means, None where it means a server or another database."""
    return Path(uri.removeprefix(SCHEME)) if uri.startswith(SCHEME) else None


def artifacts(database: Path) -> Path:
    """The folder of the runs' files, beside the database: with a relative one MLflow would take the
    current folder.
    """
    return database.absolute().parent / ARTIFACTS


def prepare(uri: str) -> None:
    """Make the folder of the database that MLflow will make, where `uri` means one, and let it be
    made quietly.
    """
    for name in ("alembic", "mlflow"):
        # hundreds of migration lines on a new database
        logging.getLogger(name).setLevel(logging.ERROR)
    if (path := database(uri)) is not None:
        path.parent.mkdir(parents=True, exist_ok=True)


def experiment_id(client: "MlflowClient", name: str, *, uri: str) -> str:
    """The id of an experiment, which is made where there is none.

    Raises:
        ValueError: it was deleted in MLflow.
    """
    found = client.get_experiment_by_name(name)
    if found is not None and found.lifecycle_stage == "deleted":
        raise ValueError(
            f"experiment {name!r} was deleted in MLflow; restore it there or take another name"
        )
    if found is not None:
        return str(found.experiment_id)
    path = database(uri)
    return str(
        client.create_experiment(
            name, artifact_location=(artifacts(path) / name).as_uri() if path else None
        )
    )
