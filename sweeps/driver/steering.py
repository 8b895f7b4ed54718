"""Wishes of a person (`sweeps control`) to the sweep of this driver, while it runs."""

import time
from collections.abc import Collection
from contextlib import suppress
from typing import Any

from occse.naming.counts import number
from sweeps.driver.concurrency import Concurrency
from sweeps.progress.control import Wishes, forget_wishes, read_wishes
from sweeps.progress.status import REWRITE_S
from sweeps.store.store import Store
from sweeps.text import Say


class Steering:
    """Reads the wishes every few seconds, and does what they say.

    Args:
        sweep: its name.
        key: under which the wishes to it lie, see `sweeps.progress.status.sweep_key`.
        store: where the wishes lie; no patient one, for the driver asks from its second thread.
        concurrency: decides how many trials run at a time.
        scheduler: the actor.
        running: ids under which the steps that run request stages; it changes.
        say: takes a line for every change.
    """

    def __init__(
        self,
        sweep: str,
        *,
        key: str,
        store: Store,
        concurrency: Concurrency,
        scheduler: Any,  # noqa: ANN401 - Ray types no actor handles
        running: Collection[str],
        say: Say,
    ) -> None:
        self._sweep = sweep
        self._key = key
        self._store = store
        self._concurrency = concurrency
        self._scheduler = scheduler
        self._running = running
        self._say = say
        self._wishes = Wishes()
        self._wanted = concurrency.wanted
        self._read = float("-inf")
        with suppress(OSError):
            forget_wishes(store, key)

    @property
    def paused(self) -> bool:
        """True while the sweep is paused."""
        return self._wishes.paused

    def turn(self) -> None:
        """Read the wishes if that was a while ago, and act on them."""
        if time.monotonic() - self._read < REWRITE_S:
            return
        self._read = time.monotonic()
        with suppress(OSError):  # the wishes hold until the store answers again
            self._hear(read_wishes(self._store, self._key))
        if self._wishes.paused:
            self._hold(paused=True)  # again: a scheduler that was restarted has forgotten it

    def _hear(self, wishes: Wishes) -> None:
        before = self._wishes
        self._wishes = wishes
        self._concurrency.paused = wishes.paused
        self._concurrency.wanted = wishes.max_concurrent or self._wanted
        if wishes.max_concurrent != before.max_concurrent:
            trials = "as many trials as fit"
            if wishes.max_concurrent is not None:
                trials = number(wishes.max_concurrent, "trial")
            self._say(f"{trials} at a time from now on, as asked for")
        if wishes.paused and not before.paused:
            self._say(
                "paused: nothing more starts, what runs goes on to its end; "
                f"`sweeps control {self._sweep} resume` goes on"
            )
        if before.paused and not wishes.paused:
            self._hold(paused=False)
            self._say("resumed")

    def _hold(self, *, paused: bool) -> None:
        # Fire and forget: the monitor asks the scheduler for news anyway, and tells if it is away.
        self._scheduler.pause.remote(list(self._running), paused=paused)
