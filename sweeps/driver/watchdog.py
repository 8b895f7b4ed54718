"""Says why a sweep stands still.

A sweep that waits is often right to wait, but nobody should have to guess for what."""

import time
from collections import Counter
from collections.abc import Callable

from sweeps.cluster.messages import News
from sweeps.text import duration

# Longer than the start of a machine or of a busy worker, shorter than the patience of a person.
STILL_S = 300.0
# A line for each of thousands of waiting stages would hide the reason.
MOST_REASONS = 4


class Watchdog:
    """Notes when something moved last, and explains a standstill.

    Args:
        clock: seconds of a monotonic clock.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._moved = self._told = clock()
        self._running: frozenset[str] = frozenset()

    def look(self, news: News) -> str:
        """Take the scheduler's news; return a line where nothing moved for long, else nothing."""
        running = frozenset(stage.fingerprint for stage in news.running)
        if news.events or news.points or running != self._running:
            self._moved = self._clock()
        self._running = running
        return self._line(_reason(news))

    def miss(self, error: Exception) -> str:
        """Take that the scheduler did not answer; return a line where that goes on for long."""
        first = str(error).strip().splitlines()[:1]
        return self._line(f"the scheduler does not answer ({' '.join(first)[:200]})")

    def _line(self, reason: str) -> str:
        now = self._clock()
        # Once per `STILL_S`, not with each look, which comes every second.
        if now - max(self._moved, self._told) < STILL_S:
            return ""
        self._told = now
        return f"nothing has moved for {duration(now - self._moved)}, because {reason}"


def _reason(news: News) -> str:
    if news.running:
        stages = [
            f"{stage.field} {stage.fingerprint[:8]} runs for {duration(stage.seconds)} "
            f"(process {stage.worker.pid} on node {stage.worker.node[:8]})"
            for stage in news.running[:MOST_REASONS]
        ]
        return "; ".join(stages)
    if not news.waiting:
        return "no trial asks for a stage: Ray has not started the trials' coordinators"
    counts = Counter(stage.why for stage in news.waiting)
    reasons = [f"{why} ({count} waiting)" for why, count in counts.most_common(MOST_REASONS)]
    if news.unmet:
        reasons.append(f"no machine of the cluster has {' or '.join(news.unmet)}")
    return "; ".join(reasons)
