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
| `occse.constant.<field>` | JSON: the knobs that have one value in all trials |
| `occse.driver` | JSON: process and file of a driver that runs the sweep, until it ends |

**A trial's run**, one per distinct trial, made when the sweep starts. Status RUNNING, with what is
known so far, then FINISHED, FAILED where a stage failed, or KILLED where the sweep was stopped.

| tag | value |
|---|---|
| `occse.kind` | `trial` |
| `mlflow.parentRunId`, `mlflow.note.content` | the sweep's run; a description |
| `occse.trial` | identity: hash of the trial's artifacts by field |
| `occse.variant`, `occse.label` | what it tries; the same in short, for people |
| `occse.order` | its position among the trials of the sweep |
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
| `occse.failed`, `occse.error` | fields of the stages that failed, and why |
| `occse.stopped`, `occse.stopped.why` | field after which a gate stopped it, and why |
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

A tag without a value is never written. A trial's run starts when its first stage is asked for; one
that was in the store takes no time.

**Params**: `<field>.<knob>`, the active knobs that vary in the sweep, without seeds; text as it is,
all else as JSON. All knobs are in `configurations.json` of the sweep's run (before 2026-11-27 all
were params). The sweep's run has the metrics `best/<field>/miou`, the highest mean of a variant,
and `mean/<field>/miou`. **Metrics**: `<field>/<metric>` at step 0, once the stage is done; curves
of trainings, `<field>/<name>`, at the epochs 1, 2, ..., while they train; of erase_and_infer at the
numbers of erasures 0, 1, ... A class name in a key is replaced where MLflow does not accept it, see
`sweeps.tracking.keys`. **Artifacts**: see `sweeps.tracking.attachments`.
"""

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
from sweeps.tracking.claim import BEAT_S, DRIVER, check_free, digest_of, end_orphans, make_claim
from sweeps.tracking.configurations import (
    FILE,
    Knobs,
    Variation,
    by_fingerprint,
    recorded_stages,
    write_text,
)
from sweeps.tracking.database import connect, experiment_id
from sweeps.tracking.metrics import MetricWriter
from sweeps.tracking.names import TrialNames
from sweeps.tracking.query import RecordRefusedError, answering, search
from sweeps.tracking.scores import sweep_scores
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
)
from sweeps.tracking.views import View, address, write_views

if TYPE_CHECKING:  # importing it takes a second that other commands do without
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

SWEEP = "sweep"
KINDS = (SWEEP, "trial")


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
        # trials whose run was made before they started
        self._pending: set[str] = set()
        self._started_ms: dict[str, int] = {}
        self._variation = Variation(spec, ())
        self._names = TrialNames(spec, ())
        self._stages: dict[str, Knobs] = {}
        self._views: list[View] = []
        self._metrics = MetricWriter(self._client)
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
        self._variation = Variation(self._spec, trials)
        self._names = TrialNames(self._spec, trials)
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
            self._set_tags(parent, about_sweep(self._spec, self._variation))
            self._stages = recorded_stages(client, self._parent) | by_fingerprint(trials)
            self._attach(parent, partial(write_sweep, self._spec, self._stages))
            client.update_run(self._parent, status="RUNNING")
            self._write_views(trials)
            for trial in trials:
                self.begin(trial)
            for identity in self._runs.keys() - {trial.identity for trial in trials}:
                self._drop(self._runs[identity])

    def begin(self, trial: Trial) -> None:
        """Make the run of a trial, and set it RUNNING unless it is complete."""
        if trial.identity in self._begun:
            return
        with self._answering():
            tags = about_trial(trial, self._names)
            self._add_stages(trial)
            is_new = trial.identity not in self._runs
            if is_new:
                self._runs[trial.identity] = self._make(trial)
            run = self._runs[trial.identity]
            if run.data.tags.get("occse.complete") != trial.identity:
                # before the requests below: if one fails now, `log` writes everything
                self._open.add(trial.identity)
            if not is_new:
                self._set_tags(run, tags)
                self._set_params(run, trial)  # the file may vary more knobs by now
            if trial.identity in self._open and run.info.status != "RUNNING":
                self._client().update_run(run.info.run_id, status="RUNNING")
            self._begun.add(trial.identity)

    def start(self, trial: Trial, *, at_s: float) -> None:
        """Let the run of a trial start at `at_s`, in seconds since 1970, for its first start.

        MLflow takes the start of a run when it is made, and never again: a run that was made while
        the trial was pending makes way for another one.
        """
        self._started_ms.setdefault(trial.identity, int(1000 * at_s))
        if trial.identity not in self._pending:
            return
        with self._answering():
            pending = self._runs[trial.identity]
            self._runs[trial.identity] = self._make(trial)
            self._pending.remove(trial.identity)
            # Last: if this request is not answered, `_distinct` deletes one of the two later.
            self._client().delete_run(pending.info.run_id)

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
                self._metrics.write(self._runs[trial.identity], metrics)

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
                info = run.info
                self._client().set_terminated(info.run_id, "FINISHED", end_time=info.end_time)
                self._open.remove(trial.identity)
                return
            tags = about_plan(trial) | about_code(self._spec) | about_record(record, self._spec)
            self._set_tags(run, tags)
            self._set_params(run, trial)
            self._metrics.write(run, measured(record, store))
            write = partial(write_attachments, record, store=store, data_root=self._spec.data_root)
            attached = self._attach(run, write)
            status = "FAILED" if record.failed else "FINISHED"
            end_ms = int(1000 * record.ended_s)
            if trial.identity in self._pending:
                end_ms = run.info.start_time  # it was in the store, and took no time
            self._client().set_terminated(run.info.run_id, status, end_time=end_ms)
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
            # another driver of the same file may have taken it back already
            with suppress(RecordRefusedError), answering(self.uri):
                self._client().delete_tag(self._parent, DRIVER)
            self._open.clear()
            runs = self._distinct()
            parent = runs.pop(SWEEP, None)
            if parent is not None:
                scores = sweep_scores(runs.values(), known=parent.data.metrics)
                self._client().log_batch(self._parent, metrics=scores)

    def addresses(self, server: str) -> list[str]:
        """Return where the views of the sweep are on the pages of a server; none without views."""
        return [address(server, self._experiment, view) for view in self._views]

    def attach(self, folder: Path) -> None:
        """Upload the files of a folder to the sweep's run, once it has been opened."""
        if self._parent:
            with self._answering():
                self._client().log_artifacts(self._parent, str(folder))

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

    def _write_views(self, trials: Sequence[Trial]) -> None:
        """Save views of the sweep's runs for people; without them nothing is lost."""
        with suppress(RecordRefusedError), answering(self.uri):
            self._views = write_views(
                self._client(),
                self._experiment,
                trials,
                self._variation.swept(),
                parent=self._parent,
                uri=self.uri,
            )

    def _make(self, trial: Trial) -> "Run":
        """Make the run of a trial: with what is known before it runs, or with little if it is
        pending, for then it makes way for another run when the trial starts.
        """
        parent = {"mlflow.parentRunId": self._parent}
        tags = parent | about_trial(trial, self._names) | about_plan(trial)
        start_ms = self._started_ms.get(trial.identity)
        if start_ms is None:
            run = self._create("trial", tags)
            self._pending.add(trial.identity)
            return run
        run = self._create("trial", tags | about_code(self._spec), start_ms=start_ms)
        self._set_params(run, trial)
        return run

    def _create(self, kind: str, tags: Mapping[str, str], *, start_ms: int | None = None) -> "Run":
        told = {"occse.kind": kind} | {key: value for key, value in tags.items() if value}
        run: Run = self._client().create_run(self._experiment, start_time=start_ms, tags=told)
        return run

    def _set_params(self, run: "Run", trial: Trial) -> None:
        from mlflow.entities import Param

        # a run of an earlier version, or of a file that varied more, has them
        params = [
            Param(key, text)
            for key, text in self._variation.params(trial).items()
            if key not in run.data.params
        ]
        if params:
            self._client().log_batch(run.info.run_id, params=params)

    def _set_tags(self, run: "Run", tags: Mapping[str, str]) -> None:
        """Set those tags that differ; a tag that has no value any more is deleted."""
        from mlflow.entities import RunTag

        known = run.data.tags
        changed = {key: value for key, value in tags.items() if value and known.get(key) != value}
        if changed:
            new = [RunTag(key, value) for key, value in changed.items()]
            self._client().log_batch(run.info.run_id, tags=new)
        known.update(changed)
        for key in [key for key, value in tags.items() if not value and key in known]:
            self._client().delete_tag(run.info.run_id, key)
            del known[key]

    def _add_stages(self, trial: Trial) -> None:
        """Record the knobs of a trial that joined after the start, as those of a search do."""
        new = {
            key: knobs for key, knobs in by_fingerprint([trial]).items() if key not in self._stages
        }
        if new:
            self._stages |= new
            self._client().log_text(self._parent, write_text(self._stages), FILE)

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
        self._set_tags(run, {"occse.not_attached": refused or unreadable})
        return not refused

    def _drop(self, run: "Run") -> None:
        """Mark the run of a trial that the sweep's file no longer asks for."""
        self._set_tags(run, {"occse.current": "false"})
        if run.info.status == "RUNNING":
            self._client().set_terminated(run.info.run_id, "KILLED")

    @contextmanager
    def _answering(self) -> Iterator[None]:
        with self._lock, answering(self.uri):
            yield
