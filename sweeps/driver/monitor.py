"""The driver's second thread: it asks the scheduler what happens, tells it, and sees to Ctrl-C."""

import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import ray
from ray.exceptions import RayError

from sweeps.cluster.stage_task import Json
from sweeps.driver.interrupt import Interrupt
from sweeps.progress.progress import Progress, State
from sweeps.progress.status import REWRITE_S, Status, write_status
from sweeps.store.store import Store
from sweeps.text import Say

POLL_S = 1.0
LEAVE_S = 2.0  # who stops a job may kill the driver three seconds later
STOPPING = (
    "stopping: nothing more starts; trainings go to their next step and write a checkpoint, other stages have a minute "
    "to end. Ctrl-C again ends all of them now"
)
Show = Callable[[Status], None]


class Telling:
    """Everything that the driver tells while it runs: lines, the live view, and the status in the
    store.
    """

    def __init__(self, progress: Progress, *, store: Store, say: Say, show: Show | None) -> None:
        self.progress, self.say = progress, say
        self._store, self._show = store, show
        self._wrote = float("-inf")

    def tell(self, state: State) -> None:
        """Show the status, and write it every few seconds and whenever `state` changes."""
        changed = state != self.progress.state
        self.progress.state = state
        status = self.progress.status()
        if self._show is not None:
            self._show(status)
        if changed or time.monotonic() - self._wrote > REWRITE_S:
            self._wrote = time.monotonic()
            with suppress(OSError):  # who asks for the status sees that it is old
                write_status(self._store, status)


@contextmanager
def watched(
    scheduler: Any,  # noqa: ANN401 - Ray types no actor handles
    telling: Telling,
    *,
    launched: Collection[str],
    hear: Callable[[Json], None],
) -> Iterator[None]:
    """Tell what happens from a thread of its own, which also sees to Ctrl-C: Tune holds the main
    one.

    Args:
        scheduler: the actor.
        telling: who tells it.
        launched: the ids under which trials ask for stages; it grows.
        hear: takes the scheduler's `info`, for the record.
    """
    stop = threading.Event()
    interrupt = Interrupt()
    seen = {"pid": 0, "id": 0}

    def poll() -> None:
        info = ray.get(scheduler.info.remote(seen["id"]), timeout=10 * POLL_S)
        # the actor came back after a crash and counts from the start
        if info["pid"] != seen["pid"]:
            info = ray.get(scheduler.info.remote(0), timeout=10 * POLL_S)
        news = [*info["events"], *info["points"]]
        seen.update(pid=info["pid"], id=max((item["id"] for item in news), default=seen["id"]))
        telling.progress.update(info)
        hear(info)

    def watch() -> None:
        told = False
        while not stop.wait(POLL_S):
            if interrupt.pressed and not told:
                told = True
                telling.say(STOPPING)
            with suppress(RayError):
                left = (
                    ray.get(scheduler.drain.remote(list(launched)), timeout=10 * POLL_S)
                    if interrupt.pressed
                    else 1
                )
                poll()
                if not left:
                    interrupt.press_again()
                    return
            telling.tell("stopping" if interrupt.pressed else "running")

    thread = threading.Thread(target=watch, daemon=True)

    def end(state: State) -> None:
        stop.set()
        thread.join(timeout=10 * POLL_S)  # it must not tell an older state later
        telling.tell(state)

    thread.start()
    try:
        with interrupt:
            yield
        stop.set()
        thread.join()
        with suppress(RayError):
            poll()
        end("ended")
    except (KeyboardInterrupt, SystemExit):  # see sweeps.driver.interrupt
        with suppress(RayError):  # who shares the store need not wait for the leases to expire
            ray.get(scheduler.leave.remote(list(launched), LEAVE_S), timeout=LEAVE_S + POLL_S)
        end("stopped")
        raise
    except BaseException:
        end("failed")
        raise
