"""Runs as every source gives them, and the questions that a source answers."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

#: Value of the tag `occse.kind`: the sweep's own run, or the run of one trial.
Kind = Literal["sweep", "trial"]
KIND_TAG = "occse.kind"


class SourceError(ConnectionError):
    """The source does not answer, or does not have a run; the text is its own first line."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run that is not deleted.

    Attributes:
        status: RUNNING, FINISHED, FAILED, KILLED or SCHEDULED.
        metrics: the last value of each.
    """

    run_id: str
    experiment_id: str
    status: str
    tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: Mapping[str, float]


class Source(Protocol):
    """MLflow, as far as an analysis reads it. Every method may raise `SourceError`."""

    def experiments(self) -> dict[str, str]:
        """Return the ids of all experiments by name, without deleted ones."""

    def runs(self, experiment_id: str, kind: Kind) -> list[Run]:
        """Return the runs of one kind, the newest first."""

    def metrics(self, run_id: str) -> list[str]:
        """Return the names of the metrics of a run."""

    def history(self, run_id: str, metric: str) -> list[tuple[int, float]]:
        """Return step and value of every point of a metric, in the order of logging."""

    def files(self, run_id: str, folder: str) -> list[str]:
        """Return the names of the artifacts in a folder of a run, below the run's own folder."""

    def file(self, run_id: str, name: str) -> AbstractContextManager[Path]:
        """Return a context with the artifact `name` as a file that nobody may change.

        Raises:
            OSError: the run has no such artifact.
        """
