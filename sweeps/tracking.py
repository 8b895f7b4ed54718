"""What a sweep leaves in MLflow: the only contract between the platform and whoever reads its results.

Experiment: the sweep's name. All values are those of the artifacts in the store, written by the driver alone, so a
reused stage and a fresh one leave the same record, and what could not be logged today is logged tomorrow, once.

Parent run, one per sweep, tags:
    occse.kind = sweep            occse.git.sha, occse.profile         mlflow.note.content = the question
Trial runs, one per distinct trial, status FINISHED, or FAILED where a stage failed, tags:
    occse.kind = trial            mlflow.parentRunId
    occse.trial                   identity: the hash of the trial's artifacts by field; one run per identity
    occse.variant, occse.order    what it tries, and its place among the trials of the sweep
    occse.baseline = true|false   whether the others are compared with it
    occse.seed
    occse.current = true|false    false once the sweep's file no longer asks for this trial
    occse.fingerprint.<field>     of every planned stage
    occse.how.<field>             run, or reused: it was in the store before, or was made for another trial
    occse.seconds.spent, .saved   stage seconds of what was run for this trial, and of what it reused
    occse.git.sha, occse.profile
    occse.pixel_truth             what pixel ground truth was used for, beside scoring; empty for nothing
    occse.failed, occse.error     the fields of the stages that failed, and why; empty for none
    occse.complete                the identity, once everything above and below is written; such a run is left alone
Params:  <field>.<knob>, the active knobs of the planned stages; text as it is, everything else as JSON.
Metrics: <field>/<metric>, at step 0; of training stages their curves, <field>/<name> at the epochs 1, 2, ...
         and of erase_and_infer at the numbers of erasures 0, 1, ...
"""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from requests.exceptions import RequestException
from sqlalchemy.exc import SQLAlchemyError

from occse.manifest import Manifest
from occse.provenance import git_state
from sweeps.schema import Spec
from sweeps.spec import Trial

PAGE = 1000
TAG_CHARACTERS = 4000
Curves = Sequence[Mapping[str, float]]


@dataclass(frozen=True, kw_only=True)
class Record:
    """What is known of a trial when it ends: its finished stages by field, and its failed ones."""

    trial: Trial
    manifests: Mapping[str, Manifest]
    curves: Mapping[str, Curves]
    reused: frozenset[str] = frozenset()
    failed: Mapping[str, str] = field(default_factory=dict)


class Tracking:
    """The MLflow record of one sweep. Every method may be called again: nothing is written twice.

    Each raises ConnectionError where the server does not answer.
    """

    def __init__(self, uri: str, *, spec: Spec) -> None:
        self.uri = uri
        self._spec = spec
        self._parent = ""
        self._experiment = ""
        self._runs: dict[str, Run] = {}
        for name in ("alembic", "mlflow"):
            logging.getLogger(name).setLevel(logging.ERROR)  # hundreds of migration lines on a new database

    def open(self, trials: Sequence[Trial]) -> None:
        """Make the experiment and the parent run, or find them, and mark which earlier trials are still asked for."""
        _make_folder(self.uri)
        with _answering(self.uri):
            client = self._client()
            self._experiment = _experiment(client, self._spec.name)
            runs = list(_search(client, self._experiment))
            parents = [run for run in runs if run.data.tags.get("occse.kind") == "sweep"]
            self._parent = (parents[0] if parents else self._create("sweep", self._spec.name, {})).info.run_id
            self._set_tags(self._parent, _about_sweep(self._spec), known=parents[0].data.tags if parents else {})
            client.update_run(self._parent, status="RUNNING")
            self._runs = {run.data.tags["occse.trial"]: run for run in runs if "occse.trial" in run.data.tags}
            wanted = {trial.identity for trial in trials}
            for identity, run in self._runs.items():
                current = {"occse.current": "true" if identity in wanted else "false"}
                self._set_tags(run.info.run_id, current, known=run.data.tags)

    def log(self, record: Record) -> None:
        """Write the run of a trial, complete, unless it is there."""
        trial = record.trial
        with _answering(self.uri):
            known = self._runs[trial.identity].data.tags if trial.identity in self._runs else {}
            if known.get("occse.complete") == trial.identity:
                self._set_tags(self._runs[trial.identity].info.run_id, _about_trial(trial), known=known)
                return
            tags = _about_trial(trial) | _about_record(record, self._spec)
            if trial.identity not in self._runs:
                self._runs[trial.identity] = self._create(
                    "trial", trial.name, {"mlflow.parentRunId": self._parent} | tags
                )
            run_id = self._runs[trial.identity].info.run_id
            self._client().log_batch(
                run_id,
                metrics=list(_metrics(record)),
                params=list(_params(trial)),
                tags=[RunTag(key, value) for key, value in tags.items()],
            )
            self._client().set_terminated(run_id, "FAILED" if record.failed else "FINISHED")
            if not record.failed:
                self._client().set_tag(run_id, "occse.complete", trial.identity)

    def close(self, *, failed: bool) -> None:
        """End the parent run."""
        with _answering(self.uri):
            self._client().set_terminated(self._parent, "FAILED" if failed else "FINISHED")

    def _client(self) -> MlflowClient:
        return MlflowClient(tracking_uri=self.uri)

    def _create(self, kind: str, name: str, tags: Mapping[str, str]) -> Run:
        run: Run = self._client().create_run(self._experiment, run_name=name, tags={"occse.kind": kind, **tags})
        return run

    def _set_tags(self, run_id: str, tags: Mapping[str, str], *, known: Mapping[str, str]) -> None:
        changed = [RunTag(key, value) for key, value in tags.items() if known.get(key) != value]
        if changed:
            self._client().log_batch(run_id, tags=changed)


def _experiment(client: MlflowClient, name: str) -> str:
    found = client.get_experiment_by_name(name)
    if found is not None and found.lifecycle_stage == "deleted":
        raise ValueError(f"experiment {name!r} was deleted in MLflow; restore it there or give the sweep another name")
    return str(found.experiment_id if found else client.create_experiment(name))


def _search(client: MlflowClient, experiment: str) -> Iterator[Run]:
    token = None
    while True:
        page = client.search_runs([experiment], max_results=PAGE, page_token=token)
        yield from page
        if not (token := page.token):
            return


def _about_sweep(spec: Spec) -> dict[str, str]:
    note = f"{spec.question}\n\nExpected: {spec.expect}" if spec.expect else spec.question
    return {"mlflow.note.content": note, **_about_code(spec)}


def _about_code(spec: Spec) -> dict[str, str]:
    return {"occse.git.sha": git_state()["sha"], "occse.profile": spec.profile or ""}


def _about_trial(trial: Trial) -> dict[str, str]:
    """Tags that follow from the sweep's file alone, where a trial may be renamed without running again."""
    return {
        "occse.trial": trial.identity,
        "occse.variant": trial.variant,
        "occse.order": str(trial.order),
        "occse.baseline": json.dumps(trial.baseline),
        "occse.seed": str(trial.seed),
        "occse.current": "true",
    }


def _about_record(record: Record, spec: Spec) -> dict[str, str]:
    spent = {field: manifest.seconds for field, manifest in record.manifests.items() if field not in record.reused}
    saved = {field: manifest.seconds for field, manifest in record.manifests.items() if field in record.reused}
    chosen = [f"{field}.threshold on train" for field, each in record.manifests.items() if "threshold" in each.metrics]
    tags = {f"occse.fingerprint.{field}": node.fingerprint for field, node in record.trial.nodes.items()}
    tags |= {f"occse.how.{field}": "reused" if field in record.reused else "run" for field in record.manifests}
    return (
        tags
        | _about_code(spec)
        | {
            "occse.seconds.spent": f"{sum(spent.values()):.3f}",
            "occse.seconds.saved": f"{sum(saved.values()):.3f}",
            "occse.pixel_truth": ", ".join(chosen),
            "occse.failed": ", ".join(record.failed),
            "occse.error": "; ".join(f"{field}: {error}" for field, error in record.failed.items())[:TAG_CHARACTERS],
        }
    )


def _params(trial: Trial) -> Iterator[Param]:
    for field_, node in trial.nodes.items():
        for knob, value in node.stage.config().items():
            yield Param(f"{field_}.{knob}", value if isinstance(value, str) else json.dumps(value))


def _metrics(record: Record) -> Iterator[Metric]:
    """Time stamps are the artifacts', so that writing a metric again makes no second point."""
    for field_, manifest in record.manifests.items():
        at = int(datetime.fromisoformat(manifest.created).timestamp() * 1000)
        curves = record.curves.get(field_, ())
        in_curves = {name for point in curves for name in point}  # their last point is the stage's metric already
        for name, value in manifest.metrics.items():
            if name not in in_curves:
                yield Metric(f"{field_}/{name}", value, at, 0)
        for point in curves:
            for name, value in point.items():
                if name != "step":
                    yield Metric(f"{field_}/{name}", value, at, int(point["step"]))


def _make_folder(uri: str) -> None:
    if uri.startswith("sqlite:///"):
        Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)


@contextmanager
def _answering(uri: str) -> Iterator[None]:
    try:
        yield
    except (MlflowException, SQLAlchemyError, RequestException) as error:
        raise ConnectionError(f"MLflow at {uri}: {str(error).splitlines()[0]}") from error
