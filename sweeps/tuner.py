"""One sweep from start to end: what the store has is recorded, the rest goes through Ray Tune and the scheduler."""

import logging
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
from ray import tune

from occse.provenance import git_state
from occse.stage import Resources
from sweeps.history import History
from sweeps.ledger import Ledger, Summary
from sweeps.machines import Machine, count, fit, share
from sweeps.planning import Plan, make_plan, total
from sweeps.progress import Progress, Say
from sweeps.requests import make_requests
from sweeps.scheduler import HEAD, NAMESPACE, connect
from sweeps.schema import Spec
from sweeps.spec import Trial
from sweeps.stopping import exit_on_sigterm
from sweeps.store import Store
from sweeps.tracking import Tracking
from sweeps.trial import coordinate
from sweeps.watching import Show, Telling, watched
from sweeps.worker import Json

ATTEMPTS = 3
GROWING = 16  # trials at a time on a cluster that may grow, whatever it has now
COORDINATOR_BYTES = 200 << 20
OBJECT_STORE_BYTES = 200 << 20  # only plans travel through it


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Where to run: the cluster at `address`, or by default one on this machine with `num_cpus` (all, if None).

    With `autoscaling` the cluster starts machines when they are asked for; without, stages make do with those that are
    alive when the sweep starts.
    """

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
) -> Summary:
    """Run what is not in the store, and record every trial.

    Running it again goes on: finished stages are found in the store, recorded trials in MLflow. The first Ctrl-C lets
    running stages reach their checkpoint, the second ends the sweep now.

    Args:
        spec: what is asked.
        trials: what `sweeps.spec.trials` made of it.
        store: where the artifacts are.
        tracking: where MLflow's records are.
        cluster: where to run.
        say: takes a line for people.
        show: takes the status of the sweep, every second; lines are shorter then.
        again: the command that continues the sweep, for people who ask for its status.

    Raises:
        OSError: the store cannot be written, or the tracking server or the cluster does not answer; nothing was run.
        KeyboardInterrupt: the sweep was stopped.
    """
    store.check_writable()
    tracking.open(trials)
    plan = make_plan(trials, has=store.__contains__, resources=spec.resources_of)
    ledger = Ledger(plan, store=store, tracking=tracking, say=say)
    say(f"{spec.name}: {len(trials)} trials, {total(plan)}")
    try:
        for trial in trials:
            if ledger.broken(trial) or not any(node.fingerprint in plan.reasons for node in trial.nodes.values()):
                ledger.end(trial, failed={})
        waiting = [trial for trial in trials if not ledger.ended(trial)]
        if waiting:
            with joined(cluster):
                history = History(store.manifests())
                progress = Progress(spec.name, history=history, say=say, command=again, summed=show is None)
                telling = Telling(progress, store=store, say=say, show=show)
                _run_on_cluster(spec, waiting, plan=plan, ledger=ledger, cluster=cluster, telling=telling)
    except (KeyboardInterrupt, SystemExit):  # see exit_on_sigterm
        say(ledger.close().describe())
        raise
    except BaseException:
        ledger.close()
        raise
    return ledger.close()


def _run_on_cluster(
    spec: Spec, trials: Sequence[Trial], *, plan: Plan, ledger: Ledger, cluster: Cluster, telling: Telling
) -> None:
    say, progress = telling.say, telling.progress
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    asked = _asked(spec, plan)
    granted = asked if cluster.autoscaling else {each: fit(asked[each], machines) for each in asked}
    shares = {fingerprint: share(granted[fingerprint], machines) for fingerprint in plan.reasons}
    slots = max(1, round(len(shares) / sum(shares.values()))) if any(shares.values()) else len(shares)
    say(f"{count(machines, 'CPU'):g} CPUs, {count(machines, 'GPU'):g} GPUs: about {slots} stages at a time")
    for line in () if cluster.autoscaling else _clamped(asked.values(), machines):
        say(line)
    scheduler = connect(_settings(spec, ledger.store, cluster))
    ray.get(scheduler.begin.remote())
    progress.add(plan, granted=granted, machines=machines)
    requests = make_requests(trials, plan, granted=granted, durations=ledger.store.durations())

    def end(number: int, failed: Mapping[str, str]) -> None:
        ledger.end(trials[number], failed=failed)
        if not failed:
            progress.settle(trials[number])

    def left() -> list[int]:
        return [number for number, trial in enumerate(trials) if not ledger.ended(trial)]

    at_once = cluster.max_concurrent or _bound(slots, cluster)
    launched: list[str] = []
    with watched(scheduler, telling, launched=launched, hear=ledger.hear):
        for attempt in range(1, ATTEMPTS + 1):
            try:
                callback = _Ended(scheduler, end=end, launched=launched, say=say)
                _tune(left(), requests, scheduler, callback=callback, at_once=at_once)
                break
            except Exception as error:  # Tune gives up on what it does not expect, such as a node out of memory
                reason = f"Ray Tune ended: {str(error).splitlines()[0]}"
                if attempt == ATTEMPTS:
                    raise ConnectionError(f"{reason}; the same command goes on from here") from error
                say(f"warning: {reason}; going on with the {len(left())} trials that are left")


def _bound(slots: int, cluster: Cluster) -> int:
    """Trials at a time: enough to fill the cluster, no more than a quarter of the head's memory holds."""
    wanted = max(4, 2 * slots, GROWING if cluster.autoscaling else 0)
    head = next((node for node in ray.nodes() if node["Alive"] and next(iter(HEAD)) in node["Resources"]), None)
    memory = head["Resources"].get("memory", 0.0) if head else 0.0
    return min(wanted, max(4, int(memory / 4 / COORDINATOR_BYTES)))


def _asked(spec: Spec, plan: Plan) -> dict[str, Resources]:
    nodes = plan.nodes.items()
    return {fingerprint: spec.resources_of(node.field, node.stage) for fingerprint, node in nodes}


def _clamped(asked: Collection[Resources], machines: Sequence[Machine]) -> Iterator[str]:
    """What no machine of the cluster can give as it was asked for."""
    if any(resources.num_gpus for resources in asked) and not count(machines, "GPU"):
        yield "no GPU here: stages that ask for one run on CPUs (with --autoscaling they wait for one)"
    most = max(resources.num_cpus for resources in asked)
    if most > (largest := max(machine.get("CPU", 0.0) for machine in machines)):
        yield f"stages ask for up to {most:g} CPUs; they get the {largest:g} of the largest machine"


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


def _tune(
    numbers: Sequence[int],
    requests: Sequence[Mapping[str, Json]],
    scheduler: Any,  # noqa: ANN401 - Ray types no actor handles
    *,
    callback: tune.Callback,
    at_once: int,
) -> None:
    trainable = tune.with_parameters(coordinate, scheduler=scheduler, requests=requests)
    # {"CPU": 0} is refused by Tune, and a whole CPU would be missing to the stages
    trainable = tune.with_resources(trainable, tune.PlacementGroupFactory([dict(HEAD)]))
    # not in the store: what a killed driver leaves of it nobody needs, and coordinators keep no checkpoints there
    with tempfile.TemporaryDirectory(prefix="occse-tune-") as results:
        tune.Tuner(
            trainable,
            param_space={"trial": tune.grid_search(list(numbers))},
            tune_config=tune.TuneConfig(max_concurrent_trials=at_once),
            run_config=tune.RunConfig(
                name="sweep",
                storage_path=results,
                verbose=0,
                callbacks=[callback],
                failure_config=tune.FailureConfig(max_failures=3),
            ),
        ).fit()


class _Ended(tune.Callback):  # type: ignore[misc]  # Ray has no types
    """Records a trial that ended and gives back its leases. An exception here would end the whole Tune run."""

    def __init__(
        self,
        scheduler: Any,  # noqa: ANN401
        *,
        end: Callable[[int, Mapping[str, str]], None],
        launched: list[str],
        say: Say,
    ) -> None:
        self._scheduler = scheduler
        self._end = end
        self._launched = launched
        self._say = say

    def __getstate__(self) -> dict[str, object]:
        return {}  # Tune pickles its callbacks for a restore that is not ours: the store is what a sweep goes on from

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ANN401
        """The coordinator is about to ask for stages under this id."""
        self._launched.append(trial.trial_id)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ANN401
        """The coordinator saw its trial through; its last report tells what failed."""
        self._finish(trial, trial.last_result.get("failed", {}))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ANN401
        """The coordinator itself died, again and again."""
        self._finish(trial, {"trial": "its coordinating process died too often"})

    def _finish(self, trial: Any, failed: Mapping[str, str]) -> None:  # noqa: ANN401
        try:
            self._scheduler.release.remote(trial.trial_id)
            self._end(trial.config["trial"], failed)
        except Exception as error:
            self._say(f"warning: {trial}: {type(error).__name__}: {error}")


@contextmanager
def joined(cluster: Cluster) -> Iterator[None]:
    """A connection to the cluster. One of this machine's own ends with the sweep; a joined one goes on."""
    if ray.is_initialized():
        yield
        return
    logging.getLogger("ray").setLevel(logging.ERROR)
    own = {"num_cpus": cluster.num_cpus, "include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
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
