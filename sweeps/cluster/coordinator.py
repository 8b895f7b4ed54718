"""Coordinator: a light process that requests the stages of many trials, each upstream first.

It holds no GPU and next to no CPU, gets plain data only, and does not import torch.
"""

import asyncio
import queue
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from ray import tune

from sweeps.cluster.head import HEAD
from sweeps.cluster.messages import Answer, AnswerState, StageRequest

# The scheduler answers at once when a stage ends; this is how often a hold is renewed until then.
WAIT_S = 5.0
# How often a coordinator reports though no step ended. A report is what the driver hands out more
# steps at, and it costs the driver some milliseconds.
REPORT_S = 0.5
# An input that is lost more often than this is not lost by accident.
MAX_LOSSES = 3

# Errors of a step's stages by field; an exception is a fault of the coordinator itself.
_End = tuple[str, Mapping[str, str] | BaseException]


class Coordinator(tune.Trainable):  # type: ignore[misc]  # Ray has no types
    """Sees the steps that it is given through to their ends, as one trial of Ray Tune.

    A step is a list of stages under an id. A stage's failure is not a failure of the coordinator,
    which Tune would only repeat: it ends the stages that need it, and the rest of the step goes on.

    No method may be a coroutine: Ray would then take calls out of order, and a report could miss
    the steps that were given before it."""

    @classmethod
    def default_resource_request(cls, config: Mapping[str, Any]) -> tune.PlacementGroupFactory:
        """Return a place on the head node."""
        # {"CPU": 0} is refused by Tune, and a whole CPU would be missing to the stages
        return tune.PlacementGroupFactory([dict(HEAD)])

    def setup(self, config: Mapping[str, Any], *, scheduler: Any = None) -> None:  # noqa: ANN401
        """Begin with no step at all."""
        self._held: set[str] = set()
        self._running = _RunningSteps(scheduler)

    def take(self, steps: Mapping[str, Sequence[StageRequest]]) -> None:
        """Take on steps, by id; the driver calls it between two reports."""
        for step, requests in steps.items():
            # The driver gives again what it believes to be lost.
            if step not in self._held:
                self._held.add(step)
                self._running.begin(step, requests)

    def step(self) -> dict[str, Any]:
        """Wait until a step ends, and report those that ended; report in vain where none does.

        Returns:
            `ended`: pairs of a step and the errors of its stages by field. `held`: how many steps
            are left, so that the driver sees when a new process has none of those that it gave.
        """
        ends = []
        with suppress(queue.Empty):
            ends.append(self._running.ended.get(timeout=REPORT_S))
            while True:  # all that have ended by now, for a report is dear
                ends.append(self._running.ended.get_nowait())
        for step, end in ends:
            if isinstance(end, BaseException):
                raise end  # Tune starts the coordinator again
            self._held.discard(step)
        return {"ended": ends, "held": len(self._held)}


class _RunningSteps:
    """Steps that go on in a thread of their own.

    Tune's calls block the main thread of a coordinator, and a driver that is busy comes back late:
    neither delays a stage here.

    Attributes:
        ended: steps that came to their ends, in order.
    """

    def __init__(self, scheduler: Any) -> None:  # noqa: ANN401 - an actor handle
        self.ended: queue.SimpleQueue[_End] = queue.SimpleQueue()
        self._scheduler = scheduler
        self._loop = asyncio.new_event_loop()
        # The event loop alone would let a task be collected before it ends.
        self._tasks: set[asyncio.Task[None]] = set()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()

    def begin(self, step: str, requests: Sequence[StageRequest]) -> None:
        """Let a step run, from another thread."""
        self._loop.call_soon_threadsafe(self._begin, step, requests)

    def _begin(self, step: str, requests: Sequence[StageRequest]) -> None:
        task = self._loop.create_task(self._see_through(step, requests))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _see_through(self, step: str, requests: Sequence[StageRequest]) -> None:
        try:
            end: Mapping[str, str] | BaseException = await self._stages(step, requests)
        # Without this the step would never end.
        except BaseException as error:
            end = error
        self.ended.put((step, end))

    async def _stages(self, step: str, requests: Sequence[StageRequest]) -> Mapping[str, str]:
        """Request the stages of a step until none is left; return the errors of those that failed.

        Raises:
            RayError: the scheduler is gone, and Ray does not start it again.
        """
        stages = TrialStages(requests)
        asked: dict[asyncio.Future[Answer], str] = {}
        while True:
            for request in stages.ready():
                reference = self._scheduler.ensure.remote(request, step, WAIT_S)
                asked[asyncio.ensure_future(reference)] = request.field
            if not asked:
                return stages.failed
            done, _ = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
            for answer in done:
                # A pending stage is forgotten here, so the next `ready` asks for it again; that
                # request renews the hold.
                stages.take(asked.pop(answer), answer.result())


class TrialStages:
    """Account of the stages of one trial: which can be requested, are done, or failed.

    Attributes:
        done: fields of the stages whose artifacts are there.
        failed: errors by field.
    """

    def __init__(self, requests: Sequence[StageRequest]) -> None:
        self.done: set[str] = set()
        self.failed: dict[str, str] = {}
        self._requests = requests
        self._asked: set[str] = set()
        self._losses: Counter[str] = Counter()

    def ready(self) -> Iterator[StageRequest]:
        """Yield the stages whose inputs are there and that are not requested yet."""
        for request in self._requests:
            over = request.field in self.done or request.field in self.failed
            waits = not self.done.issuperset(request.inputs)
            if not over and not waits and request.field not in self._asked:
                self._asked.add(request.field)
                yield request

    def take(self, field: str, answer: Answer) -> None:
        """Take the scheduler's answer to the request for the stage in `field`."""
        self._asked.discard(field)
        if answer.state is AnswerState.DONE:
            self.done.add(field)
        elif answer.state is AnswerState.FAILED:
            self.failed[field] = answer.error
        elif answer.state is AnswerState.INPUT_LOST:
            self._losses[field] += 1
            # the input is requested again, and this stage after it
            self.done.discard(answer.field)
            if self._losses[field] > MAX_LOSSES:
                self.failed[field] = f"its input {answer.field} is lost again and again"
