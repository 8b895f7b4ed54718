"""The scheduler: one named actor that runs every distinct fingerprint once in the whole cluster.

Trials never submit a stage: Tune would keep it inside the trial's own placement group. They request
it from the actor, which starts a stage for the first trial and lets the others join. A request also
renews the trial's hold on the stage; a stage that no trial holds any more is cancelled. Ray has no
priorities: a stage that finds no room yet waits here, and `sweeps.cluster.policy` chooses what goes
to which machine next. The actor can be rebuilt from the store at any moment: after a crash Ray
starts it again, the trials ask again, and what was published is found.

One task runs each stage, from the lease on the store to the end. An exception in it ends the stage
as failed, so that no stage waits forever.

This module is imported by the actor and by every trial, so it must not import torch (nor stages) at
the top."""

import asyncio
import itertools
import json
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sweeps.cluster.code_version import short_digest, source_digest
from sweeps.cluster.head import HEAD, NAMESPACE
from sweeps.cluster.messages import (
    Answer,
    AnswerState,
    CurvePoint,
    EventKind,
    News,
    OutcomeKind,
    SchedulerSettings,
    StageEvent,
    StageOutcome,
    StageRequest,
    Worker,
)
from sweeps.cluster.policy import choose
from sweeps.cluster.stage_run import ReadyLine, StageRun, StageState
from sweeps.cluster.stage_task import died_too_often, explain, stage_task
from sweeps.cluster.view import SCHEDULER, Account, ClusterView, account_of
from sweeps.store.leases import RENEW_S, Leases
from sweeps.store.patience import may_pass, pauses
from sweeps.store.stop_file import stop_file
from sweeps.store.store import Store

# A coordinator that was killed needs up to half a minute until it asks again.
HOLD_S = 60.0
# A cancelled stage has this long to tidy up; then its process is killed.
GRACE_S = 10.0
# Each tick asks Ray which machines are alive; once a second costs it nothing.
TICK_S = 1.0
# A stage of another cluster takes minutes; looking more often costs an object store requests.
ELSEWHERE_S = 2.0
# A stage that reports a failing store more often, though the store answers the scheduler, has
# another fault, such as a failing disk with the user's data.
MAX_OUTAGES = 5
# The driver asks every second; this many cover the longest time that it may be stuck.
MAX_EVENTS = 10_000


class Scheduler:
    """The actor. Its messages are those of `sweeps.cluster.messages`."""

    def __init__(self, settings: SchedulerSettings) -> None:
        self._settings = settings
        self._runs: dict[str, StageRun] = {}
        self._line = ReadyLine()
        self._failures: dict[str, str] = {}
        self._events: deque[StageEvent] = deque(maxlen=MAX_EVENTS)
        self._points: deque[CurvePoint] = deque(maxlen=MAX_EVENTS)
        self._ids = itertools.count(1)
        self._drained: set[str] = set()
        self._paused: set[str] = set()
        self._view = ClusterView(autoscaling=settings.autoscaling)
        self._ticker: asyncio.Task[None] | None = None
        self._background: set[asyncio.Task[None]] = set()
        self._store = Store(settings.root)
        context = ray.get_runtime_context()
        # an actor that comes back after a crash has the same names, and so its leases
        self._owner = f"{context.get_node_id()}:{context.get_actor_id()}"
        self._leases = Leases(self._store.files, owner=self._owner)
        self._renewed = time.monotonic()

    async def begin(self) -> None:
        """Forget failures: a new sweep may try again what failed for an earlier one."""
        self._failures.clear()

    async def ensure(self, request: StageRequest, trial: str, wait: float) -> Answer:
        """Hold the stage of `request` for `trial`, and wait up to `wait` seconds for its end."""
        run = self._runs.get(request.fingerprint)
        if run is None:
            # The store first, then the failures: another cluster may have made what failed here.
            if await self._is_stored(request):
                return Answer(state=AnswerState.DONE)
            if (error := self._failures.get(request.fingerprint)) is not None:
                return Answer(state=AnswerState.FAILED, error=error)
            # An error would be recorded for the trial; without the wait it would ask again at once.
            if trial in self._drained:
                await asyncio.sleep(wait)
                return Answer(state=AnswerState.PENDING)
            # another trial may have asked while the store was read
            run = self._runs.get(request.fingerprint) or self._start(request)
        # a stage that is being cancelled cannot be joined: let it end, then start anew
        if run.cancelled is None and trial not in self._drained:
            # Renewed by each request: the hold of a trial whose process died runs out by itself.
            run.holds[trial] = time.monotonic() + wait + HOLD_S
            # thousands of requests are renewed every few seconds, and few change anything
            if run.raise_to(request) and run.waits:
                self._line.put(run)
        with suppress(TimeoutError):
            await asyncio.wait_for(run.ended.wait(), wait)
        return run.answer()

    async def release(self, trial: str) -> None:
        """Give up everything that `trial` holds."""
        for run in self._runs.values():
            run.holds.pop(trial, None)

    async def leave(self, trials: Collection[str], wait: float) -> None:
        """End now the stages that only `trials` hold, and give their leases back within `wait` s.

        Stages still running after `wait` are killed; another cluster may then take the lease, and
        of two that made an artifact the first to publish wins."""
        self._drained |= set(trials)  # their processes may ask once more before they end
        for trial in trials:
            await self.release(trial)
        self._cancel_unwanted()
        left = [run for run in self._runs.values() if run.cancelled is not None]
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.gather(*(run.ended.wait() for run in left)), wait)
        for run in left:
            with suppress(OSError):  # the lease expires by itself
                await asyncio.to_thread(self._leases.release, run.fingerprint)

    async def drain(self, trials: Collection[str]) -> int:
        """Start nothing more for `trials`, and ask stages that only they hold to stop.

        Their holds are not renewed any more, so that a stage without checkpoints is cancelled about
        a minute later.

        Returns:
            How many of these stages have not ended yet.
        """
        self._drained |= set(trials)
        left = [
            run for run in self._runs.values() if run.holds and run.holds.keys() <= self._drained
        ]
        for run in left:
            if run.worker is None:
                self._cancel(run)
            else:
                # while the store is away the driver's next call, a second later, tries again
                with suppress(OSError):
                    name = stop_file(run.fingerprint)
                    await asyncio.to_thread(self._store.files.write, name, b"")
        return len(left)

    async def pause(self, trials: Collection[str], *, paused: bool) -> None:
        """Start no stage that only paused trials hold; what runs goes on."""
        self._paused = self._paused | set(trials) if paused else self._paused - set(trials)

    async def account(self) -> Account:
        """Return the stages on machines, and those that wait for one, for other schedulers."""
        ready = [run.as_candidate() for run in self._wanted() if run.waits]
        return account_of(self._runs.values(), ready)

    async def started(self, fingerprint: str, worker: Worker) -> None:
        """Note the worker that begins a stage; Ray retries one whose worker died with another."""
        if (run := self._runs.get(fingerprint)) is not None and run.ref is not None:
            run.starts += 1
            if run.starts > self._settings.max_starts:
                # Ray's own bound is that of the head's environment, which others may have made
                ray.cancel(run.ref, force=True)
                return
            if run.worker is not None:
                self._event(EventKind.RETRIED, run)
            run.state = StageState.RUNNING
            run.worker = worker
            run.since = time.monotonic()
            run.machine = worker.node  # Ray takes another machine where the chosen one has no room

    async def report(self, fingerprint: str, values: dict[str, float], at_ms: int) -> None:
        """Take the means of an epoch from a worker; a resumed stage may repeat a step."""
        if fingerprint in self._runs:
            point = CurvePoint(
                id=next(self._ids), fingerprint=fingerprint, values=values, at_ms=at_ms
            )
            self._points.append(point)

    async def news(self, after: int = 0) -> News:
        """Return what happened since the event or point `after`, and how everything stands."""
        running = [run for run in self._runs.values() if run.worker is not None]
        waiting = [run for run in self._runs.values() if run.worker is None]
        return News(
            pid=os.getpid(),
            events=tuple(event for event in self._events if event.id > after),
            points=tuple(point for point in self._points if point.id > after),
            running=tuple(run.as_active() for run in running),
            waiting=tuple(run.as_waiting() for run in waiting),
            unmet=tuple(sorted(set(self._view.unmet(waiting)))),
        )

    async def _is_stored(self, request: StageRequest) -> bool:
        try:
            return await asyncio.to_thread(self._store.has, request.kind, request.fingerprint)
        except OSError:  # the stage's own task waits for the store
            return False

    def _start(self, request: StageRequest) -> StageRun:
        run = self._runs[request.fingerprint] = StageRun(request=request)
        if self._ticker is None:
            self._view.look()
            self._ticker = asyncio.create_task(self._tick())
        run.task = asyncio.create_task(self._see_through(run))
        return run

    async def _see_through(self, run: StageRun) -> None:
        """Run a stage to its end, and end it as failed on any exception."""
        try:
            outcome = await self._lease(run) or await self._run(run)
        except Exception as error:
            logging.exception("stage %s", run.fingerprint)
            outcome = StageOutcome(kind=OutcomeKind.FAILED, text=explain(error))
        self._end(run, outcome)
        self._submit_ready()

    async def _lease(self, run: StageRun) -> StageOutcome | None:
        """Take the lease on a stage; wait while another cluster runs it, or the store is away.

        Returns:
            None once the lease is ours; an outcome where the stage need not run here any more.
        """
        kind = run.request.kind
        fingerprint = run.fingerprint
        patience = pauses()
        while run.cancelled is None:
            pause = ELSEWHERE_S
            try:
                # Lease before look: between a look and the lease another cluster could publish, and
                # a machine would be taken for an artifact that is there.
                holder = await asyncio.to_thread(self._leases.take, fingerprint)
                manifest = await asyncio.to_thread(self._store.peek, kind, fingerprint)
                if manifest is not None:
                    seconds = manifest.get("seconds", 0.0)
                    return StageOutcome(kind=OutcomeKind.DONE, seconds=seconds)
                if holder is None:
                    # a stop file of an earlier attempt must not end this one
                    await asyncio.to_thread(self._store.files.remove, stop_file(fingerprint))
                    run.ready()
                    return None
                if run.state is not StageState.ELSEWHERE:
                    self._event(EventKind.ELSEWHERE, run, text=holder.host)
                run.state = StageState.ELSEWHERE
                run.detail = holder.host
                patience = pauses()
            except OSError as error:
                if not may_pass(error):  # such as a full disk: the stage's own error names it
                    run.ready()
                    return None
                if (pause := next(patience, 0.0)) == 0.0:
                    raise
                self._store_is_away(run, str(error))
            with suppress(TimeoutError):
                await asyncio.wait_for(run.wake.wait(), pause)
        return StageOutcome(kind=OutcomeKind.CANCELLED)

    def _store_is_away(self, run: StageRun, error: str) -> None:
        if run.state is not StageState.STORE_AWAY:
            self._event(EventKind.STORE_AWAY, run, text=error)
        run.state = StageState.STORE_AWAY
        run.detail = error

    async def _run(self, run: StageRun) -> StageOutcome:
        """Wait for a machine and run the stage there; again in parts where GPU memory is short."""
        while True:
            self._line.put(run)
            self._submit_ready()
            await run.wake.wait()
            if run.cancelled is not None:
                return StageOutcome(kind=OutcomeKind.CANCELLED)
            run.state = StageState.SUBMITTED
            run.ref = self._submit(run)
            try:
                outcome: StageOutcome = await run.ref
            except (RayError, asyncio.CancelledError) as error:
                if run.cancelled is not None:
                    return StageOutcome(kind=OutcomeKind.CANCELLED)
                most = self._settings.max_starts
                text = died_too_often(most) if run.starts > most else explain(error)
                return StageOutcome(kind=OutcomeKind.FAILED, text=text)
            if run.cancelled is not None:
                return outcome
            if outcome.kind is OutcomeKind.TOO_LARGE:
                self._event(EventKind.SPLIT, run, text=outcome.text)
                run.request = replace(run.request, parts=2 * run.request.parts)
                run.wait_at_machine()
            elif outcome.kind is OutcomeKind.STORE_AWAY and run.outages < MAX_OUTAGES:
                run.outages += 1
                run.wait_at_machine()
                self._store_is_away(run, outcome.text)
                # the lease is ours already: this waits until the store answers again
                elsewhere = await self._lease(run)
                if elsewhere is not None:
                    return elsewhere
            else:
                return outcome

    def _submit_ready(self) -> None:
        """Choose machines for what has room now; the rest can still be overtaken here."""
        placed = [run for run in self._runs.values() if run.machine]
        free = self._view.free(placed)
        ready = self._line.candidates(free, wanted=lambda run: run.wanted(self._paused))
        if not ready:
            return
        names = list(self._view.machines)
        chosen = choose(
            [*ready, *self._view.others],
            free,
            totals=list(self._view.machines.values()),
            # For GPU stages to come: a GPU idles where CPU stages took every core beside it.
            kept=max(run.request.cpus_per_gpu for run in self._runs.values()),
            growing=self._settings.autoscaling,
            held=self._view.held(placed),
        )
        for stage, index in chosen:
            # a stage of another scheduler is none of ours; that one starts it
            if (run := self._runs.get(stage.fingerprint)) is not None:
                # taken at once: the next choice must not give the same room away again
                run.machine = names[index]
                run.wake.set()

    def _wanted(self) -> list[StageRun]:
        return [run for run in self._runs.values() if run.wanted(self._paused)]

    def _submit(self, run: StageRun) -> Any:  # noqa: ANN401 - Ray types no references
        actor = ray.get_runtime_context().current_actor
        # Leaves any placement group that the caller may be captured in. Where the machine died, or
        # is taken by others, Ray finds another one.
        where = NodeAffinitySchedulingStrategy(run.machine, soft=True, _spill_on_unavailable=True)
        name = f"{run.request.field}:{run.fingerprint[:8]}"
        task = stage_task(run.request).options(name=name, scheduling_strategy=where)
        return task.remote(run.request, self._settings, actor)

    def _end(self, run: StageRun, outcome: StageOutcome) -> None:
        run.state = StageState.ENDED
        run.outcome = outcome
        del self._runs[run.fingerprint]
        self._in_background(self._leases.release, run.fingerprint)  # no harm if it is not ours
        if outcome.event is EventKind.FAILED:
            self._failures[run.fingerprint] = outcome.text
        self._event(outcome.event, run, seconds=outcome.seconds, text=outcome.text)
        run.ended.set()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            try:
                self._cancel_unwanted()
                self._renew()  # first: whatever fails below, no lease may run out
                self._view.look()
                await self._view.meet(self._runs)
                # not for a paused sweep: its machines would idle, and be paid for
                self._view.demand(self._wanted(), owner=self._owner)
                self._submit_ready()
            # such as the cluster's head not answering for a moment: there is a next time
            except Exception:
                logging.exception("one turn of the scheduler failed; the next follows")

    def _cancel_unwanted(self) -> None:
        """Cancel stages that no trial holds: first with time to tidy up, then by force."""
        now = time.monotonic()
        for run in list(self._runs.values()):
            if run.cancelled is None:
                if all(deadline < now for deadline in run.holds.values()):
                    self._cancel(run)
            elif run.ref is not None and now > run.cancelled + GRACE_S:
                ray.cancel(run.ref, force=True)

    def _cancel(self, run: StageRun) -> None:
        if run.cancelled is None:
            run.cancelled = time.monotonic()
            run.wake.set()  # the stage's own task ends it where nothing was submitted yet
            if run.ref is not None:
                ray.cancel(run.ref)

    def _renew(self) -> None:
        """Renew the leases in time; otherwise another cluster takes the stages over."""
        if time.monotonic() > self._renewed + RENEW_S:
            self._renewed = time.monotonic()
            for run in self._runs.values():
                # A cancelled stage is not renewed: if it hangs, its lease must run out for others.
                if run.leased and run.cancelled is None:
                    self._in_background(self._leases.renew, run.fingerprint)

    def _in_background(self, call: Callable[[str], None], fingerprint: str) -> None:
        """Write to the store in a thread, so that no stage waits for a slow object store.

        A lease that cannot be renewed is renewed at the next turn; one that cannot be released
        expires. Both may cost time and change no number."""

        async def write() -> None:
            try:
                await asyncio.to_thread(call, fingerprint)
            except OSError as error:
                logging.warning("the lease of %s: %s", fingerprint, error)

        task = asyncio.create_task(write())
        self._background.add(task)  # the event loop alone would let it be collected
        task.add_done_callback(self._background.discard)

    def _event(
        self, kind: EventKind, run: StageRun, *, seconds: float = 0.0, text: str = ""
    ) -> None:
        event = StageEvent(
            id=next(self._ids),
            kind=kind,
            field=run.request.field,
            fingerprint=run.fingerprint,
            seconds=seconds,
            text=text,
        )
        self._events.append(event)


def connect(settings: SchedulerSettings) -> Any:  # noqa: ANN401 - Ray types no actor handles
    """Return the cluster's scheduler for these settings, started if there is none.

    Its name carries the settings and the source code: a detached actor goes on running the code it
    was started with."""
    # On the head, so that it dies with no worker machine. A request that met a crash is repeated to
    # the new actor. Each waiting `ensure` takes one of the concurrent calls.
    actor = ray.remote(
        num_cpus=0, resources=HEAD, max_restarts=-1, max_task_retries=-1, max_concurrency=10_000
    )(Scheduler)
    text = json.dumps(asdict(settings), sort_keys=True)
    name = f"{SCHEDULER}{short_digest(text, source_digest())}"
    options = {"name": name, "namespace": NAMESPACE, "lifetime": "detached", "get_if_exists": True}
    return actor.options(**options, scheduling_strategy="DEFAULT").remote(settings)
