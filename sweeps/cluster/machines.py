"""Arithmetic on what the machines of a cluster can give a stage."""

from collections.abc import Mapping, Sequence

from occse.stage import Resources

# Resources by Ray's names, "CPU" and "GPU" among them.
Machine = Mapping[str, float]


def clamp(asked: Resources, machines: Sequence[Machine], *, batch_size: int = 0) -> Resources:
    """Return `asked`, or as much of it as the largest machine has.

    A cluster without GPUs is asked for none. Several GPUs are as many as `batch_size`, if given,
    divides among."""
    num_gpus = min(asked.num_gpus, max(machine.get("GPU", 0.0) for machine in machines))
    if batch_size and num_gpus > 1:
        divisors = (number for number in range(int(num_gpus), 0, -1) if batch_size % number == 0)
        num_gpus = next(divisors)
    # CPUs and GPUs must be on one machine: the largest CPU machine may have no GPU.
    able = [machine for machine in machines if machine.get("GPU", 0.0) >= num_gpus]
    num_cpus = min(asked.num_cpus, max(machine.get("CPU", 0.0) for machine in able))
    return Resources(num_cpus=num_cpus, num_gpus=num_gpus)


def share(resources: Resources, machines: Sequence[Machine]) -> float:
    """Return the part of the whole cluster that `resources` occupy, in [0, 1]."""
    parts = [0.0]
    for asked, name in ((resources.num_cpus, "CPU"), (resources.num_gpus, "GPU")):
        total = count(machines, name)
        if asked and total:
            parts.append(asked / total)
    return min(1.0, max(parts))


def count(machines: Sequence[Machine], name: str) -> float:
    """Return how many "CPU" or "GPU" the machines have together."""
    return sum(machine.get(name, 0.0) for machine in machines)
