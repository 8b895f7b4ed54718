"""The trials of experiments as a frame, one row per trial.

| column | content |
|---|---|
| `experiment`, `run_id`, `trial` | name of the sweep, MLflow's id of the run, id of the trial |
| `variant` | the values that vary, except seeds |
| `order`, `baseline` | position of the variant in the spec; whether it is the baseline |
| `seed` | number of the replicate |
| `current` | False where the sweep's file no longer asks for the trial |
| `status` | MLflow's: RUNNING, FINISHED, FAILED, KILLED, SCHEDULED |
| `failed`, `error` | what failed and why, empty otherwise |
| `stopped`, `stopped_why` | the field after which a gate stopped the trial, and why; else empty |
| `pixel_truth` | what pixel ground truth was used for, empty otherwise |
| `imported` | source of a run that no sweep made; else empty |
| `protocol` | what the numbers of an imported run rest on, by stage; else empty |
| `pipeline` | text of `pipeline.json`, see `analysis.read.pipeline`; empty for old runs |
| `planned` | tuple of the fields that the trial has by plan |
| `spent_s`, `saved_s` | seconds of stages run and of those reused; missing until it ends |
| `seconds.<field>`, `gpus.<field>` | duration of a stage, and the number of its GPUs |
| `fingerprint.<field>` | the identity of the artifact of a stage |
| `seed.<field>` | the seed of a stage |
| `accumulated.<field>` | parts of a batch if a GPU was too small for a whole one; else missing |
| `code.<field>` | commit of the code that made an artifact, with `+` for uncommitted changes |
| `experiment_id`, `data_id` | MLflow's id of the experiment; digest or fingerprint of the data |
| `sha`, `dirty` | commit of the recording code; whether it had uncommitted changes |
| `packages`, `devices` | versions, as JSON; models of the devices |
| `not_attached` | why files are missing in MLflow; else empty |
| `param.<field>.<knob>` | knobs, as strings; missing where the trial does not have the field |
| `<field>/<name>` | metrics as fractions, the last value of a curve; missing if not logged |

In a notebook: `load("quickstart").groupby("variant")["cam/miou"].agg(["mean", "std", "count"])`.
"""

import os
import sqlite3
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.store.entities import PagedList
from mlflow.utils import get_results_from_paginated_fn
from requests.exceptions import RequestException
from sqlalchemy.exc import SQLAlchemyError

from analysis.read.json_text import parse_json
from analysis.read.parquet import SUFFIX, read_export
from analysis.read.secrets import masked

DEFAULT_TRACKING = "sqlite:///runs/mlflow.db"
#: Tags with the original of a name that MLflow refuses in a key.
NAME_TAG = "occse.name."
#: Seconds that a database may stay locked; a program that records holds the lock for some.
PATIENCE_S = 60.0
#: Seconds after which a person wants to know why nothing happens.
TELL_EVERY_S = 5.0
#: Runs that MLflow is asked for at once; a server allows up to 50,000.
PAGE = 1000
#: The artifact of the sweep's own run that `analysis.read.pipeline` reads.
PIPELINE_FILE = "pipeline.json"


def load(*experiments: str, tracking: str | None = None) -> pd.DataFrame:
    """The trials of `experiments`, one after the other, each in the order of its spec, then of the
    seeds.

    Args:
        experiments: names of sweeps, or files that `python -m analysis export` wrote. tracking:
        where MLflow keeps its runs; by default MLFLOW_TRACKING_URI, else sqlite:///runs/mlflow.db.

    Raises:
        ValueError: there is no such database, experiment or file, it has no trials, or a run lacks
        a tag of the schema. ConnectionError: the tracking server does not answer, or refuses.
    """
    frames = [
        read_export(Path(each)) if each.endswith(SUFFIX) else _read(each, tracking_uri(tracking))
        for each in experiments
    ]
    # An experiment and an export of it may be named together.
    return pd.concat(frames).drop_duplicates("run_id", ignore_index=True)


def _read(experiment: str, uri: str) -> pd.DataFrame:
    _check_sqlite(uri)
    try:
        client = MlflowClient(uri)
        runs = _trial_runs(client, experiment, uri)
        pipeline = _text_of_sweep(client, runs[0].info.experiment_id, PIPELINE_FILE) if runs else ""
    except (MlflowException, SQLAlchemyError, RequestException) as error:
        reason = masked(str(error)).strip().splitlines()[0]
        raise ConnectionError(f"cannot read experiments from {masked(uri)}: {reason}") from error
    if not runs:
        raise ValueError(
            f"experiment {experiment!r} in {masked(uri)} has no trials (runs with the tag "
            "occse.kind = trial)"
        )
    return pd.DataFrame(
        [{**_row(run, experiment), "pipeline": pipeline} for run in runs]
    ).sort_values(["order", "variant", "seed", "run_id"], ignore_index=True)


def sweep_tags(experiment: str, *, tracking: str | None = None) -> dict[str, str]:
    """The tags of the sweep's own run: question, command, commit. Empty where there is none, or
    nobody answers.
    """
    try:
        client = connect(tracking)
        found = client.get_experiment_by_name(experiment)
        runs = (
            client.search_runs([found.experiment_id], "tags.`occse.kind` = 'sweep'")
            if found
            else []
        )
    except (ValueError, MlflowException, SQLAlchemyError, RequestException):
        runs = []
    return dict(runs[0].data.tags) if runs else {}


def sweep_text(experiment: str, name: str, *, tracking: str | None = None) -> str:
    """Return the file `name` that the sweep logged on its own run.

    Empty where there is none, or where MLflow does not answer.
    """
    try:
        client = connect(tracking)
        found = client.get_experiment_by_name(experiment)
        return _text_of_sweep(client, found.experiment_id, name) if found else ""
    except (ValueError, MlflowException, SQLAlchemyError, RequestException):
        return ""


def connect(tracking: str | None) -> MlflowClient:
    """MLflow, as `load` reads it.

    Raises:
        ValueError: there is no such database.
    """
    uri = tracking_uri(tracking)
    _check_sqlite(uri)
    return MlflowClient(uri)


def tracking_uri(given: str | None) -> str:
    """Return the address of MLflow's runs: `given`, else MLFLOW_TRACKING_URI, else
    sqlite:///runs/mlflow.db.
    """
    return given or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_TRACKING


def server_address(tracking: str | None) -> str:
    """Return the address of the tracking server's pages; empty for a database.

    A page that is passed on must not hold the user and the password of the address.
    """
    address = urlsplit(tracking_uri(tracking))
    if address.scheme not in ("http", "https"):
        return ""
    return address._replace(netloc=address.netloc.rpartition("@")[2]).geturl()


def _check_sqlite(uri: str) -> None:
    """Refuse what is no MLflow database, since MLflow would make one of it."""
    scheme, separator, location = uri.partition(":///")
    if not separator or not scheme.startswith("sqlite"):
        return
    # SQLAlchemy's arguments stand behind the file, as in sqlite:///runs/mlflow.db?timeout=60
    path = Path(location.partition("?")[0])
    if not path.is_file():
        raise ValueError(
            f"there is no database {path} (tracking {uri}); run a sweep first, or name another "
            "--tracking"
        )
    start = time.monotonic()
    told_s = 0.0
    while True:
        try:
            if not _has_experiments(path):
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


def _has_experiments(path: Path) -> bool:
    # Read-only, so that a look at a database that another program writes never locks it.
    address = f"{path.absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(address, uri=True, timeout=1.0)) as database:
        tables = database.execute("SELECT 1 FROM sqlite_master WHERE name = 'experiments'")
        return tables.fetchone() is not None


def _trial_runs(client: MlflowClient, experiment: str, uri: str) -> list[Run]:
    found = client.get_experiment_by_name(experiment)
    # MLflow finds an experiment by its name even if it was deleted.
    if found is None or found.lifecycle_stage != "active":
        names = sorted(
            other.name for other in client.search_experiments() if other.name != "Default"
        )
        raise ValueError(
            f"no experiment {experiment!r} in {masked(uri)}; "
            f"there are: {', '.join(names) or 'none'}"
        )
    return _all(client, found.experiment_id, "tags.`occse.kind` = 'trial'")


def _all(client: MlflowClient, experiment_id: str, wanted: str) -> list[Run]:
    """Return all runs of an experiment that the filter `wanted` describes."""

    def page(number: int, token: str | None) -> PagedList[Run]:
        return client.search_runs([experiment_id], wanted, max_results=number, page_token=token)

    runs: list[Run] = get_results_from_paginated_fn(page, PAGE)  # type: ignore[no-untyped-call]
    return runs


def _text_of_sweep(client: MlflowClient, experiment_id: str, name: str) -> str:
    """Return a file that the sweep logged, of the newest of its own runs that has it, or nothing.

    An older sweep does not have every file; the reader says what holds without.
    """
    for run in client.search_runs([experiment_id], "tags.`occse.kind` = 'sweep'"):
        with tempfile.TemporaryDirectory() as folder:
            try:
                path = client.download_artifacts(run.info.run_id, name, folder)
            except (MlflowException, OSError):
                continue
            return Path(path).read_text(encoding="utf-8")
    return ""


def _metrics(run: Run) -> dict[str, float]:
    """The last value of each metric, under the name that the user gave to a class.

    MLflow refuses some characters in a key; the tag `occse.name.<key's name>` has the original.
    """
    metrics = {}
    for key, value in sorted(run.data.metrics.items()):
        # Only the name of the class, the third part, may have been changed.
        *parts, name = key.split("/", 2)
        original = run.data.tags.get(f"{NAME_TAG}{name}", name)
        metrics["/".join([*parts, original])] = value
    return metrics


def _row(run: Run, experiment: str) -> dict[str, Any]:
    tags, params = run.data.tags, run.data.params
    by_param = {name.partition(".")[0] for name in params}
    by_tag = {
        name.removeprefix("occse.fingerprint.")
        for name in tags
        if name.startswith("occse.fingerprint.")
    }
    return {
        "experiment": experiment,
        "experiment_id": run.info.experiment_id,
        "run_id": run.info.run_id,
        "trial": tags.get("occse.trial", ""),
        "variant": _tag(run, "occse.variant"),
        "order": _integer(run, "occse.order"),
        "baseline": tags.get("occse.baseline") == "true",
        "seed": _integer(run, "occse.seed"),
        "current": tags.get("occse.current") != "false",
        "status": run.info.status,
        "failed": tags.get("occse.failed", ""),
        "error": tags.get("occse.error", ""),
        "stopped": tags.get("occse.stopped", ""),
        "stopped_why": tags.get("occse.stopped.why", ""),
        "pixel_truth": tags.get("occse.pixel_truth", ""),
        "imported": tags.get("occse.imported", ""),
        "protocol": _by_stage(run),
        "planned": tuple(sorted(by_param | by_tag)),
        "data_id": tags.get("occse.data", ""),
        "sha": tags.get("occse.git.sha", ""),
        "dirty": tags.get("occse.git.dirty") == "true",
        "packages": tags.get("occse.packages", ""),
        "devices": tags.get("occse.devices", ""),
        "not_attached": tags.get("occse.not_attached", ""),
        "spent_s": float(tags.get("occse.seconds.spent", "nan")),
        "saved_s": float(tags.get("occse.seconds.saved", "nan")),
        **_by_field(run, "occse.seconds", "seconds"),
        **_by_field(run, "occse.gpus", "gpus"),
        **_by_field(run, "occse.seeds", "seed"),
        **_by_field(run, "occse.accumulated", "accumulated"),
        **_by_field(run, "occse.code", "code", kind=str),
        **_by_field(run, "occse.other_code", "other_code", kind=str),
        **{f"fingerprint.{field}": tags[f"occse.fingerprint.{field}"] for field in sorted(by_tag)},
        **{f"param.{name}": value for name, value in sorted(params.items())},
        **_metrics(run),
    }


def _by_field(
    run: Run, tag: str, name: str, *, kind: type[float] | type[str] = float
) -> dict[str, Any]:
    """Columns of a tag that holds a value for each field, as JSON; none where the run has no such
    tag.
    """
    text = run.data.tags.get(tag, "{}")
    try:
        values = parse_json(text)
        return {f"{name}.{field}": kind(value) for field, value in values.items()}
    except (ValueError, TypeError, AttributeError):
        what = "numbers" if kind is float else "texts"
        raise ValueError(
            f"run {run.info.run_id}: tag {tag} is {text[:200]!r}, expected {what} by field"
        ) from None


def _by_stage(run: Run) -> dict[str, dict[str, str]]:
    """Return what the numbers of an imported run rest on, by stage; nothing for a sweep's own."""
    text = run.data.tags.get("occse.protocol", "{}")
    try:
        return {stage: dict(known) for stage, known in parse_json(text).items()}
    except (ValueError, TypeError, AttributeError):
        raise ValueError(
            f"run {run.info.run_id}: tag occse.protocol is {text[:200]!r}, expected texts by stage"
        ) from None


def _tag(run: Run, name: str) -> str:
    if name not in run.data.tags:
        raise ValueError(
            f"run {run.info.run_id} is tagged occse.kind = trial but has no tag {name}"
        )
    return str(run.data.tags[name])


def _integer(run: Run, name: str) -> int:
    text = _tag(run, name)
    try:
        return int(text)
    except ValueError:
        raise ValueError(
            f"run {run.info.run_id}: tag {name} is {text!r}, expected an integer"
        ) from None
