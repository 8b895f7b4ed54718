"""Runs one sweep from start to end.

What the store has is recorded; the rest goes through Ray Tune and the scheduler."""

import time
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import ray

from occse.artifacts.provenance import git_state
from occse.naming.counts import number
from occse.pipeline import Node
from occse.stage import PLUGIN_SOURCES, Resources
from sweeps.cluster.connection import Cluster, joined
from sweeps.cluster.demand import node_types
from sweeps.cluster.machines import Machine, clamp, count
from sweeps.cluster.messages import SchedulerSettings
from sweeps.cluster.node_types import refuse_unmeetable
from sweeps.cluster.scheduler import connect
from sweeps.driver.concurrency import Concurrency
from sweeps.driver.interrupt import exit_on_signals
from sweeps.driver.monitor import Show, Telling, watched
from sweeps.driver.notify import Notifier
from sweeps.driver.queue import Need, RecordTrial, Score, TrialQueue, TrialStep
from sweeps.driver.recorder import Recorder, Summary
from sweeps.driver.requests import Requests, needs_of
from sweeps.driver.steering import Steering
from sweeps.driver.tune import StepSource, run_steps
from sweeps.plan.past_runs import PastRuns
from sweeps.plan.plan import Plan, make_plan, total
from sweeps.plan.room import about_room
from sweeps.progress.progress import Progress
from sweeps.selection.study import Search
from sweeps.spec.model import Spec
from sweeps.spec.resources import shared_batch
from sweeps.spec.trials import Trial, distinct_nodes, doubts_about
from sweeps.store.store import Store
from sweeps.text import Say
from sweeps.tracking.database import place
from sweeps.tracking.live import LiveMetrics
from sweeps.tracking.names import TrialNames
from sweeps.tracking.tags import Stopped
from sweeps.tracking.writer import Tracking

# Ray Tune ends as a whole when, say, its node is out of memory; a fault that goes on ends it again.
ATTEMPTS = 3


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
    notifier = Notifier(spec.notify, sweep=spec.name, say=say)
    queue = TrialQueue(
        gates=spec.gates,
        limits=spec.limits,
        plan=planner.plan,
        score=planner.score,
        record=_recording(recorder, notifier),
        suggestions=suggestions,
    )
    try:
        # Before the queue: it records stored trials at once, which need the sweep's run.
        tracking.open(trials)
        with recorder.together():
            queue.add(trials)
        notifier.start()  # what the store had was told by the driver that made it
        for line in _opening(spec, trials, planner, suggestions):
            say(line)
        if not queue.finished:
            with joined(cluster, say=say):
                exit_on_signals()  # once more: Ray has set its own handler
                history = PastRuns(patient.manifests())
                progress = Progress(
                    spec.name,
                    history=history,
                    called=TrialNames(spec, trials).of,
                    say=say,
                    tracking=place(tracking.uri),
                    command=again,
                    summed=show is None,
                )
                telling = Telling(progress, store=store, say=say, show=show)
                run = _ClusterRun(planner, queue, cluster, telling, history, notifier)
                run.run(trials)
    except (KeyboardInterrupt, SystemExit):  # see sweeps.driver.interrupt
        text = recorder.close().describe()
        say(text)
        notifier.close(f"stopped: {text}")
        raise
    except BaseException as error:
        recorder.close()
        notifier.close(f"broke off: {type(error).__name__}: {error}")
        raise
    summary = recorder.close(limit=queue.limit)
    notifier.close(summary.describe())
    return summary


def _recording(recorder: Recorder, notifier: Notifier) -> RecordTrial:
    """Return a function that records a trial that ended, and tells the user's hook of its fault."""

    def record(trial: Trial, failed: Mapping[str, str], stopped: Stopped | None) -> None:
        recorder.end(trial, failed, stopped)
        if stopped is not None:
            notifier.tell("gate", f"{trial.name} stopped after {stopped[0]}: {stopped[1]}")
        elif failed:
            errors = "; ".join(f"{field}: {error}" for field, error in failed.items())
            notifier.tell("failure", f"{trial.name}: {errors}")

    return record


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
    yield from (f"warning: {doubt}" for doubt in doubts_about(trials))


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
        notifier: Notifier,
    ) -> None:
        self._planner = planner
        self._queue = queue
        self._cluster = cluster
        self._telling = telling
        self._notifier = notifier
        self._requests = Requests(history, sweep=planner.spec.name, weight=cluster.weight)
        self._concurrency = Concurrency(
            wanted=cluster.max_concurrent, growing=cluster.autoscaling, say=telling.say
        )
        self._start = time.monotonic()

    def run(self, trials: Sequence[Trial]) -> None:
        """Run all steps; `trials` are those that are known at the start.

        Raises:
            ValueError: no machine of the cluster can run the stages, and none can be started.
            ConnectionError: Ray Tune ended again and again.
        """
        self._check_machines(trials)
        scheduler = connect(_settings(self._planner.spec, self._planner.store, self._cluster))
        # Waited for: requests that overtake it would be answered with an earlier sweep's failures.
        ray.get(scheduler.begin.remote())
        fresh = list(self._planner.fresh)
        self._announce()
        for line in self._about_room(fresh):
            self._telling.say(line)
        source = StepSource(
            launch=self._launch,
            finished=lambda: self._queue.finished,
            requests=self._requests.of,
            limit=self._limit,
            end=self._end,
            say=self._telling.say,
        )
        steering = Steering(
            self._planner.spec.name,
            key=self._telling.progress.key,
            store=self._telling.store,
            concurrency=self._concurrency,
            scheduler=scheduler,
            running=source.running,
            say=self._telling.say,
        )
        hear = self._planner.recorder.hear
        with watched(
            scheduler, self._telling, running=source.running, hear=hear, steering=steering
        ):
            self._see_through(source, scheduler)

    def _see_through(self, source: StepSource, scheduler: Any) -> None:  # noqa: ANN401
        """Run all steps of `source`; start Ray Tune anew where it ends before its time."""
        attempt = 0
        ended = 0
        while True:
            try:
                run_steps(source, scheduler)
                return
            # Tune gives up on what it does not expect, such as a node out of memory
            except Exception as error:
                reason = f"Ray Tune ended: {_first_line(error)}"
                # A sweep of weeks may see many such faults, but not many in a row.
                attempt = attempt + 1 if source.ended == ended else 1
                ended = source.ended
                if attempt == ATTEMPTS:
                    raise ConnectionError(
                        f"{reason}; the same command goes on from here"
                    ) from error
                left = number(self._queue.left, "trial")
                self._telling.say(f"warning: {reason}; going on with the {left} that are left")
                # Tune's coordinators are gone with it; the stages go on in the scheduler, and are
                # joined.
                self._queue.requeue_running()
                source.forget_running()

    def _check_machines(self, trials: Sequence[Trial]) -> None:
        """Refuse a sweep whose stages no machine could ever take.

        Raises:
            ValueError: see `run`.
        """
        machines = self._concurrency.machines
        if not self._cluster.autoscaling:
            if not count(machines, "CPU"):
                raise ValueError(
                    f"--address {self._cluster.address}: expected a cluster with CPUs for stages; "
                    f"its {number(len(machines), 'machine')} (a head of 0 CPUs?) have none; "
                    "start workers first, or say --autoscaling if the cluster starts them on demand"
                )
            return
        stored: set[str] = set()
        for plan in self._planner.fresh:
            stored |= plan.nodes.keys() - plan.reasons.keys()
        needs: dict[str, list[Machine]] = {}
        for fingerprint, node in distinct_nodes(trials).items():
            # also what is behind a gate: it would be refused after days
            if fingerprint not in stored:
                resources = self._planner.spec.resources_of(node.field, node.stage)
                needs.setdefault(node.field, []).append(needs_of(resources))
        refuse_unmeetable(needs, node_types(), machines)

    def _limit(self) -> int:
        self._concurrency.tell(self._queue.left)
        return self._concurrency.limit()

    def _announce(self) -> None:
        fresh = self._planner.fresh
        if fresh:
            # machines come and go while a sweep runs; what is planned now is for those of now
            self._concurrency.look()
        machines = self._concurrency.machines
        while fresh:
            plan = fresh.popleft()
            granted = self._planner.granted(plan, machines, self._cluster)
            self._requests.add(plan, granted=granted)
            self._concurrency.add(granted[fingerprint] for fingerprint in plan.reasons)
            self._telling.progress.add(plan, granted=granted, machines=machines)

    def _launch(self) -> TrialStep | None:
        gpu_s = self._telling.progress.gpu_s()
        before = self._queue.limit
        step = self._queue.next(gpu_s=gpu_s, wall_s=time.monotonic() - self._start)
        if step is not None:
            self._planner.recorder.start(step.trial)
        if self._queue.limit and not before:
            self._notifier.tell("budget", f"nothing more is launched at {self._queue.limit}")
        self._announce()
        return step

    def _end(self, step: TrialStep, failed: Mapping[str, str]) -> None:
        self._queue.end(step, failed=failed)
        self._announce()
        if not failed:
            self._telling.progress.settle(step.trial.nodes[field] for field in step.fields)

    def _about_room(self, plans: Sequence[Plan]) -> Iterator[str]:
        """Yield what the cluster has, and which requests no machine of it can meet."""
        nodes: list[Node] = []
        for plan in plans:
            nodes += (plan.nodes[fingerprint] for fingerprint in plan.reasons)
        spec = self._planner.spec
        asked = [(node, spec.resources_of(node.field, node.stage)) for node in nodes]
        yield from about_room(
            asked,
            self._concurrency.machines,
            at_once=self._concurrency.slots(),
            grows=self._cluster.autoscaling,
        )


def _first_line(error: Exception) -> str:
    """Return the line of an error that names it; Tune's own errors are tracebacks of others."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1] if lines[0].startswith("Traceback") else lines[0]


def _settings(spec: Spec, store: Store, cluster: Cluster) -> SchedulerSettings:
    return SchedulerSettings(
        root=store.url,
        data_root=str(spec.data_root.absolute()) if spec.data_root else None,
        weights=str(spec.weights.absolute()) if spec.weights else None,
        git=git_state(),
        autoscaling=cluster.autoscaling,
        plugins=dict(PLUGIN_SOURCES),
    )
