"""The driver's account of a sweep: every trial that ended goes to MLflow, now or as soon as the
server answers.
"""

import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from occse.artifacts.manifest import Manifest
from occse.pipeline import Node
from sweeps.cluster.stage_task import Json
from sweeps.plan.plan import ORDER, Plan
from sweeps.spec.trials import Trial
from sweeps.store.store import Store
from sweeps.text import Say, duration, number
from sweeps.tracking.live import Live
from sweeps.tracking.tags import Record, Stopped
from sweeps.tracking.writer import Tracking

PAUSE_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Summary:
    """How a sweep ended.

    Attributes:
        trials: how many it has.
        failed: error by the name of the trial.
        unrecorded: trials that did not end, or are not in MLflow because the server was away.
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

    @property
    def well(self) -> bool:
        """Whether every trial succeeded and is recorded."""
        return not self.failed and not self.unrecorded

    def describe(self) -> str:
        """The summary for people."""
        done = self.trials - len(self.failed) - self.unrecorded - self.stopped - self.left
        complete = self.reused and not self.run and not self.failed and not self.unrecorded
        where = "everything came from the store" if complete else f"{self.reused} from the store"
        lines = [
            f"{done} of {self.trials} trials done in "
            f"{duration(self.wall_s)}: {number(self.run, 'stage')} run, {where}; "
            f"{duration(self.spent_s)} of stage time spent, {duration(self.saved_s)} saved by sharing",
            *(f"FAILED {name}: {error}" for name, error in self.failed.items()),
        ]
        if self.stopped:
            lines.append(
                f"{number(self.stopped, 'trial')} stopped by a gate; MLflow and the table say by which, and why"
            )
        if self.limit:
            left = number(self.left, "trial") if self.left else "suggestions"
            lines.append(
                f"nothing more was launched at {self.limit}, {left} left; raise it, or run the same command again"
            )
        if self.unrecorded:
            lines.append(
                f"{number(self.unrecorded, 'trial')} not done, or not in MLflow: run the same command again to go on"
            )
        return "\n".join(lines)


@dataclass(frozen=True, kw_only=True)
class _Account:
    """What the summary needs of a trial that ended: little, for there may be thousands."""

    name: str
    failed: str
    stopped: bool
    spent_s: float
    saved_s: float


class Recorder:
    """Which trials ended, and which of them are recorded."""

    def __init__(self, *, store: Store, tracking: Tracking, say: Say) -> None:
        self.store = store
        self._trials = 0
        self._stored: set[str] = set()
        self._missing: dict[str, Node] = {}
        self._tracking = tracking
        self._say = say
        self._start = time.monotonic()
        self._accounts: dict[str, _Account] = {}
        self._unlogged: dict[str, Record] = {}
        self._claimed: set[str] = set()
        self._logging = threading.Lock()
        self._quiet_until = 0.0
        self._broken: dict[str, str] = {}
        self._live = Live(store=store, tracking=tracking)

    def expect(self, trials: Sequence[Trial]) -> None:
        """Account for `trials` from now on, and show them as pending."""
        self._trials += len(trials)
        with suppress(ConnectionError):  # a run that is not there when its trial ends is made then
            for trial in trials:
                self._tracking.begin(trial)

    def add(self, plan: Plan) -> None:
        """Take in the stages of `plan`, which was made before any of them ran."""
        self._live.add(plan)
        self._missing |= {
            each: plan.nodes[each] for each in plan.reasons if each not in self._stored
        }
        found = plan.nodes.keys() - plan.reasons.keys() - self._stored - self._missing.keys()
        self._stored |= found
        self._broken |= self.store.faults(plan.nodes[fingerprint] for fingerprint in found)

    def broken(self, fingerprints: Collection[str]) -> bool:
        """Whether one of these artifacts is in the store, but is not what it should be."""
        return not self._broken.keys().isdisjoint(fingerprints)

    def hear(self, info: Json) -> None:
        """Show in MLflow what the scheduler tells of trials that have not ended, and what the
        server missed.
        """
        self._live.update(info)
        with suppress(ValueError, OSError):  # whoever ends the sweep gets the error
            self._log_missing()

    def end(
        self, trial: Trial, *, failed: Mapping[str, str], stopped: Stopped | None = None
    ) -> None:
        """Record a trial that ended, from the store; `stopped` by a gate, where it did not come to
        its last stage.
        """
        record = self._record(trial, failed, stopped)
        self._accounts[trial.identity] = self._account(record)
        self._unlogged[trial.identity] = record
        self._log_missing()

    def close(self, *, limit: str = "") -> Summary:
        """Log what could not be logged, end the sweep's run in MLflow, and sum up.

        Args:
            limit: the limit that kept trials from being launched.
        """
        accounts = self._accounts.values()
        failed = {account.name: account.failed for account in accounts if account.failed}
        unclaimed = list(self._unclaimed())
        left = self._trials - len(accounts)
        try:
            self._log_all()
            self._tracking.close(failed=bool(failed) or left > 0)
        except ConnectionError as error:
            self._say(f"warning: {error}")
        return Summary(
            trials=self._trials,
            failed=failed,
            unrecorded=len(self._unlogged) + (0 if limit else left),
            run=len(self._claimed) + len(unclaimed),
            reused=len(self._stored),
            wall_s=time.monotonic() - self._start,
            spent_s=sum(account.spent_s for account in accounts) + sum(unclaimed),
            saved_s=sum(account.saved_s for account in accounts),
            stopped=sum(account.stopped for account in accounts),
            left=left if limit else 0,
            limit=limit,
        )

    def _log_missing(self) -> None:
        """Log the trials that ended, unless the server was away a moment ago."""
        if time.monotonic() < self._quiet_until:
            return
        try:
            self._log_all()
        except ConnectionError as error:
            if not self._quiet_until:
                self._say(
                    f"warning: {error}; the sweep goes on, and what is missing is logged later"
                )
            self._quiet_until = time.monotonic() + PAUSE_S

    def _log_all(self) -> None:
        with self._logging:  # Tune's thread and the one that watches
            for record in list(self._unlogged.values()):
                self._tracking.log(record, store=self.store)
                del self._unlogged[record.trial.identity]

    def _unclaimed(self) -> Iterator[float]:
        """Seconds of each stage that ran and whose trials did not come to their end."""
        left = [
            node for fingerprint, node in self._missing.items() if fingerprint not in self._claimed
        ]
        with suppress(ValueError, OSError):  # a count is not worth an error here
            here = self.store.present(left)
            found = (self.store.manifest(node) for node in left if node.fingerprint in here)
            yield from (manifest.seconds for manifest in found if manifest is not None)

    def _record(self, trial: Trial, failed: Mapping[str, str], stopped: Stopped | None) -> Record:
        """What the store has of `trial`. Each fresh artifact counts as run for the first trial that
        ends with it.

        What is behind the gate that stopped it is left out, though another sweep may have made it:
        the record must not depend on what else was run."""
        manifests: dict[str, Manifest] = {}
        faults, reused = dict(failed), set[str]()
        last = ORDER[stopped[0]] if stopped else len(ORDER)
        for field, node in trial.nodes.items():
            if ORDER[field] > last:
                break
            try:
                manifest = self.store.manifest(node)
                # damaged ones are a fault of the stage, found before anything is written
                self.store.curves(node)
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
            if node.fingerprint in self._missing and node.fingerprint not in self._claimed:
                self._claimed.add(node.fingerprint)
            else:
                reused.add(field)
        return Record(
            trial=trial,
            manifests=manifests,
            reused=frozenset(reused),
            failed=faults,
            stopped=stopped,
        )

    @staticmethod
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
