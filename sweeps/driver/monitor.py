"""The driver's second thread: it asks the scheduler what happens, tells it, and sees to Ctrl-C."""

import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import ray
from ray.exceptions import RayError

from sweeps.cluster.messages import News
from sweeps.driver.interrupt import Interrupt
from sweeps.driver.steering import Steering
from sweeps.driver.watchdog import Watchdog
from sweeps.progress.progress import Progress, State
from sweeps.progress.prometheus import Exported
from sweeps.progress.status import REWRITE_S, Status, write_status
from sweeps.store.store import Store
from sweeps.text import Say

# The live view shows seconds.
POLL_S = 1.0
# A scheduler under load answers late; one that takes longer than this is restarting.
ANSWER_S = 10.0
# Slurm and Kubernetes may kill the driver three seconds after the SIGTERM.
LEAVE_S = 2.0
STOPPING = (
    "stopping: nothing more starts; trainings go to their next step and write a checkpoint, "
    "other stages have a minute to end. Ctrl-C again ends all of them now"
)
Show = Callable[[Status], None]


class Telling:
    """Everything that the driver tells while it runs: lines, the live view, the status file, and
    metrics. Made while Ray is connected.
    """

    def __init__(self, progress: Progress, *, store: Store, say: Say, show: Show | None) -> None:
        self.progress = progress
        self.say = say
        self.store = store
        self._show = show
        self._wrote = float("-inf")
        self._metrics = Exported()

    def tell(self, state: State) -> None:
        """Show the status, and write it every few seconds and whenever `state` changes."""
        changed = state != self.progress.state
        self.progress.state = state
        status = self.progress.status()
        if self._show is not None:
            self._show(status)
        if changed or time.monotonic() - self._wrote > REWRITE_S:
            self._wrote = time.monotonic()
            self._metrics.show(status)
            # `sweeps status` says how old the file is
            with suppress(OSError):
                write_status(self.store, status)


class Monitor:
    """Polls the scheduler until it is told to stop.

    Args:
        scheduler: the actor.
        telling: tells what happens.
        running: ids under which the steps that run request stages; it changes.
        hear: takes the scheduler's news, for the record.
        steering: acts on what a person asks for.
    """

    def __init__(
        self,
        scheduler: Any,  # noqa: ANN401 - Ray types no actor handles
        telling: Telling,
        *,
        running: Collection[str],
        hear: Callable[[News], None],
        steering: Steering,
    ) -> None:
        self._scheduler = scheduler
        self._telling = telling
        self._running = running
        self._hear = hear
        self._steering = steering
        self._watchdog = Watchdog()
        self._pid = self._last = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._failed = False
        self.interrupt = Interrupt()

    def start(self) -> None:
        """Begin to poll, in a thread of its own: Tune holds the main one."""
        self._thread.start()

    def stop(self) -> None:
        """End polling: after it nothing tells an older state."""
        self._stop.set()
        self._thread.join(timeout=ANSWER_S)

    def poll(self) -> None:
        """Take the news since the last poll, tell them, and hand them on for the record.

        Raises:
            RayError: the scheduler does not answer.
        """
        news: News = ray.get(self._scheduler.news.remote(self._last), timeout=ANSWER_S)
        if news.pid != self._pid:
            # the actor came back after a crash and counts from the start
            self._pid = news.pid
            self._last = 0
            news = ray.get(self._scheduler.news.remote(0), timeout=ANSWER_S)
        ids = [event.id for event in news.events] + [point.id for point in news.points]
        self._last = max(ids, default=self._last)
        self._telling.progress.update(news)
        still = self._watchdog.look(news)
        # a paused sweep stands still because somebody wants it to
        if not self._steering.paused:
            self._say(still)
        self._hear(news)

    def leave(self) -> None:
        """Give back what the trials hold, so that others need not wait for it to expire."""
        with suppress(RayError):
            left = self._scheduler.leave.remote(list(self._running), LEAVE_S)
            ray.get(left, timeout=LEAVE_S + POLL_S)

    def _watch(self) -> None:
        asked_to_stop = False
        while not self._stop.wait(POLL_S):
            if self.interrupt.pressed and not asked_to_stop:
                asked_to_stop = True
                self._telling.say(STOPPING)
            try:
                if self._turn():
                    self.interrupt.press_again()
                    return
            except RayError as error:
                self._say(self._watchdog.miss(error))
            # without this an error would end the thread, and with it every word about the sweep
            except Exception as error:
                if not self._failed:
                    self._say(f"warning: {type(error).__name__}: {error}; the sweep goes on")
                self._failed = True
            # also while the scheduler is away, or `sweeps status` would call the driver dead
            self._telling.tell(self._state())

    def _state(self) -> State:
        if self.interrupt.pressed:
            return "stopping"
        return "paused" if self._steering.paused else "running"

    def _turn(self) -> bool:
        """Poll once; return whether the sweep was interrupted and all its stages have ended."""
        # Not 0: before the interruption nothing may look as if all stages had ended.
        left = 1
        self._steering.turn()
        if self.interrupt.pressed:
            left = ray.get(self._scheduler.drain.remote(list(self._running)), timeout=ANSWER_S)
        self.poll()
        return left == 0

    def _say(self, line: str) -> None:
        if line:
            self._telling.say(line)


@contextmanager
def watched(
    scheduler: Any,  # noqa: ANN401 - Ray types no actor handles
    telling: Telling,
    *,
    running: Collection[str],
    hear: Callable[[News], None],
    steering: Steering,
) -> Iterator[None]:
    """Tell what happens while the block runs, and how it ended; arguments as for `Monitor`."""
    monitor = Monitor(scheduler, telling, running=running, hear=hear, steering=steering)
    monitor.start()
    try:
        # The handler is put back before the end is told, so that a Ctrl-C then acts as usual.
        with monitor.interrupt:
            yield
        monitor.stop()
        with suppress(RayError):
            monitor.poll()
        telling.tell("ended")
    except (KeyboardInterrupt, SystemExit):  # see sweeps.driver.interrupt
        monitor.leave()
        monitor.stop()
        telling.tell("stopped")
        raise
    except BaseException:
        monitor.stop()
        telling.tell("failed")
        raise
