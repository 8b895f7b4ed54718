"""Runs one sweep from start to end.

What the store has is recorded; the rest goes through Ray Tune and the scheduler."""

import time
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress

import ray

from naming.counts import number
from occse.artifacts.provenance import git_state
from occse.pipeline import Node, doubts
from occse.stage import PLUGIN_SOURCES, Resources
from sweeps.cluster.connection import Cluster, joined
from sweeps.cluster.head import HEAD
from sweeps.cluster.machines import Machine, clamp, count
from sweeps.cluster.messages import SchedulerSettings
from sweeps.cluster.scheduler import connect
from sweeps.driver.interrupt import exit_on_signals
from sweeps.driver.monitor import Show, Telling, watched
from sweeps.driver.queue import Need, Score, TrialQueue, TrialStep
from sweeps.driver.recorder import Recorder, Summary
from sweeps.driver.requests import Requests
from sweeps.driver.tune import TrialSource, run_steps
from sweeps.plan.past_runs import PastRuns
from sweeps.plan.plan import Plan, make_plan, total
from sweeps.plan.room import about_room, stages_at_once
from sweeps.progress.progress import Progress
from sweeps.selection.study import Search
from sweeps.spec.model import Spec
from sweeps.spec.resources import shared_batch
from sweeps.spec.trials import Trial
from sweeps.store.store import Store
from sweeps.text import Say
from sweeps.tracking.live import LiveMetrics
from sweeps.tracking.writer import Tracking

# Ray Tune ends as a whole when, say, its node is out of memory; a fault that goes on ends it again.
ATTEMPTS = 3
# Trials at a time on a cluster that may grow, whatever it has now.
GROWING = 16
# Memory of a coordinator's process, as measured.
COORDINATOR_BYTES = 200 << 20


def run_sweep(
    spec: Spec,
    trials: Sequence[Trial],
    *,
    store: Store,
    tracking: Tracking,
    cluster: Cluster,
    say: Say,
    show: Show | None = None,
    again: str = "",
    suggestions: Search | None = None,
) -> Summary:
    """Run what is not in the store, and record every trial.

    Running it again goes on: finished stages are found in the store, recorded trials in MLflow. The
    first Ctrl-C lets running stages reach their checkpoint, the second ends the sweep now.

    Args:
        spec: the sweep.
        trials: its trials, and those that a search suggested in former runs.
        store: holds the artifacts.
        tracking: holds the records.
        cluster: runs the stages.
        say: takes a line for people.
        show: takes the sweep's status every second; lines are shorter then.
        again: the command that continues the sweep, for people who ask for its status.
        suggestions: source of more trials, for a search.

    Raises:
        OSError: the store cannot be written, or the tracking server or the cluster does not answer;
            nothing was run.
        ValueError: the search's study is of another space.
        KeyboardInterrupt: the sweep was stopped.
    """
    say = _unbreakable(say)
    # Before anything runs: a full or read-only disk would show only when the first stage has ended.
    store.check_writable()
    # it answers now; from here on an outage is waited for
    patient = Store(store.url, patient=True)
    recorder = Recorder(store=patient, live=LiveMetrics(store), tracking=tracking, say=say)
    planner = _Planner(spec, patient, recorder)
    queue = TrialQueue(
        gates=spec.gates,
        limits=spec.limits,
        plan=planner.plan,
        score=planner.score,
        record=recorder.end,
        suggestions=suggestions,
    )
    try:
        # Before the queue: it records stored trials at once, which need the sweep's run.
        tracking.open(trials)
        queue.add(trials)
        for line in _opening(spec, trials, planner, suggestions):
            say(line)
        if not queue.finished:
            with joined(cluster, say=say):
                exit_on_signals()  # once more: Ray has set its own handler
                history = PastRuns(patient.manifests())
                progress = Progress(
                    spec.name, history=history, say=say, command=again, summed=show is None
                )
                telling = Telling(progress, store=store, say=say, show=show)
                _ClusterRun(planner, queue, cluster, telling, history).run()
    except (KeyboardInterrupt, SystemExit):  # see sweeps.driver.interrupt
        say(recorder.close().describe())
        raise
    except BaseException:
        recorder.close()
        raise
    return recorder.close(limit=queue.limit)


def _unbreakable(say: Say) -> Say:
    """Return a function that says a line if it can.

    A terminal that is closed must not end the sweep, nor keep it from being recorded."""

    def say_if_possible(line: str) -> None:
        with suppress(OSError, ValueError):  # ValueError: the file was closed
            say(line)

    return say_if_possible


def _opening(
    spec: Spec, trials: Sequence[Trial], planner: "_Planner", suggestions: Search | None
) -> Iterator[str]:
    first = f", {total(planner.fresh[0])}" if planner.fresh else ""
    to_come = f", and {suggestions.left} suggestions to come" if suggestions is not None else ""
    yield f"{spec.name}: {number(len(trials), 'trial')}{to_come}{first}"
    yield from (f"gate: {gate.describe()}" for gate in spec.gates)
    doubted: dict[str, None] = {}
    for trial in trials:
        doubted |= dict.fromkeys(doubts(trial.nodes))
    yield from (f"warning: {doubt}" for doubt in doubted)


class _Planner:
    """Plans trials and reads their scores, for the queue.

    Attributes:
        spec: the sweep.
        store: holds the artifacts.
        recorder: is told of every plan.
        fresh: plans that nobody has announced yet; the one who announces a plan takes it out.
    """

    def __init__(self, spec: Spec, store: Store, recorder: Recorder) -> None:
        self.spec = spec
        self.store = store
        self.recorder = recorder
        self.fresh: deque[Plan] = deque()

    def plan(self, trials: Sequence[Trial], fields: Collection[str]) -> dict[str, Need]:
        """Plan the stages of `trials` in `fields`; return the need by trial identity."""
        self.recorder.expect(trials)
        plan = make_plan(
            trials,
            stored=self.store.present,
            resources=self.spec.resources_of,
            fields=fields,
        )
        self.fresh.append(plan)
        self.recorder.add(plan)
        # Checked now: otherwise a stage would wait for a machine, start, and fail on its input.
        stored = [plan.nodes[key] for key in plan.nodes.keys() - plan.reasons.keys()]
        faulty = self.store.faults(stored)
        return {trial.identity: _need(trial, plan, faulty) for trial in trials}

    def score(self, trial: Trial, field: str) -> Score:
        """Return the score of a trial's stage.

        Raises:
            ValueError: its artifact is lost or damaged.
        """
        manifest = self.store.manifest(trial.nodes[field])
        if manifest is None:
            raise ValueError("its artifact was removed: the same command makes it again")
        return Score(miou=manifest.metrics["miou"], made=manifest.created)

    def granted(
        self, plan: Plan, machines: Sequence[Machine], cluster: Cluster
    ) -> dict[str, Resources]:
        """Return what each stage of `plan` gets, by fingerprint."""
        asked = {
            fingerprint: self.spec.resources_of(node.field, node.stage)
            for fingerprint, node in plan.nodes.items()
        }
        if cluster.autoscaling:
            return asked
        return {
            fingerprint: clamp(
                resources, machines, batch_size=shared_batch(plan.nodes[fingerprint].stage)
            )
            for fingerprint, resources in asked.items()
        }


def _machines() -> list[Machine]:
    """Return the resources of every machine of the cluster that is alive."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _need(trial: Trial, plan: Plan, faulty: Collection[str]) -> Need:
    needed = {node.fingerprint for node in trial.nodes.values()} & plan.nodes.keys()
    if not needed.isdisjoint(faulty):
        return Need.IMPOSSIBLE
    return Need.NOTHING if needed.isdisjoint(plan.reasons) else Need.RUN


class _ClusterRun:
    """The part of a sweep that needs a cluster: the steps that the queue still has."""

    def __init__(
        self,
        planner: _Planner,
        queue: TrialQueue,
        cluster: Cluster,
        telling: Telling,
        history: PastRuns,
    ) -> None:
        self._planner = planner
        self._queue = queue
        self._cluster = cluster
        self._telling = telling
        self._requests = Requests(history, sweep=planner.spec.name, weight=cluster.weight)
        self._machines = _machines()
        self._start = time.monotonic()

    def run(self) -> None:
        """Run all steps.

        Raises:
            ValueError: no machine of the cluster has a CPU, and none can be started.
            ConnectionError: Ray Tune ended again and again.
        """
        if not self._cluster.autoscaling and not count(self._machines, "CPU"):
            raise ValueError(
                f"--address {self._cluster.address}: expected a cluster with CPUs for stages; "
                f"its {number(len(self._machines), 'machine')} (a head of 0 CPUs?) have none; "
                "start workers first, or say --autoscaling if the cluster starts them on demand"
            )
        scheduler = connect(_settings(self._planner.spec, self._planner.store, self._cluster))
        # Waited for: requests that overtake it would be answered with an earlier sweep's failures.
        ray.get(scheduler.begin.remote())
        slots = self._slots()
        for line in self._about_room(slots):
            self._telling.say(line)
        self._announce()
        source = TrialSource(
            launch=self._launch,
            finished=lambda: self._queue.finished,
            requests=self._requests.of,
        )
        at_once = self._cluster.max_concurrent or self._bound(slots)
        if at_once < self._queue.left:
            self._telling.say(
                f"{number(at_once, 'trial')} at a time; --max-concurrent gives another number"
            )
        hear = self._planner.recorder.hear
        say = self._telling.say
        with watched(scheduler, self._telling, launched=source.steps, hear=hear):
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    run_steps(source, scheduler, end=self._end, at_once=at_once, say=say)
                    return
                # Tune gives up on what it does not expect, such as a node out of memory
                except Exception as error:
                    reason = f"Ray Tune ended: {str(error).splitlines()[0]}"
                    if attempt == ATTEMPTS:
                        raise ConnectionError(
                            f"{reason}; the same command goes on from here"
                        ) from error
                    left = number(self._queue.left, "trial")
                    say(f"warning: {reason}; going on with the {left} that are left")
                    # Tune's coordinators are gone with it; the stages go on in the scheduler, and
                    # are joined.
                    self._queue.requeue_running()

    def _announce(self) -> None:
        fresh = self._planner.fresh
        if fresh:
            # machines come and go while a sweep runs; what is planned now is for those of now
            self._machines = _machines() or self._machines
        while fresh:
            plan = fresh.popleft()
            granted = self._planner.granted(plan, self._machines, self._cluster)
            self._requests.add(plan, granted=granted)
            self._telling.progress.add(plan, granted=granted, machines=self._machines)

    def _launch(self) -> TrialStep | None:
        gpu_s = self._telling.progress.gpu_s()
        step = self._queue.next(gpu_s=gpu_s, wall_s=time.monotonic() - self._start)
        if step is not None:
            self._planner.recorder.start(step.trial)
        self._announce()
        return step

    def _end(self, step: TrialStep, failed: Mapping[str, str]) -> None:
        self._queue.end(step, failed=failed)
        self._announce()
        if not failed:
            self._telling.progress.settle(step.trial.nodes[field] for field in step.fields)

    def _slots(self) -> int:
        """Return how many stages run at a time, on average."""
        granted: list[Resources] = []
        for plan in self._planner.fresh:
            given = self._planner.granted(plan, self._machines, self._cluster)
            granted += [given[key] for key in plan.reasons]
        return stages_at_once(granted, self._machines)

    def _bound(self, slots: int) -> int:
        """Return how many trials to run at a time.

        Enough to fill the cluster, but no more than a quarter of the head's memory holds."""
        wanted = max(4, 2 * slots, GROWING if self._cluster.autoscaling else 0)
        (mark,) = HEAD
        head = [node["Resources"] for node in ray.nodes() if mark in node["Resources"]]
        memory = head[0].get("memory", 0.0) if head else 0.0
        return min(wanted, max(4, int(memory / 4 / COORDINATOR_BYTES)))

    def _about_room(self, slots: int) -> Iterator[str]:
        """Yield what the cluster has, and which requests no machine of it can meet."""
        nodes: list[Node] = []
        for plan in self._planner.fresh:
            nodes += plan.nodes.values()
        spec = self._planner.spec
        asked = [(node, spec.resources_of(node.field, node.stage)) for node in nodes]
        grows = self._cluster.autoscaling
        yield from about_room(asked, self._machines, at_once=slots, grows=grows)


def _settings(spec: Spec, store: Store, cluster: Cluster) -> SchedulerSettings:
    return SchedulerSettings(
        root=store.url,
        data_root=str(spec.data_root.absolute()) if spec.data_root else None,
        weights=str(spec.weights.absolute()) if spec.weights else None,
        git=git_state(),
        autoscaling=cluster.autoscaling,
        plugins=dict(PLUGIN_SOURCES),
    )
