"""What MLflow says of earlier sweeps: which artifacts they refer to, and what one trial was."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from requests.exceptions import RequestException
from sqlalchemy.exc import SQLAlchemyError

PAGE = 1000
FINGERPRINT = "occse.fingerprint."


def referenced(uri: str) -> set[str]:
    """The fingerprints of all artifacts that runs of any experiment refer to; deleted ones do not
    count.

    Raises:
        ConnectionError: the tracking server does not answer, or there is no such database.
    """
    with answering(uri):
        experiments = [each.experiment_id for each in _client(uri).search_experiments()]
        runs = search(_client(uri), experiments) if experiments else iter(())
        return {
            value
            for run in runs
            for key, value in run.data.tags.items()
            if key.startswith(FINGERPRINT)
        }


def find_trial(uri: str, name: str) -> Run:
    """The run of a trial, by its id or as EXPERIMENT/NAME.

    Raises:
        ValueError: there is no such run, several have that name, or it is no trial.
        ConnectionError: the tracking server does not answer.
    """
    experiment, slash, trial = name.partition("/")
    with answering(uri):
        if slash:
            found = _named(uri, experiment, trial)
        else:
            try:
                found = _client(uri).get_run(name)
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                raise ValueError(
                    f"no run {name!r} at {uri}; give its id, or EXPERIMENT/TRIAL"
                ) from None
    if found.data.tags.get("occse.kind") != "trial":
        raise ValueError(
            f"the run {name!r} is no trial: its tag occse.kind is {found.data.tags.get('occse.kind')!r}"
        )
    return found


def _named(uri: str, experiment: str, trial: str) -> Run:
    client = _client(uri)
    known = client.get_experiment_by_name(experiment)
    if known is None:
        names = ", ".join(each.name for each in client.search_experiments()) or "none"
        raise ValueError(f"no experiment {experiment!r} at {uri}; there are {names}")
    runs = [
        run
        for run in search(client, [known.experiment_id])
        if run.data.tags.get("occse.kind") == "trial"
    ]
    found = [run for run in runs if run.info.run_name == trial]
    if len(found) != 1:
        names = "\n".join(f"  {run.info.run_id}  {run.info.run_name}" for run in found or runs)
        raise ValueError(
            f"{len(found)} trials of {experiment!r} are called {trial!r}; give the id of one of\n{names}"
        )
    return found[0]


def search(client: MlflowClient, experiments: list[str]) -> Iterator[Run]:
    """All runs of the experiments with these ids, page by page."""
    token = None
    while True:
        page = client.search_runs(experiments, max_results=PAGE, page_token=token)
        yield from page
        if not (token := page.token):
            return


def _client(uri: str) -> MlflowClient:
    path = Path(uri.removeprefix("sqlite:///"))
    if uri.startswith("sqlite:///") and not path.exists():  # MLflow would make an empty one
        raise ConnectionError(f"MLflow at {uri}: there is no such file")
    return MlflowClient(tracking_uri=uri)


@contextmanager
def answering(uri: str) -> Iterator[None]:
    """Turn whatever a tracking server or database that is away makes MLflow raise into one error
    that names it.
    """
    try:
        yield
    except (MlflowException, SQLAlchemyError, RequestException) as error:
        raise ConnectionError(f"MLflow at {uri}: {str(error).splitlines()[0]}") from error
