"""What a person reads while a sweep runs: what finished, what runs, what is left, and when it ends."""

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Literal

from occse.pipeline import Node
from occse.stage import Resources
from sweeps.cluster.machines import Machine, share
from sweeps.cluster.messages import ActiveStage, EventKind, News, StageEvent
from sweeps.plan.past_runs import PastRuns
from sweeps.plan.plan import Plan, order
from sweeps.progress.status import RunningStage, StageCounts, Status
from sweeps.text import Say, duration

HEARTBEAT_S = 30.0
PLACES = ("queued", "running", "done", "reused", "failed")
State = Literal["running", "stopping", "ended", "failed", "stopped"]


class Progress:
    """Turns the scheduler's events into lines and into the sweep's status.

    Args:
        name: of the sweep.
        history: the artifacts that were in the store before.
        say: takes a line.
        command: what continues the sweep.
        summed: whether each line ends with where the sweep stands, for want of a live view.
    """

    def __init__(
        self, name: str, *, history: PastRuns, say: Say, command: str = "", summed: bool = True
    ) -> None:
        self.state: State = "running"
        self._name, self._command, self._say, self._summed = name, command, say, summed
        self._history = history
        self._nodes: dict[str, Node] = {}
        self._granted: dict[str, Resources] = {}
        self._shares: dict[str, float] = {}
        self._users: dict[str, list[str]] = defaultdict(list)
        self._stored: set[str] = set()
        self._done: set[str] = set()
        self._failed: dict[str, str] = {}
        self._trials: dict[str, set[str]] = {}
        self._fields: dict[str, set[str]] = defaultdict(set)
        self._running: list[ActiveStage] = []
        self._epochs: dict[str, int] = {}
        self._seconds: dict[str, float] = {}
        self._by_kind: dict[str, list[float]] = defaultdict(list)
        self._began = time.time()
        self._start = self._spoke = time.monotonic()
        self._lock = threading.Lock()

    def add(
        self, plan: Plan, *, granted: Mapping[str, Resources], machines: Sequence[Machine]
    ) -> None:
        """Take in the stages of `plan`, which was made before any of them ran.

        Args:
            plan: all trials of a grid, or those that a search suggested next, or what follows a
            gate. granted: what each stage may occupy, by fingerprint. machines: those of the
            cluster.
        """
        with self._lock:
            for trial in plan.trials:
                planned = {node.fingerprint for node in trial.nodes.values()} & plan.nodes.keys()
                self._trials.setdefault(trial.name, set()).update(planned)
                for fingerprint in planned:
                    self._users[fingerprint].append(trial.name)
            for row in plan.rows:
                self._fields[row.kind].update(row.fields)
            stored = plan.nodes.keys() - plan.reasons.keys() - self._nodes.keys()
            self._stored |= stored
            self._done |= stored
            self._nodes.update(plan.nodes)
            self._granted.update(granted)
            self._shares.update({each: share(granted[each], machines) for each in plan.reasons})

    def update(self, news: News) -> None:
        """Tell what happened, from the scheduler's `news`; some of it may be of other sweeps."""
        with self._lock:
            self._running = [stage for stage in news.running if stage.fingerprint in self._nodes]
            for point in news.points:
                self._epochs[point.fingerprint] = int(point.values.get("step", 0))
            for event in news.events:
                if event.fingerprint in self._nodes:
                    self._tell(event)
            if time.monotonic() - self._spoke > HEARTBEAT_S:
                self._line(
                    "running",
                    ", ".join(self._describe_running()) or "nothing yet, waiting for the cluster",
                )
                for needs in news.unmet:
                    self._line(
                        "waiting",
                        f"no machine of the cluster has {needs}; stages that ask for it wait for one",
                    )

    def settle(self, nodes: Iterable[Node]) -> None:
        """These stages are done, whether or not the scheduler lived to tell."""
        with self._lock:
            self._done |= {node.fingerprint for node in nodes}

    def gpu_s(self) -> float:
        """Seconds that GPUs were held by the stages that ran, and by those that run."""
        with self._lock:
            held = {stage.fingerprint: stage.seconds for stage in self._running}
            running = (
                self._granted[each].num_gpus * held[each] for each in held if each in self._granted
            )
            return self._spent()["gpu_spent_s"] + sum(running, start=0.0)

    def status(self) -> Status:
        """Where the sweep stands now."""
        with self._lock:
            return Status(
                name=self._name,
                state=self.state,
                command=self._command,
                started=self._began,
                updated=time.time(),
                trials=len(self._trials),
                trials_done=sum(needed <= self._done for needed in self._trials.values()),
                stages=self._counts(),
                running=[self._running_stage(stage) for stage in self._running],
                failed=[
                    f"{self._nodes[each].field} {each[:8]}: {error}"
                    for each, error in self._failed.items()
                ],
                left=self.time_left(),
                **self._spent(),
            )

    def _tell(self, event: StageEvent) -> None:
        fingerprint, kind, text = event.fingerprint, event.kind, event.text
        stage = f"{event.field:<9} {fingerprint[:8]}"
        if kind is EventKind.DONE:
            self._done.add(fingerprint)
            self._seconds[fingerprint] = event.seconds
            self._by_kind[self._nodes[fingerprint].kind].append(event.seconds)
            took = f"{duration(event.seconds):>7}"
            self._line("done", f"{stage} {took}   ({self._for_whom(fingerprint)})")
        elif kind is EventKind.FAILED:
            self._failed[fingerprint] = text
            self._line("FAILED", f"{stage} {text}   ({self._for_whom(fingerprint)})")
        elif kind is EventKind.RETRIED:
            self._line("again", f"{stage} its process died; it goes on from its checkpoint")
        elif kind is EventKind.INPUT_LOST:
            lost = f"needs {text}, which was damaged or removed: that is made again"
            self._line("again", f"{stage} {lost}")
        elif kind is EventKind.ELSEWHERE:
            self._line("waiting", f"{stage} another cluster runs it, on {text}")
        elif kind is EventKind.STORE_AWAY:
            self._line("waiting", f"{stage} the store does not answer, and is asked again: {text}")
        elif kind is EventKind.STOPPED:
            self._line("stopped", f"{stage} at its checkpoint")
        elif kind is EventKind.SPLIT:
            short = "the GPU's memory was too small; each batch in parts now"
            self._line("again", f"{stage} {short}: {text}")
        elif kind is EventKind.CANCELLED:
            self._line("stopped", f"{stage} no trial waits for it any more")

    def _line(self, what: str, text: str) -> None:
        self._spoke = time.monotonic()
        minutes, seconds = divmod(int(self._spoke - self._start), 60)
        self._say(
            f"{minutes:02}:{seconds:02}  {what:<8} {text}"
            + (f" · {self._summary()}" if self._summed else "")
        )

    def _summary(self) -> str:
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
        stages = map(self._running_stage, self._running)
        return [" ".join(filter(None, _parts(stage))) for stage in stages]

    def _running_stage(self, stage: ActiveStage) -> RunningStage:
        fingerprint = stage.fingerprint
        epoch, epochs = (
            self._epochs.get(fingerprint),
            getattr(self._nodes[fingerprint].stage, "epochs", None),
        )
        return RunningStage(
            field=stage.field,
            fingerprint=fingerprint,
            seconds=stage.seconds,
            trial=self._for_whom(fingerprint),
            epochs=f"epoch {epoch} of {epochs}" if epoch and epochs else "",
        )

    def _counts(self) -> list[StageCounts]:
        running = {stage.fingerprint for stage in self._running}
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        for fingerprint, node in self._nodes.items():
            counts[node.kind][self._where(fingerprint, running)] += 1
        places = {
            kind: sorted(names, key=lambda name: order()[name])
            for kind, names in self._fields.items()
        }
        return [
            StageCounts(
                fields=", ".join(places[kind]), **{key: counts[kind][key] for key in PLACES}
            )
            for kind in sorted(counts, key=lambda kind: order()[places[kind][0]])
        ]

    def _where(self, fingerprint: str, running: set[str]) -> str:
        if fingerprint in self._stored:
            return "reused"
        if fingerprint in self._done:
            return "done"
        if fingerprint in self._failed:
            return "failed"
        return "running" if fingerprint in running else "queued"

    def _spent(self) -> dict[str, float]:
        """Time spent and saved so far: what n trials share saves n - 1 times its time, n if it was
        there before.
        """
        sums = dict.fromkeys(("spent_s", "saved_s", "gpu_spent_s", "gpu_saved_s"), 0.0)
        for fingerprint in self._done:
            fresh = fingerprint not in self._stored
            seconds = self._seconds.get(fingerprint) or self._history.took(fingerprint) or 0.0
            saved = seconds * (len(self._users[fingerprint]) - fresh)
            gpus = self._granted[fingerprint].num_gpus if fingerprint in self._granted else 0.0
            for what, value in (("spent_s", seconds * fresh), ("saved_s", saved)):
                sums[what] += value
                sums[f"gpu_{what}"] += gpus * value
        return sums

    def time_left(self) -> str:
        """The larger of what the whole cluster needs for all that is left, and the longest chain of
        what is left.
        """
        elapsed = {stage.fingerprint: stage.seconds for stage in self._running}
        lost, ends, work, unknown = set(self._failed), dict[str, float](), 0.0, 0
        for fingerprint, node in self._nodes.items():
            if fingerprint in lost or lost.intersection(node.inputs.values()):
                lost.add(fingerprint)
            elif fingerprint not in self._done:
                expected = self._expected(node)
                unknown += expected is None
                left = max((expected or 0.0) - elapsed.get(fingerprint, 0.0), 0.0)
                work += left * self._shares.get(fingerprint, 1.0)
                ends[fingerprint] = left + max(
                    (ends.get(need, 0.0) for need in node.inputs.values()), default=0.0
                )
        seconds = max(work, *ends.values(), 0.0) if ends else 0.0
        if unknown and not seconds:
            return "time left unknown"
        return f"{'more than' if unknown else 'about'} {duration(seconds)} left"

    def _expected(self, node: Node) -> float | None:
        if self._by_kind[node.kind]:
            return median(self._by_kind[node.kind])
        estimate = self._history.seconds(node, self._nodes, granted=self._granted[node.fingerprint])
        return estimate.usual if estimate else None


def _parts(stage: RunningStage) -> tuple[str, ...]:
    return stage.field, stage.fingerprint[:8], stage.epochs, f"for {duration(stage.seconds)}"
