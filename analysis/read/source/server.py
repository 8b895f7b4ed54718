"""Runs of a tracking server, through MLflow's client; it takes a second to import."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from mlflow import MlflowClient
from mlflow.entities import Experiment
from mlflow.entities import Run as MlflowRun
from mlflow.exceptions import MlflowException
from mlflow.store.entities import PagedList
from mlflow.utils import get_results_from_paginated_fn
from requests.exceptions import RequestException
from sqlalchemy.exc import SQLAlchemyError

from analysis.read.secrets import masked
from analysis.read.source.run import KIND_TAG, Kind, Run, SourceError

#: Runs that MLflow is asked for at once; a server allows up to 50,000.
PAGE = 1000
Found = TypeVar("Found")


class ServerSource:
    """A tracking server, or a database that MLflow alone can read, at `uri`."""

    def __init__(self, uri: str) -> None:
        self._uri = uri

    @cached_property
    def _client(self) -> MlflowClient:
        # Made with the first question, which turns its errors into ours.
        return MlflowClient(self._uri)

    def experiments(self) -> dict[str, str]:
        """Return the ids of all experiments by name, without deleted ones."""

        def page(number: int, token: str | None) -> PagedList[Experiment]:
            return self._client.search_experiments(max_results=number, page_token=token)

        with _answering():
            found = _all(page)
        return {experiment.name: experiment.experiment_id for experiment in found}

    def runs(self, experiment_id: str, kind: Kind) -> list[Run]:
        """Return the runs of one kind, the newest first."""
        wanted = f"tags.`{KIND_TAG}` = '{kind}'"

        def page(number: int, token: str | None) -> PagedList[MlflowRun]:
            return self._client.search_runs(
                [experiment_id], wanted, max_results=number, page_token=token
            )

        with _answering():
            return [_run(run) for run in _all(page)]

    def metrics(self, run_id: str) -> list[str]:
        """Return the names of the metrics of a run."""
        with _answering():
            return list(self._client.get_run(run_id).data.metrics)

    def history(self, run_id: str, metric: str) -> list[tuple[int, float]]:
        """Return step and value of every point of a metric, in the order of logging."""
        with _answering():
            points = self._client.get_metric_history(run_id, metric)
        return [(point.step, point.value) for point in points]

    def files(self, run_id: str, folder: str) -> list[str]:
        """Return the names of the artifacts in a folder of a run."""
        with _answering():
            return [file.path for file in self._client.list_artifacts(run_id, folder)]

    @contextmanager
    def file(self, run_id: str, name: str) -> Iterator[Path]:
        """Yield the artifact `name` as a file that lasts as long as the context."""
        with tempfile.TemporaryDirectory() as folder:
            try:
                with _answering():
                    path = self._client.download_artifacts(run_id, name, folder)
            except SourceError:
                # A file that is not there, and a server that does not answer, fail alike.
                if name not in self.files(run_id, name.rpartition("/")[0]):
                    raise FileNotFoundError(f"run {run_id} has no file {name}") from None
                raise
            yield Path(path)


def _all(page: Callable[[int, str | None], PagedList[Found]]) -> list[Found]:
    found: list[Found] = get_results_from_paginated_fn(page, PAGE)  # type: ignore[no-untyped-call]
    return found


def _run(run: MlflowRun) -> Run:
    return Run(
        run_id=run.info.run_id,
        experiment_id=run.info.experiment_id,
        status=run.info.status,
        tags=run.data.tags,
        params=run.data.params,
        metrics=run.data.metrics,
    )


@contextmanager
def _answering() -> Iterator[None]:
    try:
        yield
    except (MlflowException, SQLAlchemyError, RequestException) as error:
        lines = masked(str(error)).strip().splitlines() or [type(error).__name__]
        raise SourceError(lines[0]) from error
