"""Where MLflow keeps its runs when no server does."""

from pathlib import Path

ARTIFACTS = "mlartifacts"
SCHEME = "sqlite:///"


def database(uri: str) -> Path | None:
    """The file that a tracking URI means, None where it means a server or another database."""
    return Path(uri.removeprefix(SCHEME)) if uri.startswith(SCHEME) else None


def artifacts(database: Path) -> Path:
    """The folder of the runs' files, beside the database: with a relative one MLflow would take the current folder."""
    return database.absolute().parent / ARTIFACTS
