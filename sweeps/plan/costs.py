"""The cost of a plan: GPU hours, time on a cluster, disk.

Each figure comes three times: with the least that every stage ever took, the median, the most."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from occse.pipeline import Node
from occse.stage import Resources, Stage
from sweeps.cluster.machines import Machine, clamp
from sweeps.plan.past_runs import Estimate, PastRuns, Range
from sweeps.plan.plan import Plan
from sweeps.plan.simulation import Task, makespan
from sweeps.spec.resources import shared_batch


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Cost of the artifacts of one stage class that must be made; None where it is unknown."""

    kind: str
    to_run: int
    #: Seconds that they hold GPUs, times the GPUs that each holds; 0 where none asks for a GPU.
    gpu_s: float | None
    #: Seconds of one.
    each: Estimate | None
    #: Seconds of all of them, one after the other.
    seconds: Range | None
    #: Bytes of one.
    size: Estimate | None
    #: Bytes of all of them.
    bytes: float | None


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Cost of a plan on `machines`."""

    machines: Sequence[Machine]
    #: Stage classes of which something must be made.
    rows: Sequence[Cost]
    #: Seconds that GPUs are held by stages whose time is known.
    gpu_s: Range
    #: Seconds from start to end, without the time to start processes; unknown times count as 0.
    wall_s: Range
    #: Bytes of the maps and arrays of one trial's images; None where not all are known.
    trial_maps: float | None
    #: Bytes of one trial's networks; None where not all are known.
    trial_networks: float | None

    @property
    def unknown(self) -> list[str]:
        """Stage classes whose time is unknown."""
        return [row.kind for row in self.rows if row.each is None]


def make_costs(
    plan: Plan,
    history: PastRuns,
    *,
    machines: Sequence[Machine],
    resources: Callable[[str, Stage], Resources],
) -> Costs:
    """Return the cost of `plan` on `machines`, by past runs.

    Args:
        plan: the artifacts to make.
        history: the artifacts of the store.
        machines: the cluster, by Ray's names of resources.
        resources: returns the resources of the stage in a field, `Spec.resources_of`.
    """
    nodes = [plan.nodes[fingerprint] for fingerprint in plan.reasons]
    granted = {
        node.fingerprint: clamp(
            resources(node.field, node.stage), machines, batch_size=shared_batch(node.stage)
        )
        for node in nodes
    }
    seconds = {
        each.fingerprint: history.seconds(each, plan.nodes, granted=granted[each.fingerprint])
        for each in nodes
    }
    by_kind: dict[str, list[Node]] = {row.kind: [] for row in plan.rows if row.to_run}
    for node in nodes:
        by_kind[node.kind].append(node)
    known = [
        (granted[fingerprint].num_gpus, each)
        for fingerprint, each in seconds.items()
        if each is not None
    ]
    maps, networks = _of_one_trial(plan, history)
    return Costs(
        machines=machines,
        rows=[_cost(kind, some, seconds, granted, history, plan) for kind, some in by_kind.items()],
        gpu_s=_each_way(lambda way: sum(gpus * way(each) for gpus, each in known)),
        wall_s=_wall_s(nodes, seconds, granted, machines),
        trial_maps=maps,
        trial_networks=networks,
    )


Way = Callable[[Estimate], float]


def _each_way(figure: Callable[[Way], float]) -> Range:
    return Range(
        low=figure(lambda each: each.low),
        usual=figure(lambda each: each.usual),
        high=figure(lambda each: each.high),
    )


def _wall_s(
    nodes: Sequence[Node],
    seconds: Mapping[str, Estimate | None],
    granted: Mapping[str, Resources],
    machines: Sequence[Machine],
) -> Range:
    """Return the time from start to end, replayed as often as the figures differ."""
    known = [estimate for estimate in seconds.values() if estimate is not None]
    if not known:
        return Range(low=0.0, usual=0.0, high=0.0)
    if all(estimate.low == estimate.high for estimate in known):
        wall_s = makespan(_tasks(nodes, seconds, granted, lambda each: each.usual), machines)
        return Range(low=wall_s, usual=wall_s, high=wall_s)
    found = _each_way(lambda way: makespan(_tasks(nodes, seconds, granted, way), machines))
    # Shorter stages may end later: they start in another order (Graham's anomalies, 1966).
    times = (found.low, found.usual, found.high)
    return Range(low=min(times), usual=found.usual, high=max(times))


def _tasks(
    nodes: Iterable[Node],
    seconds: Mapping[str, Estimate | None],
    granted: Mapping[str, Resources],
    way: Way,
) -> dict[str, Task]:
    tasks = {}
    for node in nodes:
        each = seconds[node.fingerprint]
        occupied = granted[node.fingerprint]
        needs = {"CPU": occupied.num_cpus, "GPU": occupied.num_gpus}
        tasks[node.fingerprint] = Task(
            inputs=node.inputs.values(), needs=needs, seconds=way(each) if each else 0.0
        )
    return tasks


def _cost(
    kind: str,
    nodes: Sequence[Node],
    seconds: Mapping[str, Estimate | None],
    granted: Mapping[str, Resources],
    history: PastRuns,
    plan: Plan,
) -> Cost:
    times = [seconds[node.fingerprint] for node in nodes]
    # Stages of one class may ask for different GPUs, for the spec may name `crf_low` alone.
    held = [
        (granted[node.fingerprint].num_gpus, seconds[node.fingerprint])
        for node in nodes
        if granted[node.fingerprint].num_gpus
    ]
    on_gpus = [num_gpus * estimate.usual for num_gpus, estimate in held if estimate]
    sizes = [history.bytes(node, plan.nodes) for node in nodes]
    known = [estimate for estimate in times if estimate]
    measured = [estimate for estimate in sizes if estimate]
    return Cost(
        kind=kind,
        to_run=len(nodes),
        gpu_s=sum(on_gpus) if len(on_gpus) == len(held) else None,
        each=_merged(times),
        seconds=_each_way(lambda way: sum(map(way, known))) if len(known) == len(times) else None,
        size=_merged(sizes),
        bytes=sum(each.usual for each in measured) if len(measured) == len(sizes) else None,
    )


def _merged(estimates: Sequence[Estimate | None]) -> Estimate | None:
    """Return one estimate for stages of one class, None where one of them is unknown."""
    known = [estimate for estimate in estimates if estimate is not None]
    if not known or len(known) < len(estimates):
        return None
    # Stages that do the same work share one estimate, of which the sets need a look only once.
    distinct = list({id(estimate): estimate for estimate in known}.values())
    differs: set[str] = set()
    for estimate in distinct:
        differs.update(estimate.differs)
    return Estimate(
        low=min(each.low for each in distinct),
        usual=median(each.usual for each in known),
        high=max(each.high for each in distinct),
        runs=frozenset[str]().union(*(each.runs for each in distinct)),
        where=", ".join(sorted({each.where for each in distinct})),
        differs=tuple(sorted(differs)),
    )


def _of_one_trial(plan: Plan, history: PastRuns) -> tuple[float | None, float | None]:
    """Return the bytes of the first trial's maps and of its networks.

    The first trial is the baseline, where there is one."""
    first = plan.trials[0].nodes.values() if plan.trials else ()
    # The stage `data` has no such input: the images themselves are left out.
    nodes = {node.fingerprint: node for node in first if "data" in node.inputs}
    sizes = {fingerprint: history.bytes(node, plan.nodes) for fingerprint, node in nodes.items()}

    def total(*, maps: bool) -> float | None:
        some = [
            each
            for fingerprint, each in sizes.items()
            if (nodes[fingerprint].stage.mapped_split is not None) == maps
        ]
        known = [each.usual for each in some if each is not None]
        return sum(known) if len(known) == len(some) else None

    return total(maps=True), total(maps=False)
