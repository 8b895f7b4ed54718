"""Room on the machines for the stages of a sweep, as `plan` and `run` tell it."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from occse.naming.counts import number
from occse.pipeline import Node
from occse.stage import Resources
from sweeps.cluster.machines import Machine, clamp, count, share
from sweeps.spec.resources import shared_batch


def stages_at_once(granted: Counter[Resources], machines: Sequence[Machine]) -> int:
    """Return how many stages run at a time, on average.

    Args:
        granted: number of the stages that will run, by what each of them gets.
        machines: the cluster.
    """
    whole = sum(share(resources, machines) * times for resources, times in granted.items())
    if not whole:  # it is not known yet what will run
        return max(1, int(count(machines, "GPU") or count(machines, "CPU")))
    return max(1, round(granted.total() / whole))


def given(
    asked: Sequence[tuple[Node, Resources]], machines: Sequence[Machine]
) -> Counter[Resources]:
    """Count the stages by what each gets on these machines of what it asks for."""
    return Counter(
        clamp(resources, machines, batch_size=shared_batch(node.stage)) for node, resources in asked
    )


def about_room(
    asked: Sequence[tuple[Node, Resources]],
    machines: Sequence[Machine],
    *,
    at_once: int,
    grows: bool = False,
) -> Iterator[str]:
    """Yield what the machines have, and which requests none of them can meet.

    Args:
        asked: the stages with what each asks for.
        machines: the cluster.
        at_once: from `stages_at_once`.
        grows: the cluster starts machines for what is asked for.
    """
    cpus = int(count(machines, "CPU"))
    gpus = int(count(machines, "GPU"))
    stages = number(at_once, "stage")
    yield f"{number(cpus, 'CPU')}, {number(gpus, 'GPU')}: about {stages} at a time"
    if grows:
        return
    if any(resources.num_gpus for _, resources in asked) and not gpus:
        yield (
            "no GPU here: stages that ask for one run on CPUs (with --autoscaling they wait for "
            "one)"
        )
    most = max((resources.num_cpus for _, resources in asked), default=0.0)
    largest = max(machine.get("CPU", 0.0) for machine in machines)
    if most > largest:
        yield f"stages ask for up to {most:g} CPUs; they get the {largest:g} of the largest machine"
    yield from _divided(asked, machines)


def _divided(
    asked: Sequence[tuple[Node, Resources]], machines: Sequence[Machine]
) -> Mapping[str, None]:
    """Return a line for each stage that gets fewer GPUs, because its batch must divide."""
    lines: dict[str, None] = {}
    for node, resources in asked:
        batch_size = shared_batch(node.stage)
        got = clamp(resources, machines, batch_size=batch_size).num_gpus
        if batch_size and 0 < got < resources.num_gpus:
            lines[
                f"{node.field} asks for {number(int(resources.num_gpus), 'GPU')} and gets {got:g}, "
                f"the most on one machine that share its batch of {batch_size} images equally"
            ] = None
    return lines
