"""Record of a sweep in MLflow: the only contract between the platform and its analysis.

Experiment: the sweep's name. All values are those of the artifacts in the store, written by the
driver alone. A reused stage and a fresh one therefore leave the same record, and what could not be
logged is logged once by the next run of the sweep. Stages have no runs: the scores and curves of a
stage that several trials share are in the run of each of them, and equal tags
`occse.fingerprint.<field>` tell that it is the same artifact.

**The sweep's run**, one per sweep. Status RUNNING, then FINISHED, FAILED where a trial failed, or
KILLED where the sweep was stopped.

| tag | value |
|---|---|
| `occse.kind` | `sweep` |
| `mlflow.note.content` | the question, and the expected answer |
| `occse.git.sha` | commit of the code |
| `occse.git.dirty` | `true` or `false`: the code had uncommitted changes |
| `occse.profile`, `occse.command` | profile of the sweep; the command without passwords |
| `occse.driver` | JSON: process and file of a driver that runs the sweep; empty once it ended |

**A trial's run**, one per distinct trial, made when the sweep starts. Status RUNNING, with what is
known so far, then FINISHED, FAILED where a stage failed, or KILLED where the sweep was stopped.

| tag | value |
|---|---|
| `occse.kind` | `trial` |
| `mlflow.parentRunId`, `mlflow.note.content` | the sweep's run; a description |
| `occse.trial` | identity: hash of the trial's artifacts by field |
| `occse.variant`, `occse.order` | what it tries; its position among the trials of the sweep |
| `occse.baseline` | `true` or `false`: the others are compared with it |
| `occse.seed`, `occse.seeds` | number of the replicate; JSON: seed of every stage by field |
| `occse.current` | `false` once the sweep's file no longer asks for this trial |
| `occse.fingerprint.<field>` | of every planned stage |
| `occse.data` | digest of the user's data, or fingerprint of the embedded ones |
| `occse.git.sha`, `occse.git.dirty`, `occse.profile`, `occse.command` | as of the sweep |

Once the trial has ended also:

| tag | value |
|---|---|
| `occse.how.<field>` | `run`, or `reused`: from the store, or made for another trial |
| `occse.seconds.spent`, `occse.seconds.saved` | of stages run for this trial, and of reused ones |
| `occse.seconds` | JSON: seconds that each artifact took, by field |
| `occse.gpus` | JSON: number of GPUs by field; 0 for CPUs |
| `occse.threads` | JSON: CPU threads by field, which decide the order of sums |
| `occse.accumulated` | JSON: parts of a batch by field, where a GPU was too small for a whole one |
| `occse.devices`, `occse.packages` | models of the devices; JSON: versions of the packages |
| `occse.code` | JSON: commit by field, with `+` for uncommitted changes |
| `occse.other_code` | JSON: by field, the reason why an artifact was not made by this code |
| `occse.pixel_truth` | uses of pixel ground truth beside scoring, separated by commas, such as |
| | `cam.threshold on train`, `gate after cam on train`, `search for pseudo/miou on train` |
| `occse.failed`, `occse.error` | fields of the stages that failed, and why; empty for none |
| `occse.stopped`, `occse.stopped.why` | field after which a gate stopped it, and why, or empty |
| `occse.not_attached` | reason why files are missing, if they are |
| `occse.name.<safe>` | original of a name that MLflow does not accept in a key |
| `occse.complete` | identity (and the reason of a stop), once everything here is written |

A training whose batch came in parts gives the same result up to the order of sums, the activations
that dropout drew, and the statistics of a batch norm that is trained. A complete run is not written
again.

A run that no sweep made (`python -m sweeps import`) has of these only kind, trial, variant, order,
baseline, seed, current, pixel_truth and complete, and besides:

| tag | value |
|---|---|
| `occse.imported` | source, with its SHA-256 |
| `occse.fingerprint.<field>` | of the scored stages: `imported:` and the identity |
| `occse.protocol` | JSON by scored stage: data, split, threshold_rule, crf, scales and init as in |
| | `analysis/read/tidy.py`, each as the source tells it, or `unknown` |
| `occse.imported.others` | JSON: settings that are no knob of ours |
| `occse.imported.notes` | remarks for people |

**Params**: `<field>.<knob>`, the active knobs of the planned stages; text as it is, everything else
as JSON. **Metrics**: `<field>/<metric>` at step 0, once the stage is done; curves of trainings,
`<field>/<name>`, at the epochs 1, 2, ..., while they train; of erase_and_infer at the numbers of
erasures 0, 1, ... A class name in a key is replaced where MLflow does not accept it, see
`sweeps.tracking.keys`. **Artifacts**: see `sweeps.tracking.attachments`.
"""

import hashlib
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from occse.artifacts.secrets import masked
from sweeps.spec.model import Spec
from sweeps.spec.trials import Trial
from sweeps.store.store import Store
from sweeps.tracking.attachments import write_attachments, write_sweep
from sweeps.tracking.claim import BEAT_S, DRIVER, check_free, end_orphans, make_claim
from sweeps.tracking.database import connect, experiment_id
from sweeps.tracking.query import RecordRefusedError, answering, search
from sweeps.tracking.tags import (
    TAG_CHARACTERS,
    Record,
    about_code,
    about_completion,
    about_plan,
    about_record,
    about_sweep,
    about_trial,
    measured,
    params,
)

if TYPE_CHECKING:  # importing it takes a second that other commands do without
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

SWEEP = "sweep"
KINDS = (SWEEP, "trial")


def digest_of(spec: Spec) -> str:
    """Return a digest of everything in a sweep's file that decides which trials there are."""
    text = spec.model_dump_json(exclude={"question", "expect", "limits", "resources", "labels"})
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Tracking:
    """MLflow record of one sweep.

    Every method may be called again, from any thread: nothing is written twice. Each raises
    ConnectionError where the server does not answer, and RecordRefusedError where it refuses.
    """

    def __init__(self, uri: str, *, spec: Spec, source: str = "") -> None:
        """Prepare the record of `spec`, which was read from the file `source`."""
        self.uri = uri
        self._source = source or "a program"
        self._beaten = float("-inf")
        self._spec = spec
        self._parent = ""
        self._experiment = ""
        self._runs: dict[str, Run] = {}
        self._begun: set[str] = set()
        self._open: set[str] = set()
        # steps of curves that MLflow has, by run and key
        self._points: dict[tuple[str, str], set[int]] = {}
        # curves of which the last request was not answered: MLflow may have its points, or not
        self._doubtful: set[tuple[str, str]] = set()
        # Tune's callbacks and the thread that watches the scheduler write at the same time
        self._lock = threading.RLock()

    def open(self, trials: Sequence[Trial]) -> None:
        """Make or find the experiment, the sweep's run and those of `trials`.

        Runs of trials that the sweep's file no longer asks for are marked. Runs of other sweeps
        whose driver died are ended.

        Raises:
            ValueError: a sweep of this name with other trials is running.
        """
        claim = make_claim(self._source, digest_of(self._spec))
        with self._answering():
            client = connect(self.uri, create=True)
            end_orphans(client)
            self._experiment = experiment_id(client, self._spec.name, uri=self.uri)
            self._runs = self._distinct()
            parent = self._runs.pop(SWEEP, None)
            if parent is None:
                tags = {"mlflow.runName": self._spec.name, DRIVER: claim.model_dump_json()}
                parent = self._create(SWEEP, tags)
            check_free(parent, claim)
            self._parent = parent.info.run_id
            self.confirm()
            # Two drivers that start at the same moment both find no claim; the second one's stays.
            try:
                check_free(client.get_run(self._parent), claim)
            except ValueError:
                self._parent = ""  # `close` must not end the runs of the other driver
                raise
            self._set_tags(self._parent, about_sweep(self._spec), known=parent.data.tags)
            self._attach(parent, partial(write_sweep, self._spec))
            client.update_run(self._parent, status="RUNNING")
            for trial in trials:
                self.begin(trial)
            for identity in self._runs.keys() - {trial.identity for trial in trials}:
                self._drop(self._runs[identity])

    def begin(self, trial: Trial) -> None:
        """Make the run of a trial, and set it RUNNING unless it is complete."""
        if trial.identity in self._begun:
            return
        with self._answering():
            tags = about_trial(trial)
            is_new = trial.identity not in self._runs
            if is_new:
                parent = {"mlflow.parentRunId": self._parent}
                more = parent | about_plan(trial) | about_code(self._spec)
                self._runs[trial.identity] = self._create("trial", tags | more)
            run = self._runs[trial.identity]
            if run.data.tags.get("occse.complete") != trial.identity:
                # before the requests below: if one fails now, `log` writes everything
                self._open.add(trial.identity)
            if is_new:
                self._client().log_batch(run.info.run_id, params=list(params(trial)))
            self._set_tags(run.info.run_id, tags, known=run.data.tags)
            if trial.identity in self._open and run.info.status != "RUNNING":
                self._client().update_run(run.info.run_id, status="RUNNING")
            self._begun.add(trial.identity)

    def confirm(self) -> None:
        """Renew the driver's tag, at most once in BEAT_S seconds: others see that it lives."""
        if time.monotonic() - self._beaten < BEAT_S:
            return
        claim = make_claim(self._source, digest_of(self._spec))
        with self._answering():
            self._client().set_tag(self._parent, DRIVER, claim.model_dump_json())
        self._beaten = time.monotonic()

    def append(self, trial: Trial, metrics: "Iterable[Metric]") -> None:
        """Log metrics of a trial that has not ended."""
        with self._answering():
            if trial.identity in self._open:
                self._write(self._runs[trial.identity], metrics)

    def log(self, record: Record, *, store: Store) -> None:
        """Complete and close the run of a trial, unless it is complete.

        The run is made first if the server did not answer before. The run of a trial that a gate
        stopped is written again when the trial goes on and ends, or is stopped for another reason.
        """
        trial = record.trial
        with self._answering():
            if trial.identity not in self._runs:
                self.begin(trial)
            if trial.identity not in self._open:
                return
            run = self._runs[trial.identity]
            complete = about_completion(record)
            if run.data.tags.get("occse.complete") == complete:
                self._client().set_terminated(run.info.run_id, "FINISHED")
                self._open.remove(trial.identity)
                return
            tags = about_plan(trial) | about_code(self._spec) | about_record(record, self._spec)
            self._set_tags(run.info.run_id, tags, known={})
            self._client().log_batch(run.info.run_id, params=list(params(trial)))
            self._write(run, measured(record, store))
            write = partial(write_attachments, record, store=store, data_root=self._spec.data_root)
            attached = self._attach(run, write)
            status = "FAILED" if record.failed else "FINISHED"
            self._client().set_terminated(run.info.run_id, status)
            if attached and not record.failed:
                # The last tag: with it the run is never written again.
                self._client().set_tag(run.info.run_id, "occse.complete", complete)
            self._open.remove(trial.identity)

    def close(self, *, failed: bool) -> None:
        """End the sweep's run, and those of trials that did not come to their end."""
        if not self._parent:
            return
        status = "FAILED" if failed else "FINISHED"
        if self._open:
            status = "KILLED"
        with self._answering():
            for identity in sorted(self._open):
                # a person may have deleted the run; the others must not stay RUNNING for it
                with suppress(RecordRefusedError), answering(self.uri):
                    self._client().set_terminated(self._runs[identity].info.run_id, "KILLED")
            self._client().set_terminated(self._parent, status)
            self._client().set_tag(self._parent, DRIVER, "")
            self._open.clear()
            self._distinct()

    def _distinct(self) -> "dict[str, Run]":
        """Return the runs of this sweep by identity, its own as SWEEP.

        MLflow's client sends a request again when its answer was lost, so that a run may have been
        made twice. Of several runs of one thing one is kept, and the others are deleted.
        """
        kept: dict[str, Run] = {}
        mine = {self._parent, *(run.info.run_id for run in self._runs.values())}
        # those that this object writes to first, then complete ones
        runs = sorted(
            search(self._client(), [self._experiment]),
            key=lambda run: (run.info.run_id not in mine, "occse.complete" not in run.data.tags),
        )
        for run in runs:
            tags = run.data.tags
            if tags.get("occse.kind") not in KINDS or "occse.imported" in tags:
                continue
            identity = tags.get("occse.trial", SWEEP)
            if kept.setdefault(identity, run) is not run:
                self._client().delete_run(run.info.run_id)
        return kept

    def _client(self) -> "MlflowClient":
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=self.uri)

    def _create(self, kind: str, tags: Mapping[str, str]) -> "Run":
        run: Run = self._client().create_run(self._experiment, tags={"occse.kind": kind, **tags})
        return run

    def _set_tags(self, run_id: str, tags: Mapping[str, str], *, known: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        changed = [RunTag(key, value) for key, value in tags.items() if known.get(key) != value]
        if changed:
            self._client().log_batch(run_id, tags=changed)

    def _write(self, run: "Run", metrics: "Iterable[Metric]") -> None:
        """Write `metrics` without the steps of curves that MLflow has.

        Points that came live have another time stamp, so that MLflow would keep both.
        """
        fresh = [
            metric
            for metric in metrics
            if not metric.step or metric.step not in self._steps(run, metric.key)
        ]
        if fresh:
            curves = {(run.info.run_id, metric.key) for metric in fresh}
            # if no answer comes, the next call asks which of these points arrived
            self._doubtful |= curves
            self._client().log_batch(run.info.run_id, metrics=fresh)
            self._doubtful -= curves
        for metric in fresh:
            self._steps(run, metric.key).add(metric.step)

    def _attach(self, run: "Run", write: Callable[[Path], None]) -> bool:
        """Upload the files that `write` makes; return False where that is to be tried again.

        A file that cannot be made or uploaded is told in a tag: no number is lost over a file.
        """
        from mlflow.exceptions import MlflowException

        unreadable = refused = ""
        with tempfile.TemporaryDirectory() as folder:
            try:
                write(Path(folder))
            except (OSError, ValueError) as error:
                unreadable = masked(str(error))[:TAG_CHARACTERS]
            try:
                self._client().log_artifacts(run.info.run_id, folder)
            except (OSError, MlflowException) as error:
                refused = masked(str(error))[:TAG_CHARACTERS]
        known = {"occse.not_attached": run.data.tags.get("occse.not_attached", "")}
        self._set_tags(run.info.run_id, {"occse.not_attached": refused or unreadable}, known=known)
        return not refused

    def _steps(self, run: "Run", key: str) -> set[int]:
        """Return the steps of a metric that MLflow has.

        MLflow is asked where it may have steps that this object does not know of.
        """
        curve = (run.info.run_id, key)
        if curve not in self._points or curve in self._doubtful:
            known = key in run.data.metrics or curve in self._doubtful
            history = self._client().get_metric_history(*curve) if known else ()
            self._points[curve] = {point.step for point in history}
        return self._points[curve]

    def _drop(self, run: "Run") -> None:
        """Mark the run of a trial that the sweep's file no longer asks for."""
        self._set_tags(run.info.run_id, {"occse.current": "false"}, known=run.data.tags)
        if run.info.status == "RUNNING":
            self._client().set_terminated(run.info.run_id, "KILLED")

    @contextmanager
    def _answering(self) -> Iterator[None]:
        with self._lock, answering(self.uri):
            yield
