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
| `occse.how` | JSON by field: `run`, or `reused`: from the store, or made for another trial |
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
that dropout drew, and the statistics of a trained batch norm. A complete run is not written again.

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

import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sweeps.spec.model import Spec
from sweeps.spec.trials import Trial
from sweeps.store.store import Store
from sweeps.tracking.attachments import upload, write_attachments, write_sweep
from sweeps.tracking.bulk import TOGETHER, BulkWriter, NewRun, RunEnd, bulk_writer
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
from sweeps.tracking.metrics import MetricWriter, sweep_scores
from sweeps.tracking.names import TrialNames
from sweeps.tracking.query import SWEEP, RecordRefusedError, answering, distinct_runs
from sweeps.tracking.tags import (
    Record,
    about_code,
    about_completion,
    about_plan,
    about_record,
    about_sweep,
    about_trial,
    measured,
    set_params,
    set_tags,
)
from sweeps.tracking.views import View, address, write_views

if TYPE_CHECKING:  # importing it takes a second that other commands do without
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run


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
        # trials whose run this object made, and whose run has tags and params only
        self._fresh: set[str] = set()
        self._bulk: BulkWriter | None = None
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
            self._bulk = bulk_writer(client)
            end_orphans(client)
            self._experiment = experiment_id(client, self._spec.name, uri=self.uri)
            self._runs = self._distinct()
            parent = self._runs.pop(SWEEP, None)
            if parent is None:
                tags = {"occse.kind": SWEEP, "mlflow.runName": self._spec.name}
                parent = self._create({**tags, DRIVER: claim.model_dump_json()})
            check_free(parent, claim)
            self._parent = parent.info.run_id
            self.confirm()
            # Two drivers that start at the same moment both find no claim; the second one's stays.
            try:
                check_free(client.get_run(self._parent), claim)
            except ValueError:
                self._parent = ""  # `close` must not end the runs of the other driver
                raise
            set_tags(client, parent, about_sweep(self._spec, self._variation))
            self._stages = recorded_stages(client, self._parent) | by_fingerprint(trials)
            _, missing = upload(client, parent, partial(write_sweep, self._spec, self._stages))
            set_tags(client, parent, {"occse.not_attached": missing})
            client.update_run(self._parent, status="RUNNING")
            self._write_views(trials)
            self.begin(trials)
            for identity in self._runs.keys() - {trial.identity for trial in trials}:
                self._drop(self._runs[identity])

    def begin(self, trials: Sequence[Trial]) -> None:
        """Make the runs of trials, and set them RUNNING unless they are complete."""
        begun = {trial.identity: trial for trial in trials if trial.identity not in self._begun}
        if not begun:
            return
        with self._answering():
            self._add_stages(begun.values())
            known = self._runs.keys() | self._started_ms.keys()
            new = [trial for identity, trial in begun.items() if identity not in known]
            if self._bulk is not None:
                for first in range(0, len(new), TOGETHER):
                    some = [self._new_run(trial) for trial in new[first : first + TOGETHER]]
                    runs = self._bulk.make(self._experiment, some)
                    made = {run.data.tags["occse.trial"]: run for run in runs}
                    self._runs |= made
                    self._pending |= made.keys()
                    self._fresh |= made.keys()
            for trial in begun.values():
                self._begin(trial)

    def start(self, trial: Trial, *, at_s: float) -> bool:
        """Let the run of a trial start at `at_s`, in seconds since 1970, for its first start.

        Return whether it is another run now, which has no metrics: MLflow's interface takes the
        start of a run when it is made, and never again.
        """
        self._started_ms.setdefault(trial.identity, int(1000 * at_s))
        if trial.identity not in self._pending:
            return False
        with self._answering():
            run = self._runs[trial.identity]
            if self._bulk is not None:
                self._bulk.start(run, self._started_ms[trial.identity])
                self._pending.remove(trial.identity)
                return False
            self._runs[trial.identity] = self._make(trial)
            self._pending.remove(trial.identity)
            # last: if this request is not answered, `_distinct` deletes one of the two later
            self._client().delete_run(run.info.run_id)
            return True

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
                self._fresh.discard(trial.identity)
                self._metrics.write(self._runs[trial.identity], metrics)

    def log_together(self, records: Iterable[Record], *, store: Store) -> None:
        """Complete and close the runs of many trials in one transaction.

        Runs that others may have written to, or that MLflow would refuse, are left to `log`; all
        are where MLflow is a server.
        """
        if self._bulk is None:
            return
        with self._answering():
            ends: dict[str, RunEnd] = {}
            for record in records:
                identity = record.trial.identity
                if identity in self._fresh and identity in self._open:
                    # `log` meets it again, and tells it
                    with suppress(OSError, ValueError):
                        end = self._end_of(record, store)
                        if self._bulk.accepts(end.tags, end.params, end.metrics):
                            ends[identity] = end
            if ends and self._bulk.end(list(ends.values())):
                self._open -= ends.keys()
                self._fresh -= ends.keys()

    def log(self, record: Record, *, store: Store) -> None:
        """Complete and close the run of a trial, unless it is complete.

        The run is made first if the server did not answer before. The run of a trial that a gate
        stopped is written again when the trial goes on and ends, or is stopped for another reason.
        """
        trial = record.trial
        with self._answering():
            if trial.identity not in self._runs:
                self.begin([trial])
            if trial.identity not in self._open:
                return
            self._fresh.discard(trial.identity)
            run = self._runs[trial.identity]
            run_id = run.info.run_id
            if run.data.tags.get("occse.complete") == about_completion(record):
                self._client().set_terminated(run_id, "FINISHED", end_time=run.info.end_time)
                self._open.remove(trial.identity)
                return
            end = self._end_of(record, store)
            # The last tag, below: with it the run is never written again.
            set_tags(self._client(), run, {**end.tags, "occse.complete": ""})
            set_params(self._client(), run, self._variation.params(trial))
            self._metrics.write(run, end.metrics)
            if self._bulk is not None:
                self._bulk.arrange(run, end.metrics)
            self._client().set_terminated(run_id, end.status, end_time=end.end_ms)
            if end.tags["occse.complete"]:
                set_tags(self._client(), run, end.tags)
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
            # a server may have made a run twice; and where there is none, reading them takes longer
            runs = self._runs if self._bulk is not None else self._distinct()
            known = self._client().get_run(self._parent).data.metrics
            self._client().log_batch(self._parent, metrics=sweep_scores(runs.values(), known=known))

    def addresses(self, server: str) -> list[str]:
        """Return where the views of the sweep are on the pages of a server; none without views."""
        return [address(server, self._experiment, view) for view in self._views]

    def attach(self, folder: Path) -> None:
        """Upload the files of a folder to the sweep's run, once it has been opened."""
        if self._parent:
            with self._answering():
                self._client().log_artifacts(self._parent, str(folder))

    def _distinct(self) -> "dict[str, Run]":
        mine = [self._parent, *(run.info.run_id for run in self._runs.values())]
        return distinct_runs(self._client(), self._experiment, mine=frozenset(mine))

    def _begin(self, trial: Trial) -> None:
        """Make the run of a trial where there is none, and let it be written to."""
        if trial.identity not in self._runs:
            self._runs[trial.identity] = self._make(trial)
            self._fresh.add(trial.identity)
        run = self._runs[trial.identity]
        if run.data.tags.get("occse.complete") != trial.identity:
            # before the requests below: if one fails now, `log` writes everything
            self._open.add(trial.identity)
        if trial.identity not in self._fresh:
            set_tags(self._client(), run, about_trial(trial, self._names))
            # the file may vary more knobs by now
            set_params(self._client(), run, self._variation.params(trial))
        if trial.identity in self._open and run.info.status != "RUNNING":
            self._client().update_run(run.info.run_id, status="RUNNING")
        self._begun.add(trial.identity)

    def _new_run(self, trial: Trial) -> NewRun:
        """Return what is known of a trial before it runs."""
        head = {"occse.kind": "trial", "mlflow.parentRunId": self._parent}
        tags = head | about_trial(trial, self._names) | about_plan(trial) | about_code(self._spec)
        told = {key: value for key, value in tags.items() if value}
        return NewRun(tags=told, params=self._variation.params(trial))

    def _end_of(self, record: Record, store: Store) -> RunEnd:
        """Return everything of a trial's end, and upload its files.

        Raises:
            ValueError, OSError: a curve in the store cannot be read.
        """
        trial = record.trial
        run = self._runs[trial.identity]
        root = self._spec.data_root
        write = partial(
            write_attachments, record, title=self._names.of(trial), store=store, data_root=root
        )
        attached, missing = upload(self._client(), run, write)
        tags = about_plan(trial) | about_code(self._spec) | about_record(record, self._spec)
        complete = about_completion(record) if attached and not record.failed else ""
        in_store = trial.identity in self._pending
        return RunEnd(
            run=run,
            tags={**tags, "occse.not_attached": missing, "occse.complete": complete},
            params=self._variation.params(trial),
            metrics=list(measured(record, store)),
            status="FAILED" if record.failed else "FINISHED",
            # what was in the store took no time
            end_ms=run.info.start_time if in_store else int(1000 * record.ended_s),
        )

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
        """Make the run of a trial; a pending one makes way for another when the trial starts."""
        new = self._new_run(trial)
        start_ms = self._started_ms.get(trial.identity)
        run = self._create(new.tags, start_ms=start_ms)
        if start_ms is None:
            self._pending.add(trial.identity)
        else:
            set_params(self._client(), run, new.params)
        return run

    def _create(self, tags: Mapping[str, str], *, start_ms: int | None = None) -> "Run":
        told = {key: value for key, value in tags.items() if value}
        run: Run = self._client().create_run(self._experiment, start_time=start_ms, tags=told)
        return run

    def _add_stages(self, trials: Iterable[Trial]) -> None:
        """Record the knobs of trials that joined after the start, as those of a search do."""
        new = by_fingerprint(trials, known=self._stages)
        if new:
            self._stages |= new
            self._client().log_text(self._parent, write_text(self._stages), FILE)

    def _drop(self, run: "Run") -> None:
        """Mark the run of a trial that the sweep's file no longer asks for."""
        set_tags(self._client(), run, {"occse.current": "false"})
        if run.info.status == "RUNNING":
            self._client().set_terminated(run.info.run_id, "KILLED")

    @contextmanager
    def _answering(self) -> Iterator[None]:
        with self._lock, answering(self.uri):
            yield
