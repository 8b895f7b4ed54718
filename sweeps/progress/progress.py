"""Progress of a sweep: the scheduler's events as lines, and as the sweep's status."""

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

from occse.naming.counts import number
from occse.pipeline import Node
from occse.stage import Resources
from sweeps.cluster.machines import Machine, share
from sweeps.cluster.messages import ActiveStage, EventKind, News, StageEvent
from sweeps.plan.past_runs import PastRuns
from sweeps.plan.plan import Plan, stage_order
from sweeps.progress.status import RunningStage, StageCounts, Status, sweep_key
from sweeps.progress.time_left import TimeLeft
from sweeps.spec.trials import Trial
from sweeps.text import Say, duration

# A log that says nothing for longer looks like a hang; more often it fills with repetition.
HEARTBEAT_S = 30.0
State = Literal["running", "paused", "stopping", "ended", "failed", "stopped"]


class Progress:
    """Account of the stages of a sweep, from the scheduler's events.

    The driver's main thread and the one that polls the scheduler use it, under one lock.

    Args:
        name: of the sweep.
        tracking: place of its records, see `sweeps.tracking.database.place`.
        history: the artifacts that were in the store before.
        called: returns the name of a trial for people, as MLflow's pages have it.
        say: takes a line.
        command: the command that continues the sweep.
        summed: end each line with the state of the sweep, where there is no live view.
    """

    def __init__(
        self,
        name: str,
        *,
        history: PastRuns,
        called: Callable[[Trial], str],
        say: Say,
        tracking: str = "",
        command: str = "",
        summed: bool = True,
    ) -> None:
        self.state: State = "running"
        self._name = name
        self._tracking = tracking
        self._command = command
        self._called = called
        self._say = say
        self._summed = summed
        self._history = history
        self._nodes: dict[str, Node] = {}
        self._granted: dict[str, Resources] = {}
        # names of trials by the stage that they need
        self._users: dict[str, list[str]] = defaultdict(list)
        self._shown: dict[str, str] = {}
        self._stored: set[str] = set()
        self._done: set[str] = set()
        self._failed: dict[str, str] = {}
        # By trial, its stages that are not done. This and the counts below are kept up to date, for
        # a sweep of 5,000 trials has 30,000 stages, and the status is asked for every second.
        self._trials: dict[str, set[str]] = {}
        # by stage class
        self._planned: Counter[str] = Counter()
        self._made: Counter[str] = Counter()
        self._reused: Counter[str] = Counter()
        self._fields: dict[str, set[str]] = defaultdict(set)
        self._running: list[ActiveStage] = []
        self._epochs: dict[str, int] = {}
        self._seconds: dict[str, float] = {}
        self._spent = dict.fromkeys(("spent_s", "saved_s", "gpu_spent_s", "gpu_saved_s"), 0.0)
        self._summary = ""
        self._left = TimeLeft(self._expected)
        self._began = time.time()
        self._start = time.monotonic()
        self._spoke = self._start
        self._lock = threading.Lock()

    @property
    def key(self) -> str:
        """Name of the sweep's files in the store."""
        return sweep_key(self._name, self._tracking)

    def add(
        self, plan: Plan, *, granted: Mapping[str, Resources], machines: Sequence[Machine]
    ) -> None:
        """Take in the stages of `plan`, which was made before any of them ran.

        Args:
            plan: all trials of a grid, those that a search suggested next, or those behind a gate.
            granted: resources of each stage, by fingerprint.
            machines: those of the cluster.
        """
        with self._lock:
            self._granted.update(granted)
            new = plan.nodes.keys() - self._nodes.keys()
            self._nodes.update(plan.nodes)
            stored = new - plan.reasons.keys()
            self._stored |= stored
            self._done |= stored
            self._planned.update(plan.nodes[fingerprint].kind for fingerprint in new)
            self._reused.update(plan.nodes[fingerprint].kind for fingerprint in stored)
            shares = {each: share(granted[each], machines) for each in plan.reasons}
            self._left.add(plan.nodes, shares)
            for row in plan.rows:
                self._fields[row.kind].update(row.fields)
            for trial in plan.trials:
                planned = {node.fingerprint for node in trial.nodes.values()} & plan.nodes.keys()
                self._trials.setdefault(trial.name, set()).update(planned - self._done)
                self._shown[trial.name] = self._called(trial)
                for fingerprint in planned:
                    self._users[fingerprint].append(trial.name)
                    if fingerprint in self._done:
                        self._count("saved_s", fingerprint, times=1)

    def update(self, news: News) -> None:
        """Tell the events of `news`; those of other sweeps are passed over."""
        with self._lock:
            self._running = [stage for stage in news.running if stage.fingerprint in self._nodes]
            for point in news.points:
                self._epochs[point.fingerprint] = int(point.values.get("step", 0))
            # All events count before the first is told, so that one poll makes one summary.
            events = [event for event in news.events if event.fingerprint in self._nodes]
            for event in events:
                self._take(event)
            quiet = time.monotonic() - self._spoke > HEARTBEAT_S
            if self._summed and (events or quiet):
                self._summary = self._summarize()
            for event in events:
                self._tell(event)
            if quiet and not events:
                running = ", ".join(self._describe_running())
                self._line("running", running or "nothing yet, waiting for the cluster")
                for needs in news.unmet:
                    self._line(
                        "waiting",
                        f"no machine of the cluster has {needs}; stages that ask for it wait",
                    )

    def settle(self, nodes: Iterable[Node]) -> None:
        """Take note that these stages are done, though the scheduler may not have lived to tell."""
        with self._lock:
            for node in nodes:
                if node.fingerprint in self._nodes:
                    self._finish(node.fingerprint)

    def gpu_s(self) -> float:
        """Return the seconds that GPUs were held by stages that ran or run."""
        with self._lock:
            held = self._spent["gpu_spent_s"]
            for stage in self._running:
                if stage.fingerprint in self._granted:
                    held += self._granted[stage.fingerprint].num_gpus * stage.seconds
            return held

    def status(self) -> Status:
        """Return the state of the sweep."""
        with self._lock:
            return Status(
                name=self._name,
                tracking=self._tracking,
                state=self.state,
                command=self._command,
                started=self._began,
                updated=time.time(),
                trials=len(self._trials),
                trials_done=sum(1 for left in self._trials.values() if not left),
                stages=self._counts(),
                running=[self._running_stage(stage) for stage in self._running],
                failed=[
                    f"{self._nodes[fingerprint].field} {fingerprint[:8]}: {error}"
                    for fingerprint, error in self._failed.items()
                ],
                left=self.time_left(),
                **self._spent,
            )

    def time_left(self) -> str:
        """Return the time that is left as text."""
        elapsed = {stage.fingerprint: stage.seconds for stage in self._running}
        seconds, unknown = self._left.seconds(elapsed)
        if unknown and not seconds:
            return "time left unknown"
        return f"{'more than' if unknown else 'about'} {duration(seconds)} left"

    def _finish(self, fingerprint: str, seconds: float | None = None) -> None:
        """Count a stage as done, once.

        One that n trials share saves n - 1 times its time."""
        if fingerprint in self._done:
            return
        self._done.add(fingerprint)
        self._made[self._nodes[fingerprint].kind] += 1
        for trial in self._users[fingerprint]:
            self._trials[trial].discard(fingerprint)
        self._failed.pop(fingerprint, None)
        if seconds is not None:
            self._seconds[fingerprint] = seconds
        self._left.end(fingerprint, seconds)
        self._count("spent_s", fingerprint, times=1)
        self._count("saved_s", fingerprint, times=len(self._users[fingerprint]) - 1)

    def _count(self, what: str, fingerprint: str, *, times: int) -> None:
        # As measured in this sweep; of what was in the store, as its manifest says.
        seconds = self._seconds.get(fingerprint) or self._history.took(fingerprint) or 0.0
        self._spent[what] += seconds * times
        if fingerprint in self._granted:
            gpus = self._granted[fingerprint].num_gpus
            self._spent[f"gpu_{what}"] += gpus * seconds * times

    def _take(self, event: StageEvent) -> None:
        if event.kind is EventKind.DONE:
            self._finish(event.fingerprint, event.seconds)
        elif event.kind is EventKind.FAILED:
            self._failed[event.fingerprint] = event.text
            self._left.lose(event.fingerprint)

    def _tell(self, event: StageEvent) -> None:
        fingerprint = event.fingerprint
        kind = event.kind
        text = event.text
        stage = f"{event.field:<9} {fingerprint[:8]}"
        if kind is EventKind.DONE:
            took = f"{duration(event.seconds):>7}"
            self._line("done", f"{stage} {took}   ({self._for_whom(fingerprint)})")
        elif kind is EventKind.FAILED:
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
        line = f"{minutes:02}:{seconds:02}  {what:<8} {text}"
        self._say(f"{line} · {self._summary}" if self._summed else line)

    def _summarize(self) -> str:
        parts = [f"{len(self._done)} of {number(len(self._nodes), 'stage')}"]
        if self._stored:
            parts.append(f"{len(self._stored)} from the store")
        if self._failed:
            parts.append(f"{len(self._failed)} failed")
        return ", ".join([*parts, f"{len(self._running)} running", self.time_left()])

    def _for_whom(self, fingerprint: str) -> str:
        first, *others = self._users[fingerprint]
        shown = self._shown[first]
        return f"{shown}, and {len(others)} more" if others else shown

    def _describe_running(self) -> list[str]:
        stages = map(self._running_stage, self._running)
        return [" ".join(filter(None, _parts(stage))) for stage in stages]

    def _running_stage(self, stage: ActiveStage) -> RunningStage:
        fingerprint = stage.fingerprint
        epoch = self._epochs.get(fingerprint)
        epochs = getattr(self._nodes[fingerprint].stage, "epochs", None)
        return RunningStage(
            field=stage.field,
            fingerprint=fingerprint,
            seconds=stage.seconds,
            trial=self._for_whom(fingerprint),
            epochs=f"epoch {epoch} of {epochs}" if epoch and epochs else "",
        )

    def _counts(self) -> list[StageCounts]:
        # A stage that is done may fail later, when it is made again because it was damaged.
        failed = Counter(
            self._nodes[fingerprint].kind
            for fingerprint in self._failed
            if fingerprint not in self._done
        )
        running = Counter(
            self._nodes[stage.fingerprint].kind
            for stage in self._running
            if stage.fingerprint not in self._done and stage.fingerprint not in self._failed
        )
        counts = {}
        for kind, planned in self._planned.items():
            ended = {"done": self._made[kind], "reused": self._reused[kind], "failed": failed[kind]}
            queued = planned - running[kind] - sum(ended.values())
            counts[kind] = {"queued": queued, "running": running[kind], **ended}
        order = stage_order()
        places = {
            kind: sorted(names, key=order.__getitem__) for kind, names in self._fields.items()
        }
        return [
            StageCounts(fields=", ".join(places[kind]), **counts[kind])
            for kind in sorted(counts, key=lambda kind: order[places[kind][0]])
        ]

    def _expected(self, node: Node) -> float | None:
        """Return the seconds that past runs lead to expect of a stage."""
        granted = self._granted[node.fingerprint]
        estimate = self._history.seconds(node, self._nodes, granted=granted)
        return estimate.usual if estimate else None


def _parts(stage: RunningStage) -> tuple[str, ...]:
    return stage.field, stage.fingerprint[:8], stage.epochs, f"for {duration(stage.seconds)}"
