"""Records a sweep in MLflow: curves while it runs, and every trial that ended.

A tracking server that is away is no reason to stop: what it missed is written as soon as it
answers, at the end of the sweep, or by the same command later."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from dataclasses import field as dataclass_field

from occse.artifacts.manifest import Manifest
from occse.naming.counts import number
from occse.pipeline import Node
from sweeps.cluster.messages import News
from sweeps.plan.plan import Plan, stage_order
from sweeps.spec.trials import Trial
from sweeps.store.store import Store
from sweeps.text import Say, duration
from sweeps.tracking.bulk import TOGETHER
from sweeps.tracking.live import LiveMetrics
from sweeps.tracking.query import RecordRefusedError
from sweeps.tracking.tags import Record, Stopped
from sweeps.tracking.writer import Tracking

# A request to a server that is away blocks the driver for seconds; once a minute it may.
PAUSE_S = 60.0
# Hundreds of trials may wait for one stage. Writing its curves to all of them takes at most this
# part of the driver's time, and collects longer where that is not enough.
LIVE_SHARE = 0.1


@dataclass(frozen=True, kw_only=True)
class Summary:
    """End of a sweep, in numbers.

    Attributes:
        trials: how many it has.
        failed: error by the name of the trial.
        unrecorded: trials that did not end, or are not in MLflow because the server was away.
        refused: by the name of a trial, why MLflow refuses its record.
        run: stages that were executed.
        reused: stages that were in the store before.
        wall_s: from start to end.
        spent_s: time of the executed stages, one after the other.
        saved_s: what the trials would have taken more, had each run all its stages itself.
        stopped: trials that a gate held back.
        left: trials that a limit kept from their end.
        limit: that limit.
    """

    trials: int
    failed: Mapping[str, str]
    unrecorded: int
    run: int
    reused: int
    wall_s: float
    spent_s: float
    saved_s: float
    stopped: int = 0
    left: int = 0
    limit: str = ""
    refused: Mapping[str, str] = dataclass_field(default_factory=dict)

    @property
    def well(self) -> bool:
        """True if every trial succeeded and is recorded."""
        return not self.failed and not self.unrecorded and not self.refused

    def describe(self) -> str:
        """Return the summary for people."""
        done = self.trials - len(self.failed) - self.unrecorded - self.stopped - self.left
        complete = self.reused and not self.run and not self.failed and not self.unrecorded
        where = "everything came from the store" if complete else f"{self.reused} from the store"
        lines = [
            f"{done} of {number(self.trials, 'trial')} done in {duration(self.wall_s)}: "
            f"{number(self.run, 'stage')} run, {where}; "
            f"{duration(self.spent_s)} of stage time spent, "
            f"{duration(self.saved_s)} saved by sharing",
            *(f"FAILED {name}: {error}" for name, error in self.failed.items()),
            *(f"NOT RECORDED {name}: {error}" for name, error in self.refused.items()),
        ]
        if self.stopped:
            stopped = number(self.stopped, "trial")
            lines.append(f"{stopped} stopped by a gate; MLflow and the table say by which, and why")
        if self.limit:
            left = number(self.left, "trial") if self.left else "suggestions"
            lines.append(
                f"nothing more was launched at {self.limit}, {left} left; "
                "raise it, or run the same command again"
            )
        if self.unrecorded:
            unrecorded = number(self.unrecorded, "trial")
            lines.append(
                f"{unrecorded} not done, or not in MLflow: run the same command again to go on"
            )
        return "\n".join(lines)


@dataclass(frozen=True, kw_only=True)
class _Account:
    """The part of an ended trial that the summary needs: little, for there may be thousands."""

    name: str
    failed: str
    stopped: bool
    spent_s: float
    saved_s: float


class Recorder:
    """The only writer of a sweep's record: live curves and ended trials, to one tracking server.

    `hear` is called from the driver's second thread, everything else from its main thread.

    Args:
        store: holds the artifacts of trials that end.
        live: collects the curves of stages that run. Its store must not be a patient one, or the
            second thread would be silent while it waits.
        tracking: the tracking server.
        say: takes a warning for people.
    """

    def __init__(self, *, store: Store, live: LiveMetrics, tracking: Tracking, say: Say) -> None:
        self._store = store
        self._tracking = tracking
        self._say = say
        self._start = time.monotonic()
        self._expected: set[str] = set()
        self._stored: set[str] = set()
        self._missing: dict[str, Node] = {}
        self._claimed: set[str] = set()
        self._accounts: dict[str, _Account] = {}
        # trials whose start is not recorded yet, and when that was
        self._launched: dict[str, tuple[Trial, float]] = {}
        self._unlogged: dict[str, Record] = {}
        self._refused: dict[str, str] = {}
        self._live = live
        # both threads write; without it a trial could be logged by both at once
        self._writing = threading.Lock()
        self._away_until = 0.0
        self._live_due = 0.0
        self._gathers = False

    def expect(self, trials: Sequence[Trial]) -> None:
        """Account for `trials` from now on, and show them as pending."""
        self._expected |= {trial.identity for trial in trials}
        # a run that is not there when its trial ends is made then, or its refusal is told then
        with suppress(ConnectionError, RecordRefusedError):
            self._tracking.begin(trials)

    def start(self, trial: Trial) -> None:
        """Note that a trial starts now; `hear` shows it."""
        self._launched.setdefault(trial.identity, (trial, time.time()))

    def add(self, plan: Plan) -> None:
        """Take in the stages of `plan`, which was made before any of them ran."""
        self._live.add(plan)
        for fingerprint in plan.reasons:
            # A stage that an earlier plan saw in the store, and that is missing now, was damaged:
            # it still counts as reused, or it would be counted twice.
            if fingerprint not in self._stored:
                self._missing[fingerprint] = plan.nodes[fingerprint]
        self._stored |= plan.nodes.keys() - plan.reasons.keys() - self._missing.keys()

    def hear(self, news: News) -> None:
        """Show in MLflow what the scheduler tells of trials that have not ended."""
        self._live.update(news)
        with suppress(ValueError, OSError):  # told when the sweep ends, which reads the same files
            self._write(self._log_started)
            self._write(self._log_ended)
            self._write(self._log_live)
            self._write(self._tracking.confirm)

    def end(self, trial: Trial, failed: Mapping[str, str], stopped: Stopped | None) -> None:
        """Note a trial that ended, from the store; `hear` or `close` logs it.

        Args:
            trial: the trial.
            failed: errors of its stages, by field.
            stopped: the gate that held it back, if one did.
        """
        record = self._record(trial, failed, stopped)
        self._accounts[trial.identity] = _account(record)
        self._unlogged[trial.identity] = record
        # Once the scheduler is heard of, the second thread logs: the main one, which hands out
        # steps, does not wait for a tracking server then.
        if self._gathers and len(self._unlogged) >= TOGETHER:
            self._write(self._log_ended)
            # thousands of stored trials take minutes
            self._write(self._tracking.confirm)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Log the trials that end within the block together, which costs a tenth each."""
        self._gathers = True
        try:
            yield
        finally:
            self._gathers = False
        self._write(self._log_ended)

    def close(self, *, limit: str = "") -> Summary:
        """Log what could not be logged, end the sweep's run in MLflow, and sum up.

        Args:
            limit: the limit that kept trials from being launched.
        """
        accounts = self._accounts.values()
        failed = {account.name: account.failed for account in accounts if account.failed}
        unclaimed = list(self._unclaimed())
        left = len(self._expected) - len(accounts)
        try:
            with self._writing:
                try:
                    self._log_ended()
                # a record that cannot be made must not leave all other runs open
                except (ValueError, OSError) as error:
                    self._say(f"warning: {error}")
                self._tracking.close(failed=bool(failed) or left > 0)
        except (ConnectionError, RecordRefusedError) as error:
            self._say(f"warning: {error}")
        return Summary(
            trials=len(self._expected),
            failed=failed,
            unrecorded=len(self._unlogged) + (0 if limit else left),
            run=len(self._claimed) + len(unclaimed),
            reused=len(self._stored),
            wall_s=time.monotonic() - self._start,
            spent_s=sum(account.spent_s for account in accounts) + sum(unclaimed),
            saved_s=sum(account.saved_s for account in accounts),
            stopped=len([account for account in accounts if account.stopped]),
            left=left if limit else 0,
            limit=limit,
            refused=self._refused,
        )

    def _write(self, log: Callable[[], None]) -> None:
        """Call `log`, unless the server was away a moment ago; note and tell when it is away."""
        # Each request to a server that is away takes its whole timeout, and trials wait meanwhile.
        if time.monotonic() < self._away_until:
            return
        try:
            with self._writing:
                log()
        except ConnectionError as error:
            if not self._away_until:
                self._say(
                    f"warning: {error}; the sweep goes on, and what is missing is logged later"
                )
            self._away_until = time.monotonic() + PAUSE_S

    def _log_started(self) -> None:
        for trial, started_s in list(self._launched.values()):
            is_new_run = False
            with suppress(RecordRefusedError):  # it is told when the trial ends
                is_new_run = self._tracking.start(trial, at_s=started_s)
            # After the start: a ConnectionError leaves the trial here, for the next try.
            self._launched.pop(trial.identity, None)
            if is_new_run:
                self._live.repeat(trial)

    def _log_ended(self) -> None:
        # Before the end: a run that starts may make way for another one.
        self._log_started()
        records = list(self._unlogged.values())
        for first in range(0, len(records), TOGETHER):
            self._tracking.log_together(records[first : first + TOGETHER], store=self._store)
        # what it left; of the others `log` finds that they are complete
        for record in records:
            try:
                self._tracking.log(record, store=self._store)
            except RecordRefusedError as error:
                # said now, while the sweep runs: no later try will do better
                self._refused[record.trial.name] = str(error)
                self._say(f"warning: {record.trial.name} cannot be recorded: {error}")
            # After the log: a ConnectionError leaves the record here, for the next try.
            del self._unlogged[record.trial.identity]

    def _log_live(self) -> None:
        start = time.monotonic()
        if start < self._live_due:
            return
        for trial, metrics in self._live.take():
            self._tracking.append(trial, metrics)
        # The next turn comes after ten times what this one took.
        self._live_due = start + (time.monotonic() - start) / LIVE_SHARE

    def _unclaimed(self) -> Iterator[float]:
        """Yield the seconds of each stage that ran though none of its trials came to an end."""
        left = [node for key, node in self._missing.items() if key not in self._claimed]
        with suppress(ValueError, OSError):  # a count is not worth an error here
            here = self._store.present(left)
            for node in left:
                if node.fingerprint in here:
                    manifest = self._store.manifest(node)
                    if manifest is not None:
                        yield manifest.seconds

    def _record(self, trial: Trial, failed: Mapping[str, str], stopped: Stopped | None) -> Record:
        """Return what the store has of `trial`.

        Each fresh artifact counts as run for the first trial that ends with it. Stages behind the
        gate that stopped the trial are left out, though another sweep may have made them: the
        record must not depend on what else was run."""
        manifests: dict[str, Manifest] = {}
        curves: dict[str, Sequence[Mapping[str, float]]] = {}
        faults = dict(failed)
        reused = set[str]()
        last = stage_order()[stopped[0]] if stopped else len(stage_order())
        for field, node in trial.nodes.items():
            if stage_order()[field] > last:
                break
            try:
                manifest = self._store.manifest(node)
                # damaged curves are a fault of the stage, found before anything is written
                points = self._store.curves(node)
            except ValueError as error:
                faults[field] = str(error)
                continue
            if manifest is None:
                if not failed:  # else it was never made
                    faults[field] = (
                        "its artifact was damaged or removed: the same command makes it again"
                    )
                continue
            manifests[field] = manifest
            curves[field] = points
            if node.fingerprint in self._missing and node.fingerprint not in self._claimed:
                self._claimed.add(node.fingerprint)
            else:
                reused.add(field)
        return Record(
            trial=trial,
            manifests=manifests,
            curves=curves,
            reused=frozenset(reused),
            failed=faults,
            stopped=stopped,
        )


def _account(record: Record) -> _Account:
    seconds = {field: manifest.seconds for field, manifest in record.manifests.items()}
    saved = sum(seconds[field] for field in record.reused)
    errors = "; ".join(f"{field}: {error}" for field, error in record.failed.items())
    return _Account(
        name=record.trial.name,
        failed=errors,
        stopped=record.stopped is not None,
        spent_s=sum(seconds.values()) - saved,
        saved_s=saved,
    )
