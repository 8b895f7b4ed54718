"""A stage from the first request to its end, as the scheduler keeps it. Imports no torch."""

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
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
from sweeps.cluster.policy import PATIENCE_S, Amounts, Waiting, most_at_once

# Of stages, in the order of the first request.
_ORDER = itertools.count()


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
        order: number in the order of the first requests.
        entry: number of the stage's last entry in `ReadyLine`; earlier ones mean nothing.
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
    order: int = field(default_factory=_ORDER.__next__)
    entry: int = -1
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

    def raise_to(self, request: StageRequest) -> bool:
        """Take over what is more urgent in another trial's request; return whether anything is."""
        path_s = max(self.request.path_s, request.path_s)
        cpus_per_gpu = max(self.request.cpus_per_gpu, request.cpus_per_gpu)
        if (path_s, cpus_per_gpu) == (self.request.path_s, self.request.cpus_per_gpu):
            return False
        self.request = replace(self.request, path_s=path_s, cpus_per_gpu=cpus_per_gpu)
        return True

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


class ReadyLine:
    """Stages that wait for a machine, in the order in which they may start.

    Thousands may wait, and the scheduler chooses at each end of a stage: a choice takes from here
    as many as could start at all, which on a busy cluster is one of each kind.
    """

    def __init__(self) -> None:
        # By sweep and kind, the longest path first; of equal paths the one that was asked first.
        # An entry whose stage was chosen, cancelled or entered again is dropped when it is met.
        self._heaps: dict[tuple[object, ...], list[tuple[float, int, int, StageRun, Waiting]]] = {}
        # when each stage that came in patient loses its patience, and is of another kind
        self._deadlines: list[tuple[float, int, StageRun]] = []
        self._count = itertools.count()

    def put(self, run: StageRun) -> None:
        """Take in a stage that waits from now on, or whose request changed."""
        stage = run.as_candidate()
        run.entry = next(self._count)
        entry = (-stage.path_s, run.order, run.entry, run, stage)
        heapq.heappush(self._heaps.setdefault((stage.sweep, *stage.kind), []), entry)
        if stage.is_patient:
            heapq.heappush(self._deadlines, (run.ready_at + PATIENCE_S, next(self._count), run))

    def candidates(
        self, free: Sequence[Amounts], *, wanted: Callable[[StageRun], bool]
    ) -> list[Waiting]:
        """Return the stages to choose from; none where no machine has room for any.

        Of each sweep and kind those that come first, one more than could start: the policy may
        reserve a machine for that one.

        Args:
            free: what each machine has left.
            wanted: tells whether a stage may start now.
        """
        self._lose_patience()
        found: list[tuple[int, Waiting]] = []
        has_room = False
        for key, heap in list(self._heaps.items()):
            most = most_at_once(heap[0][-1].needs, free)
            here = self._first(heap, 1 + most, wanted=wanted)
            if not heap:
                del self._heaps[key]
            has_room = has_room or bool(most and here)
            found += here
        return [stage for _, stage in sorted(found, key=lambda each: each[0])] if has_room else []

    def _first(
        self,
        heap: list[tuple[float, int, int, StageRun, Waiting]],
        number: float,
        *,
        wanted: Callable[[StageRun], bool],
    ) -> list[tuple[int, Waiting]]:
        """Return the first stages of a heap that are wanted, each with its place; all stay in."""
        kept = []
        found: list[tuple[int, Waiting]] = []
        while heap and len(found) < number:
            entry = heapq.heappop(heap)
            _, order, number_of_entry, run, stage = entry
            if not run.waits or run.entry != number_of_entry:
                continue
            kept.append(entry)
            if wanted(run):
                found.append((order, stage))
        for entry in kept:
            heapq.heappush(heap, entry)
        return found

    def _lose_patience(self) -> None:
        """Put each stage whose patience has ended among those of its new kind."""
        now = time.monotonic()
        while self._deadlines and self._deadlines[0][0] <= now:
            _, _, run = heapq.heappop(self._deadlines)
            if run.waits:
                self.put(run)
