"""What a person reads while a sweep runs: what finished, what runs, what is left, and when it ends."""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from statistics import median

from sweeps.planning import Plan
from sweeps.spec import Trial
from sweeps.words import duration
from sweeps.worker import Json

HEARTBEAT_S = 30.0
Say = Callable[[str], None]


class Progress:
    """Turns the scheduler's events into lines.

    Args:
        plan: the plan of the sweep, made before anything ran.
        durations: median seconds by stage class, as far as they are known.
        shares: part of the whole cluster that a stage occupies, by fingerprint.
        say: takes a line.
    """

    def __init__(self, plan: Plan, *, durations: Mapping[str, float], shares: Mapping[str, float], say: Say) -> None:
        self._say = say
        self._nodes = plan.nodes
        self._users: dict[str, list[str]] = defaultdict(list)
        for trial in plan.trials:
            for fingerprint in dict.fromkeys(node.fingerprint for node in trial.nodes.values()):
                self._users[fingerprint].append(trial.name)
        self._stored = plan.nodes.keys() - plan.reasons.keys()
        self._done = set(self._stored)
        self._failed: set[str] = set()
        self._running: list[Json] = []
        self._known = durations
        self._seconds: dict[str, list[float]] = defaultdict(list)
        self._shares = shares
        self._start = self._spoke = time.monotonic()
        self._lock = threading.Lock()

    def update(self, info: Json) -> None:
        """Tell what happened, from the scheduler's `info`; its events may be of other sweeps too."""
        with self._lock:
            self._running = [stage for stage in info["running"] if stage["fingerprint"] in self._nodes]
            for event in info["events"]:
                if event["fingerprint"] in self._nodes:
                    self._tell(event)
            if time.monotonic() - self._spoke > HEARTBEAT_S:
                self._line("running", ", ".join(self._describe_running()) or "nothing yet, waiting for the cluster")
                for needs in info["unmet"]:
                    self._line("waiting", f"no machine of the cluster has {needs}; stages that ask for it wait for one")

    def settle(self, trial: Trial) -> None:
        """A trial ended well: its stages are done, whether or not the scheduler lived to tell."""
        with self._lock:
            self._done |= {node.fingerprint for node in trial.nodes.values()}

    def _tell(self, event: Json) -> None:
        fingerprint, what = event["fingerprint"], event["what"]
        stage = f"{event['field']:<9} {fingerprint[:8]}"
        if what == "done":
            self._done.add(fingerprint)
            self._seconds[self._nodes[fingerprint].kind].append(event["seconds"])
            self._line("done", f"{stage} {duration(event['seconds']):>7}   ({self._for_whom(fingerprint)})")
        elif what == "failed":
            self._failed.add(fingerprint)
            self._line("FAILED", f"{stage} {event['error']}   ({self._for_whom(fingerprint)})")
        elif what == "again":
            self._line("again", f"{stage} its process died; it goes on from its checkpoint")
        elif what == "stopped":
            self._line("stopped", f"{stage} at its checkpoint")
        elif what == "split":
            self._line("again", f"{stage} the GPU's memory was too small; each batch in parts now: {event['error']}")
        elif what == "cancelled":
            self._line("stopped", f"{stage} no trial waits for it any more")

    def _line(self, what: str, text: str) -> None:
        self._spoke = time.monotonic()
        minutes, seconds = divmod(int(self._spoke - self._start), 60)
        self._say(f"{minutes:02}:{seconds:02}  {what:<8} {text} · {self._state()}")

    def _state(self) -> str:
        parts = [f"{len(self._done)} of {len(self._nodes)} stages"]
        if self._stored:
            parts.append(f"{len(self._stored)} from the store")
        if self._failed:
            parts.append(f"{len(self._failed)} failed")
        return ", ".join([*parts, f"{len(self._running)} running", self.time_left()])

    def _for_whom(self, fingerprint: str) -> str:
        first, *others = self._users[fingerprint]
        return f"{first}, and {len(others)} more" if others else first

    def _describe_running(self) -> list[str]:
        return [
            f"{stage['field']} {stage['fingerprint'][:8]} for {duration(stage['seconds'])}" for stage in self._running
        ]

    def time_left(self) -> str:
        """The larger of what the whole cluster needs for all that is left, and the longest chain of what is left."""
        elapsed = {stage["fingerprint"]: stage["seconds"] for stage in self._running}
        lost, ends, work, unknown = set(self._failed), dict[str, float](), 0.0, 0
        for fingerprint, node in self._nodes.items():
            if fingerprint in lost or lost.intersection(node.inputs.values()):
                lost.add(fingerprint)
            elif fingerprint not in self._done:
                expected = self._expected(node.kind)
                unknown += expected is None
                left = max((expected or 0.0) - elapsed.get(fingerprint, 0.0), 0.0)
                work += left * self._shares.get(fingerprint, 1.0)
                ends[fingerprint] = left + max((ends.get(need, 0.0) for need in node.inputs.values()), default=0.0)
        seconds = max(work, *ends.values(), 0.0) if ends else 0.0
        if unknown and not seconds:
            return "time left unknown"
        return f"{'more than' if unknown else 'about'} {duration(seconds)} left"

    def _expected(self, kind: str) -> float | None:
        return median(self._seconds[kind]) if self._seconds[kind] else self._known.get(kind)
