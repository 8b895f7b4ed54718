"""What a plan costs: GPU hours, time on a cluster, disk. Each figure three times: if every stage
took the least that it ever took, the median, and the most."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from occse.pipeline import Node
from occse.stage import Resources, Stage
from sweeps.cluster.machines import Machine, clamp
from sweeps.plan.past_runs import GROWS, Estimate, PastRuns, Range
from sweeps.plan.plan import Plan
from sweeps.plan.simulation import Task, makespan
from sweeps.spec.resources import shared_batch


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What must be made of one stage class.

    Attributes:
        num_gpus: GPUs that each occupies.
        each: seconds of one; None where it was never measured.
        seconds: of all of them, one after the other.
        size: bytes of one; None where it was never measured.
        bytes: of all of them.
    """

    kind: str
    to_run: int
    num_gpus: float
    each: Estimate | None
    seconds: Range | None
    size: Estimate | None
    bytes: float | None


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What a plan costs on `machines`.

    Attributes:
        rows: by stage class, only those of which something must be made. gpu_s: time that GPUs are
        held, in seconds; of the stages whose time is known. wall_s: from start to end, without the
        time to start processes; what was never measured counts as nothing. trial_maps: bytes of
        what the images of one trial leave: maps and arrays; None where not all of it is known.
        trial_networks: bytes of its networks.
    """

    machines: Sequence[Machine]
    rows: Sequence[Cost]
    gpu_s: Range
    wall_s: Range
    trial_maps: float | None
    trial_networks: float | None

    @property
    def unknown(self) -> list[str]:
        """The stage classes whose time is unknown."""
        return [row.kind for row in self.rows if row.each is None]


def make_costs(
    plan: Plan,
    history: PastRuns,
    *,
    machines: Sequence[Machine],
    resources: Callable[[str, Stage], Resources],
) -> Costs:
    """What `plan` costs on `machines`, by what `history` tells.

    Args:
        plan: what must run.
        history: the artifacts of the store.
        machines: the cluster, by Ray's names of resources.
        resources: what the stage in a field may occupy, `Spec.resources_of`.
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
        wall_s=_each_way(lambda way: makespan(_tasks(nodes, seconds, granted, way), machines)),
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


def _tasks(
    nodes: Iterable[Node],
    seconds: Mapping[str, Estimate | None],
    granted: Mapping[str, Resources],
    way: Way,
) -> dict[str, Task]:
    tasks = {}
    for node in nodes:
        each, occupied = seconds[node.fingerprint], granted[node.fingerprint]
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
    sizes = [history.bytes(node, plan.nodes) for node in nodes]
    known, measured = [each for each in times if each], [each for each in sizes if each]
    return Cost(
        kind=kind,
        to_run=len(nodes),
        num_gpus=granted[nodes[0].fingerprint].num_gpus,
        each=_merged(times),
        seconds=_each_way(lambda way: sum(map(way, known))) if len(known) == len(times) else None,
        size=_merged(sizes),
        bytes=sum(each.usual for each in measured) if len(measured) == len(sizes) else None,
    )


def _merged(estimates: Sequence[Estimate | None]) -> Estimate | None:
    """One estimate for stages of one class; None where one of them is unknown."""
    known = [each for each in estimates if each is not None]
    distinct = {id(each): each for each in known}.values()
    if not known or len(known) < len(estimates):
        return None
    return Estimate(
        low=min(each.low for each in distinct),
        usual=median(each.usual for each in known),
        high=max(each.high for each in distinct),
        runs=frozenset[str]().union(*(each.runs for each in distinct)),
        where=", ".join(sorted({each.where for each in distinct})),
        differs=tuple(sorted({key for each in distinct for key in each.differs})),
    )


def _of_one_trial(plan: Plan, history: PastRuns) -> tuple[float | None, float | None]:
    """Bytes of the maps and of the networks of the first trial, the baseline where there is one."""
    first = plan.trials[0].nodes.values() if plan.trials else ()
    nodes = {node.fingerprint: node for node in first if "data" in node.inputs}
    sizes = {fingerprint: history.bytes(node, plan.nodes) for fingerprint, node in nodes.items()}

    def total(*, maps: bool) -> float | None:
        some = [
            each
            for fingerprint, each in sizes.items()
            if (nodes[fingerprint].kind in GROWS) == maps
        ]
        known = [each.usual for each in some if each is not None]
        return sum(known) if len(known) == len(some) else None

    return total(maps=True), total(maps=False)
