"""A stage from the first request to its end, as the scheduler keeps it. Imports no torch."""

import asyncio
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from sweeps.cluster.messages import (
    ActiveStage,
    Answer,
    AnswerState,
    OutcomeKind,
    StageOutcome,
    StageRequest,
    WaitingStage,
    Worker,
)
from sweeps.cluster.policy import PATIENCE_S, Waiting


class StageState(Enum):
    """State of a stage between the first request and its end."""

    #: It asks the store for the lease.
    LEASING = "the store has not given the lease yet"
    #: The store does not answer, and is asked again.
    STORE_AWAY = "the store does not answer"
    #: Another cluster has the lease.
    ELSEWHERE = "another cluster runs it"
    #: The lease is ours; no machine has room yet.
    READY = "no machine has room"
    #: Ray starts a process for it.
    SUBMITTED = "Ray starts a process for it"
    #: A worker runs it.
    RUNNING = "it runs"
    #: It has an outcome.
    ENDED = "it ended"


@dataclass(kw_only=True, eq=False)
class StageRun:
    """A stage from the first request to its end.

    Attributes:
        holds: until when each trial wants the stage, in seconds of the monotonic clock.
        ready_at: since when it waits for a machine.
        machine: Ray's id of the node that it is to run on; empty before one is chosen.
        ref: Ray's reference to the task, once it is submitted.
        worker: process that runs it, and since when; None until it reports.
        cancelled: when the last trial left; None while one wants the stage.
        starts: how often a worker began it since it was submitted.
        outages: how many attempts ended because the store did not answer.
        wake: set when a machine is chosen or the stage is cancelled.
        detail: the state's circumstance: the other cluster's host, or the store's error.
    """

    request: StageRequest
    state: StageState = StageState.LEASING
    detail: str = ""
    holds: dict[str, float] = field(default_factory=dict)
    machine: str = ""
    ref: Any = None
    worker: Worker | None = None
    since: float = 0.0
    ready_at: float = 0.0
    cancelled: float | None = None
    starts: int = 0
    outages: int = 0
    outcome: StageOutcome | None = None
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    task: "asyncio.Task[None] | None" = None
    _candidate: tuple[StageRequest, Waiting] | None = None

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the stage's artifact."""
        return self.request.fingerprint

    @property
    def leased(self) -> bool:
        """True while this cluster has the lease."""
        return self.state in (StageState.READY, StageState.SUBMITTED, StageState.RUNNING)

    def wanted(self, paused: Collection[str]) -> bool:
        """Tell whether a trial that is not in `paused` holds it, or a machine has it already."""
        return bool(self.machine) or not all(trial in paused for trial in self.holds)

    @property
    def waits(self) -> bool:
        """True while no machine is chosen for it, though it may start."""
        return self.state is StageState.READY and not self.machine and self.cancelled is None

    def answer(self) -> Answer:
        """Return what a trial that asked for the stage is told."""
        outcome = self.outcome
        # A trial that still asks did not want that end: told "pending", it asks again, and the
        # stage starts anew. As a failure it would be recorded as the trial's.
        if outcome is None or outcome.kind in (OutcomeKind.STOPPED, OutcomeKind.CANCELLED):
            return Answer(state=AnswerState.PENDING)
        if outcome.kind is OutcomeKind.DONE:
            return Answer(state=AnswerState.DONE)
        if outcome.kind is OutcomeKind.INPUT_LOST:
            return Answer(state=AnswerState.INPUT_LOST, field=outcome.text)
        return Answer(state=AnswerState.FAILED, error=outcome.text)

    def as_candidate(self) -> Waiting:
        """Return the stage as the policy sees it; how long it waited is exact to its patience."""
        waited_s = time.monotonic() - self.ready_at
        known = self._candidate
        # Asked for at each turn of the scheduler, of thousands of stages.
        if known is not None and known[0] is self.request:
            candidate = known[1]
            if candidate.is_patient == (waited_s < PATIENCE_S):
                return candidate
        candidate = Waiting(
            fingerprint=self.fingerprint,
            needs=self.request.needs,
            path_s=self.request.path_s,
            waited_s=waited_s,
            sweep=self.request.sweep,
            weight=self.request.weight,
        )
        self._candidate = (self.request, candidate)
        return candidate

    def as_active(self) -> ActiveStage:
        """Return the stage as the driver sees it while a worker runs it."""
        assert self.worker is not None
        return ActiveStage(
            field=self.request.field,
            fingerprint=self.fingerprint,
            worker=self.worker,
            seconds=time.monotonic() - self.since,
        )

    def as_waiting(self) -> WaitingStage:
        """Return the stage as the driver sees it while no worker runs it."""
        why = f"{self.state.value}: {self.detail}" if self.detail else self.state.value
        return WaitingStage(field=self.request.field, fingerprint=self.fingerprint, why=why)

    def ready(self) -> None:
        """Join the stages that wait for a machine."""
        self.state = StageState.READY
        self.ready_at = time.monotonic()

    def wait_at_machine(self) -> None:
        """Go back to the stages that wait for a machine."""
        self.state = StageState.READY
        self.ref = None
        self.machine = ""
        self.worker = None
        self.starts = 0
        # Without this the stage would run on before a machine is chosen for the new attempt.
        self.wake.clear()
