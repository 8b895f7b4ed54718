"""What the machines of a cluster can give a stage."""

from collections.abc import Mapping, Sequence

from occse.stage import Resources

Machine = Mapping[str, float]


def clamp(asked: Resources, machines: Sequence[Machine], *, batch_size: int = 0) -> Resources:
    """`asked`, clamped to the largest machine; a cluster without GPUs is asked for none.

    Several GPUs are as many as `batch_size`, if given, divides among.
    """
    num_gpus = min(asked.num_gpus, max(machine.get("GPU", 0.0) for machine in machines))
    if batch_size and num_gpus > 1:
        num_gpus = next(
            number for number in range(int(num_gpus), 0, -1) if batch_size % number == 0
        )
    able = [machine for machine in machines if machine.get("GPU", 0.0) >= num_gpus]
    return Resources(
        num_cpus=min(asked.num_cpus, max(machine.get("CPU", 0.0) for machine in able)),
        num_gpus=num_gpus,
    )


def share(resources: Resources, machines: Sequence[Machine]) -> float:
    """The part of the whole cluster that `resources` occupy, in [0, 1]."""
    parts = [
        asked / total
        for asked, name in ((resources.num_cpus, "CPU"), (resources.num_gpus, "GPU"))
        if asked and (total := count(machines, name))
    ]
    return min(1.0, max(parts, default=0.0))


def count(machines: Sequence[Machine], name: str) -> float:
    """How many "CPU" or "GPU" the machines have together."""
    return sum(machine.get(name, 0.0) for machine in machines)
