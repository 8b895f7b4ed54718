"""One sweep from start to end: what the store has is recorded, the rest goes through Ray Tune and
the scheduler.
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import ray

from occse.artifacts.provenance import git_state
from occse.stage import Resources
from sweeps.cluster.machines import Machine, clamp, count, share
from sweeps.cluster.scheduler import HEAD, NAMESPACE, connect
from sweeps.cluster.stage_task import Json
from sweeps.driver.interrupt import exit_on_sigterm
from sweeps.driver.monitor import Show, Telling, watched
from sweeps.driver.queue import TrialQueue, TrialStep
from sweeps.driver.recorder import Recorder, Summary
from sweeps.driver.requests import Requests
from sweeps.driver.tune import TrialSource, run_steps
from sweeps.plan.past_runs import PastRuns
from sweeps.plan.plan import Plan, total
from sweeps.progress.progress import Progress
from sweeps.selection.suggestions import Suggestions
from sweeps.spec.model import Spec
from sweeps.spec.resources import shared_batch
from sweeps.spec.trials import Trial
from sweeps.store.store import Store
from sweeps.text import Say, number
from sweeps.tracking.writer import Tracking

ATTEMPTS = 3
GROWING = 16  # trials at a time on a cluster that may grow, whatever it has now
COORDINATOR_BYTES = 200 << 20
OBJECT_STORE_BYTES = 200 << 20  # only plans travel through it


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Where to run: the cluster at `address`, or by default one on this machine with `num_cpus`
    (all, if None).

    With `autoscaling` the cluster starts machines when they are asked for; without, stages make do
    with those that are alive when the sweep starts."""

    address: str | None = None
    num_cpus: int | None = None
    max_concurrent: int | None = None
    autoscaling: bool = False


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
    suggestions: Suggestions | None = None,
) -> Summary:
    """Run what is not in the store, and record every trial.

    Running it again goes on: finished stages are found in the store, recorded trials in MLflow. The
    first Ctrl-C lets running stages reach their checkpoint, the second ends the sweep now.

    Args:
        spec: what is asked. trials: what `sweeps.spec.trials.trials` made of it, and what a search
        suggested in former runs. store: where the artifacts are. tracking: where MLflow's records
        are. cluster: where to run. say: takes a line for people. show: takes the status of the
        sweep, every second; lines are shorter then. again: the command that continues the sweep,
        for people who ask for its status. suggestions: where a search gets more trials from.

    Raises:
        OSError: the store cannot be written, or the tracking server or the cluster does not answer;
        nothing was run. ValueError: the search's study is of another space. KeyboardInterrupt: the
        sweep was stopped.
    """
    store.check_writable()
    tracking.open(trials)
    ledger = Recorder(store=store, tracking=tracking, say=say)
    agenda = TrialQueue(spec, store=store, ledger=ledger, suggestions=suggestions)
    try:
        agenda.add(trials)
        for line in _opening(spec, trials, agenda, suggestions):
            say(line)
        if not agenda.finished:
            with joined(cluster):
                history = PastRuns(store.manifests())
                progress = Progress(
                    spec.name, history=history, say=say, command=again, summed=show is None
                )
                telling = Telling(progress, store=store, say=say, show=show)
                _run_on_cluster(
                    spec,
                    agenda,
                    store=store,
                    history=history,
                    hear=ledger.hear,
                    cluster=cluster,
                    telling=telling,
                )
    except (KeyboardInterrupt, SystemExit):  # see exit_on_sigterm
        say(ledger.close().describe())
        raise
    except BaseException:
        ledger.close()
        raise
    return ledger.close(limit=agenda.limit)


def _opening(
    spec: Spec, trials: Sequence[Trial], agenda: TrialQueue, suggestions: Suggestions | None
) -> Iterator[str]:
    first = f", {total(agenda.plans[0])}" if agenda.plans else ""
    to_come = f", and {suggestions.left} suggestions to come" if suggestions is not None else ""
    yield f"{spec.name}: {number(len(trials), 'trial')}{to_come}{first}"
    yield from (f"gate: {gate.describe()}" for gate in spec.gates)


def _run_on_cluster(
    spec: Spec,
    agenda: TrialQueue,
    *,
    store: Store,
    history: PastRuns,
    hear: Callable[[Json], None],
    cluster: Cluster,
    telling: Telling,
) -> None:
    say, progress = telling.say, telling.progress
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    scheduler = connect(_settings(spec, store, cluster))
    ray.get(scheduler.begin.remote())
    requests = Requests(history)
    start = time.monotonic()

    def announce() -> None:
        while agenda.plans:
            plan = agenda.plans.popleft()
            granted = _granted(spec, plan, machines, cluster)
            requests.add(plan, granted=granted)
            progress.add(plan, granted=granted, machines=machines)

    def launch() -> TrialStep | None:
        step = agenda.next(gpu_s=progress.gpu_s(), wall_s=time.monotonic() - start)
        announce()
        return step

    def end(step: TrialStep, failed: Mapping[str, str]) -> None:
        agenda.end(step, failed=failed)
        announce()
        if not failed:
            progress.settle(step.trial.nodes[field] for field in step.fields)

    slots = _slots(agenda.plans, spec, machines, cluster)
    say(
        f"{count(machines, 'CPU'):g} CPUs, {count(machines, 'GPU'):g} GPUs: about {slots} stages at a time"
    )
    for line in () if cluster.autoscaling else _clamped(agenda.plans, spec, machines):
        say(line)
    announce()
    feed = TrialSource(launch=launch, finished=lambda: agenda.finished, requests=requests.of)
    at_once = cluster.max_concurrent or _bound(slots, cluster)
    with watched(scheduler, telling, launched=feed.steps, hear=hear):
        for attempt in range(1, ATTEMPTS + 1):
            try:
                run_steps(feed, scheduler, end=end, at_once=at_once, say=say)
                break
            # Tune gives up on what it does not expect, such as a node out of memory
            except Exception as error:
                reason = f"Ray Tune ended: {str(error).splitlines()[0]}"
                if attempt == ATTEMPTS:
                    raise ConnectionError(
                        f"{reason}; the same command goes on from here"
                    ) from error
                say(
                    f"warning: {reason}; going on with the {number(agenda.left, 'trial')} that are left"
                )
                agenda.again()


def _slots(plans: Iterable[Plan], spec: Spec, machines: Sequence[Machine], cluster: Cluster) -> int:
    """How many stages run at a time, on average."""
    shares = [
        share(granted[fingerprint], machines)
        for plan in plans
        for granted in [_granted(spec, plan, machines, cluster)]
        for fingerprint in plan.reasons
    ]
    if not any(shares):  # it is not known yet what will run
        return max(1, int(count(machines, "GPU") or count(machines, "CPU")))
    return max(1, round(len(shares) / sum(shares)))


def _granted(
    spec: Spec, plan: Plan, machines: Sequence[Machine], cluster: Cluster
) -> dict[str, Resources]:
    asked = {
        fingerprint: spec.resources_of(node.field, node.stage)
        for fingerprint, node in plan.nodes.items()
    }
    if cluster.autoscaling:
        return asked
    return {
        each: clamp(asked[each], machines, batch_size=shared_batch(plan.nodes[each].stage))
        for each in asked
    }


def _bound(slots: int, cluster: Cluster) -> int:
    """Trials at a time: enough to fill the cluster, no more than a quarter of the head's memory
    holds.
    """
    wanted = max(4, 2 * slots, GROWING if cluster.autoscaling else 0)
    head = next(
        (node for node in ray.nodes() if node["Alive"] and next(iter(HEAD)) in node["Resources"]),
        None,
    )
    memory = head["Resources"].get("memory", 0.0) if head else 0.0
    return min(wanted, max(4, int(memory / 4 / COORDINATOR_BYTES)))


def _clamped(plans: Iterable[Plan], spec: Spec, machines: Sequence[Machine]) -> Iterator[str]:
    """What no machine of the cluster can give as it was asked for."""
    nodes = [node for plan in plans for node in plan.nodes.values()]
    asked = [spec.resources_of(node.field, node.stage) for node in nodes]
    if any(resources.num_gpus for resources in asked) and not count(machines, "GPU"):
        yield "no GPU here: stages that ask for one run on CPUs (with --autoscaling they wait for one)"
    most = max((resources.num_cpus for resources in asked), default=0.0)
    if most > (largest := max(machine.get("CPU", 0.0) for machine in machines)):
        yield f"stages ask for up to {most:g} CPUs; they get the {largest:g} of the largest machine"
    yield from dict.fromkeys(
        f"{node.field} asks for {resources.num_gpus:g} GPUs and gets {got:g}: as many of the largest machine's as "
        f"a batch of {batch_size} divides among"
        for node, resources in zip(nodes, asked, strict=True)
        if (batch_size := shared_batch(node.stage))
        and 0
        < (got := clamp(resources, machines, batch_size=batch_size).num_gpus)
        < resources.num_gpus
    )


def _settings(spec: Spec, store: Store, cluster: Cluster) -> Json:
    data_root = str(spec.data_root.absolute()) if spec.data_root else None
    weights = str(spec.weights.absolute()) if spec.weights else None
    return {
        "root": store.url,
        "data_root": data_root,
        "weights": weights,
        "git": git_state(),
        "autoscaling": cluster.autoscaling,
    }


@contextmanager
def joined(cluster: Cluster) -> Iterator[None]:
    """A connection to the cluster. One of this machine's own ends with the sweep; a joined one goes
    on.
    """
    if ray.is_initialized():
        yield
        return
    logging.getLogger("ray").setLevel(logging.ERROR)
    own = {
        "num_cpus": cluster.num_cpus,
        "include_dashboard": False,
        "object_store_memory": OBJECT_STORE_BYTES,
    }
    ray.init(
        address=cluster.address or "local",
        namespace=NAMESPACE,
        log_to_driver=False,
        logging_level=logging.ERROR,
        **({} if cluster.address else own),
    )
    exit_on_sigterm()
    try:
        yield
    finally:
        ray.shutdown()
