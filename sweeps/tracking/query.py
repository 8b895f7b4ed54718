"""Questions to MLflow about earlier sweeps: the artifacts that they refer to, and single trials."""

from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from occse.artifacts.secrets import masked
from sweeps.tracking.configurations import all_params, recorded_stages
from sweeps.tracking.database import connect

if TYPE_CHECKING:  # importing it takes a second that other commands do without
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Run
    from mlflow.store.entities import PagedList

# The largest page that every MLflow server gives.
PAGE = 1000
FINGERPRINT = "occse.fingerprint."
SWEEP = "sweep"
KINDS = (SWEEP, "trial")
# The server understood the request and will refuse it again: running again does not help.
REFUSALS = frozenset(
    {
        "INVALID_PARAMETER_VALUE",
        "INVALID_STATE",
        "RESOURCE_ALREADY_EXISTS",
        "RESOURCE_DOES_NOT_EXIST",
    }
)


class RecordRefusedError(ValueError):
    """MLflow refused a request as invalid, which is not an outage: it would refuse it again."""


def referenced(uri: str) -> set[str]:
    """Return the fingerprints of all artifacts that runs of any experiment refer to.

    Deleted runs do not count.

    Raises:
        ValueError: there is no such database.
        ConnectionError: the tracking server does not answer.
    """
    with answering(uri):
        client = connect(uri, create=False)
        ids = [experiment.experiment_id for experiment in experiments(client)]
        fingerprints = set()
        for run in search(client, ids):
            for key, value in run.data.tags.items():
                if key.startswith(FINGERPRINT):
                    fingerprints.add(value)
        return fingerprints


def find_trial(uri: str, name: str) -> "Run":
    """Return the run of a trial, by its id or as EXPERIMENT/NAME.

    Raises:
        ValueError: there is no such run, several have that name, or it is not a trial.
        ConnectionError: the tracking server does not answer.
    """
    from mlflow.exceptions import MlflowException

    experiment, slash, trial = name.partition("/")
    with answering(uri):
        client = connect(uri, create=False)
        if slash:
            run = _named(client, uri, experiment, trial)
        else:
            try:
                run = client.get_run(name)
            except MlflowException as error:
                if error.error_code not in REFUSALS:
                    raise
                raise ValueError(
                    f"no run {name!r} at {masked(uri)}; give its id, or EXPERIMENT/TRIAL"
                ) from None
        kind = run.data.tags.get("occse.kind")
        if kind != "trial":
            raise ValueError(f"the run {name!r} is not a trial: its tag occse.kind is {kind!r}")
        _complete_params(client, run)
    return run


def _complete_params(client: "MlflowClient", run: "Run") -> None:
    """Add to the params of a trial's run the knobs that do not vary in its sweep."""
    parent = run.data.tags.get("mlflow.parentRunId")
    if not parent:  # imported
        return
    stages = recorded_stages(client, parent)
    fingerprints = {
        key.removeprefix(FINGERPRINT): value
        for key, value in run.data.tags.items()
        if key.startswith(FINGERPRINT)
    }
    run.data.params.update(all_params(run.data.params, fingerprints, stages))


def experiments(client: "MlflowClient") -> "list[Experiment]":
    """Return all experiments that are not deleted."""
    from mlflow.utils import get_results_from_paginated_fn

    def page(number: int, token: str | None) -> "PagedList[Experiment]":
        return client.search_experiments(max_results=number, page_token=token)

    found: list[Experiment] = get_results_from_paginated_fn(  # type: ignore[no-untyped-call]
        page, PAGE
    )
    return found


def search(client: "MlflowClient", experiment_ids: Sequence[str]) -> "list[Run]":
    """Return all runs of the experiments with these ids."""
    from mlflow.utils import get_results_from_paginated_fn

    def page(number: int, token: str | None) -> "PagedList[Run]":
        return client.search_runs(list(experiment_ids), max_results=number, page_token=token)

    if not experiment_ids:  # MLflow refuses a search in none
        return []
    runs: list[Run] = get_results_from_paginated_fn(page, PAGE)  # type: ignore[no-untyped-call]
    return runs


def distinct_runs(
    client: "MlflowClient", experiment_id: str, *, mine: Container[str]
) -> "dict[str, Run]":
    """Return the runs of a sweep by trial, its own as SWEEP, without those that were imported.

    MLflow's client sends a request again when its answer was lost, so that a run may have been
    made twice. Of several runs of one thing one is kept, and the others are deleted.

    Args:
        client: of the tracking server.
        experiment_id: experiment of the sweep.
        mine: ids of the runs that the caller writes to, which are kept first.
    """
    kept: dict[str, Run] = {}
    # then complete ones
    runs = sorted(
        search(client, [experiment_id]),
        key=lambda run: (run.info.run_id not in mine, "occse.complete" not in run.data.tags),
    )
    for run in runs:
        tags = run.data.tags
        if tags.get("occse.kind") not in KINDS or "occse.imported" in tags:
            continue
        identity = tags.get("occse.trial", SWEEP)
        if kept.setdefault(identity, run) is not run:
            client.delete_run(run.info.run_id)
    return kept


@contextmanager
def answering(uri: str) -> Iterator[None]:
    """Turn the errors of MLflow into one of two, which names the server without its password.

    Raises:
        RecordRefusedError: the server refuses the request, today and tomorrow.
        ConnectionError: the server or the database does not answer.
    """
    from mlflow.exceptions import MlflowException
    from requests.exceptions import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, RequestException) as error:
        lines = masked(str(error)).splitlines() or [type(error).__name__]
        if isinstance(error, MlflowException) and error.error_code in REFUSALS:
            raise RecordRefusedError(
                f"MLflow at {masked(uri)} refuses the record: {lines[0]} (not an outage, so "
                "waiting does not help)"
            ) from error
        raise ConnectionError(f"MLflow at {masked(uri)}: {lines[0]}") from error


def _long_name(run: "Run") -> str:
    """Return the name of a trial as the platform prints it while the sweep runs."""
    tags = run.data.tags
    return f"{tags.get('occse.variant')} · seed {tags.get('occse.seed')}"


def _named(client: "MlflowClient", uri: str, experiment: str, trial: str) -> "Run":
    known = client.get_experiment_by_name(experiment)
    if known is None:
        names = ", ".join(other.name for other in experiments(client)) or "none"
        raise ValueError(f"no experiment {experiment!r} at {masked(uri)}; there are {names}")
    trials = [
        run
        for run in search(client, [known.experiment_id])
        if run.data.tags.get("occse.kind") == "trial"
    ]
    matches = [run for run in trials if trial in (run.info.run_name, _long_name(run))]
    if len(matches) != 1:
        names = "\n".join(f"  {run.info.run_id}  {run.info.run_name}" for run in matches or trials)
        raise ValueError(
            f"{len(matches)} trials of {experiment!r} are called {trial!r}; expected one. "
            f"Give the id of one of\n{names}"
        )
    return matches[0]
