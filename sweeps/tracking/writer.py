"""What a sweep leaves in MLflow: the only contract between the platform and whoever reads its
results.

Experiment: the sweep's name. All values are those of the artifacts in the store, written by the
driver alone, so a reused stage and a fresh one leave the same record, and what could not be logged
today is logged tomorrow, once. There are no runs of stages: a stage that several trials share
stands in each of them with its scores and curves, and equal tags occse.fingerprint.<field> tell
that it is the same artifact.

Parent run, one per sweep, status RUNNING, then FINISHED, FAILED where a trial failed, KILLED where
the sweep was stopped. Tags:
    occse.kind = sweep            mlflow.note.content = the question and what is expected
    occse.git.sha, .dirty         commit of the code; true|false: whether it had uncommitted changes
    occse.profile, occse.command
Trial runs, one per distinct trial, made when the sweep starts: status RUNNING, with what is known
so far, then FINISHED, FAILED where a stage failed, KILLED where the sweep was stopped. Tags:
    occse.kind = trial            mlflow.parentRunId, mlflow.note.content = a description
    occse.trial                   identity: the hash of the trial's artifacts by field; one run per
    identity occse.variant, occse.order    what it tries, and its place among the trials of the
    sweep occse.baseline = true|false   whether the others are compared with it occse.seed,
    occse.seeds       number of the replicate; the seed of every stage by field, as JSON
    occse.current = true|false    false once the sweep's file no longer asks for this trial
    occse.fingerprint.<field>     of every planned stage occse.data                    digest of the
    user's data, or the fingerprint of the embedded ones occse.git.sha, .dirty, occse.profile,
    occse.command
and once it ended:
    occse.how.<field>             run, or reused: it was in the store before, or was made for
    another trial occse.seconds.spent, .saved   stage seconds of what was run for this trial, and of
    what it reused occse.seconds                 of every stage by field, as JSON: how long its
    artifact took, whoever made it occse.gpus                    how many of them made it, by field,
    as JSON; 0 where it ran on CPUs occse.threads                 of every stage by field, as JSON:
    CPU threads, which decide the order of sums occse.accumulated             parts of a batch by
    field, as JSON, of trainings for whose batch a GPU was too small:
                                  the same up to the order of sums, what dropout drew and a trained
                                  batch norm's sight
    occse.devices, occse.packages models of the devices; versions of the packages, as JSON
    occse.code                    by field, as JSON: commit of the code that made it, `+`: with
    uncommitted changes occse.pixel_truth             what pixel ground truth was used for, beside
    scoring; empty for nothing. Separated by
                                  commas: `cam.threshold on train`, `gate after cam on train`,
                                  `search for pseudo/miou on train`
    occse.failed, occse.error     the fields of the stages that failed, and why; empty for none
    occse.stopped, .stopped.why   the field of the stage after which a gate stopped it, and why;
    empty for none occse.not_attached            why files are missing below, if they are
    occse.complete                the identity (and why it was stopped), once everything here is
    written; such a run is
                                  left alone
Of a run that no sweep made (`python -m sweeps import`) there are of these only kind, trial,
variant, order, baseline, seed, current, pixel_truth and complete, and besides:
    occse.imported                where it was read, with the SHA-256 occse.fingerprint.<field>
    of the scored stages, `imported:` and the identity occse.protocol                by scored
    stage, as JSON: data, split, threshold_rule, crf, scales, init as in
                                  analysis/read/tidy.py, each as the source tells it, or `unknown`
    occse.imported.others, .notes settings that are no knob of ours, as JSON; what a person should
    know
Params:  <field>.<knob>, the active knobs of the planned stages; text as it is, everything else as
JSON. Metrics: <field>/<metric>, at step 0, once the stage is done; of training stages their curves,
<field>/<name> at the epochs 1, 2, ..., while they train, and of erase_and_infer at the numbers of
erasures 0, 1, ... Artifacts: counts/<field>.npz, tables/<field>/*.csv, labels.csv,
panels/<image>.png, config.yaml, manifests.json and diff.patch, and of the sweep sweep.yaml and
diff.patch: see sweeps/tracking/attachments.py."""

import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Metric, Run, RunTag
from mlflow.exceptions import MlflowException

from sweeps.spec.model import Spec
from sweeps.spec.trials import Trial
from sweeps.store.store import Store
from sweeps.tracking.attachments import write_attachments, write_sweep
from sweeps.tracking.database import experiment_id, prepare
from sweeps.tracking.query import answering, search
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

SWEEP = "sweep"
KINDS = (SWEEP, "trial")


class Tracking:
    """The MLflow record of one sweep. Every method may be called again, from any thread: nothing is
    written twice.

    Each raises ConnectionError where the server does not answer.
    """

    def __init__(self, uri: str, *, spec: Spec) -> None:
        self.uri = uri
        self._spec = spec
        self._parent = ""
        self._experiment = ""
        self._runs: dict[str, Run] = {}
        self._begun: set[str] = set()
        self._open: set[str] = set()
        self._points: dict[tuple[str, str], set[int]] = {}
        self._doubtful: set[tuple[str, str]] = set()
        self._lock = threading.RLock()

    def open(self, trials: Sequence[Trial]) -> None:
        """Make or find the experiment, the parent run and those of `trials`, and mark which others
        are dropped.
        """
        prepare(self.uri)
        with self._answering():
            client = self._client()
            self._experiment = experiment_id(client, self._spec.name, uri=self.uri)
            self._runs = self._distinct()
            parent = self._runs.pop(SWEEP, None) or self._create(
                SWEEP, {"mlflow.runName": self._spec.name}
            )
            self._parent = parent.info.run_id
            self._set_tags(self._parent, about_sweep(self._spec), known=parent.data.tags)
            self._attach(parent, partial(write_sweep, self._spec))
            client.update_run(self._parent, status="RUNNING")
            for trial in trials:
                self.begin(trial)
            for identity in self._runs.keys() - {trial.identity for trial in trials}:
                self._drop(self._runs[identity])

    def begin(self, trial: Trial) -> None:
        """Show a trial as pending, unless its run is complete."""
        if trial.identity in self._begun:
            return
        with self._answering():
            tags = about_trial(trial)
            found = self._runs.get(trial.identity)
            if found is None:
                more = (
                    {"mlflow.parentRunId": self._parent}
                    | about_plan(trial)
                    | about_code(self._spec)
                )
                self._runs[trial.identity] = self._create("trial", tags | more)
            run = self._runs[trial.identity]
            if run.data.tags.get("occse.complete") != trial.identity:
                self._open.add(trial.identity)  # before what may fail now and be written by `log`
            if found is None:
                self._client().log_batch(run.info.run_id, params=list(params(trial)))
            self._set_tags(run.info.run_id, tags, known=run.data.tags)
            if trial.identity in self._open and run.info.status != "RUNNING":
                self._client().update_run(run.info.run_id, status="RUNNING")
            self._begun.add(trial.identity)

    def append(self, trial: Trial, metrics: Iterable[Metric]) -> None:
        """Show what a trial that has not ended measured so far."""
        with self._answering():
            if trial.identity in self._open:
                self._write(self._runs[trial.identity], metrics)

    def log(self, record: Record, *, store: Store) -> None:
        """Complete and close the run of a trial, made now where the server was away before, unless
        it is complete.

        One that a gate stopped is written again when it comes to its end after all, or is stopped
        for another reason."""
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
            self._client().set_terminated(
                run.info.run_id, "FAILED" if record.failed else "FINISHED"
            )
            if attached and not record.failed:
                self._client().set_tag(run.info.run_id, "occse.complete", complete)
            self._open.remove(trial.identity)

    def close(self, *, failed: bool) -> None:
        """End the sweep's run, and those of trials that did not come to their end."""
        with self._answering():
            for identity in sorted(self._open):
                self._client().set_terminated(self._runs[identity].info.run_id, "KILLED")
            self._client().set_terminated(
                self._parent, "KILLED" if self._open else "FAILED" if failed else "FINISHED"
            )
            self._open.clear()
            self._distinct()

    def _distinct(self) -> dict[str, Run]:
        """The runs of this sweep by identity, its own as SWEEP.

        A request whose answer was lost is sent again: of several runs of one thing one is kept, the
        others deleted."""
        kept: dict[str, Run] = {}
        mine = {self._parent, *(run.info.run_id for run in self._runs.values())}
        runs = search(self._client(), [self._experiment])
        for run in sorted(
            runs,
            key=lambda each: (each.info.run_id not in mine, "occse.complete" not in each.data.tags),
        ):
            tags = run.data.tags
            if tags.get("occse.kind") in KINDS and "occse.imported" not in tags:
                identity = tags.get("occse.trial", SWEEP)
                if kept.setdefault(identity, run) is not run:
                    self._client().delete_run(run.info.run_id)
        return kept

    def _client(self) -> MlflowClient:
        return MlflowClient(tracking_uri=self.uri)

    def _create(self, kind: str, tags: Mapping[str, str]) -> Run:
        run: Run = self._client().create_run(self._experiment, tags={"occse.kind": kind, **tags})
        return run

    def _set_tags(self, run_id: str, tags: Mapping[str, str], *, known: Mapping[str, str]) -> None:
        changed = [RunTag(key, value) for key, value in tags.items() if known.get(key) != value]
        if changed:
            self._client().log_batch(run_id, tags=changed)

    def _write(self, run: Run, metrics: Iterable[Metric]) -> None:
        """Write `metrics` but for the steps of curves that are there: those that came live have
        another time stamp.
        """
        fresh = [
            metric
            for metric in metrics
            if not metric.step or metric.step not in self._steps(run, metric.key)
        ]
        if fresh:
            curves = {(run.info.run_id, metric.key) for metric in fresh}
            self._doubtful |= curves  # until the server answers
            self._client().log_batch(run.info.run_id, metrics=fresh)
            self._doubtful -= curves
        for metric in fresh:
            self._steps(run, metric.key).add(metric.step)

    def _attach(self, run: Run, write: Callable[[Path], None]) -> bool:
        """Upload the files that `write` makes; False where that is to be tried again. No number is
        lost over a file.
        """
        unreadable = refused = ""
        with tempfile.TemporaryDirectory() as folder:
            try:
                write(Path(folder))
            except (OSError, ValueError) as error:
                unreadable = str(error)[:TAG_CHARACTERS]
            try:
                self._client().log_artifacts(run.info.run_id, folder)
            except (OSError, MlflowException) as error:
                refused = str(error)[:TAG_CHARACTERS]
        known = {"occse.not_attached": run.data.tags.get("occse.not_attached", "")}
        self._set_tags(run.info.run_id, {"occse.not_attached": refused or unreadable}, known=known)
        return not refused

    def _steps(self, run: Run, key: str) -> set[int]:
        """The steps of a metric that MLflow has; asked where some may be that this object has no
        account of.
        """
        curve = (run.info.run_id, key)
        if curve not in self._points or curve in self._doubtful:
            known = key in run.data.metrics or curve in self._doubtful
            history = self._client().get_metric_history(*curve) if known else ()
            self._points[curve] = {point.step for point in history}
        return self._points[curve]

    def _drop(self, run: Run) -> None:
        """The sweep's file no longer asks for this trial."""
        self._set_tags(run.info.run_id, {"occse.current": "false"}, known=run.data.tags)
        if run.info.status == "RUNNING":
            self._client().set_terminated(run.info.run_id, "KILLED")

    @contextmanager
    def _answering(self) -> Iterator[None]:
        with self._lock, answering(self.uri):
            yield
