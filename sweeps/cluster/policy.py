"""Which stages start next. Pure: the scheduler asks it about the cluster, the simulation of a plan
about a made-up one.

Resources are plain mappings such as `{"CPU": 4.0, "GPU": 0.5}`, as Ray gives them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

Amounts = Mapping[str, float]
EXACT = 1e-6  # sums of fractions of a GPU


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """A stage whose inputs are there.

    Attributes:
        needs: what it occupies on one machine while it runs. path_s: seconds from its start to the
        end of the longest chain of stages that begins with it.
    """

    fingerprint: str
    needs: Amounts
    path_s: float = 0.0


def longest_paths(
    inputs: Mapping[str, Iterable[str]], seconds: Mapping[str, float]
) -> dict[str, float]:
    """For each stage, the seconds from its start to the end of the longest chain that begins with
    it.

    Args:
        inputs: the fingerprints that each stage reads, upstream first; those that are no key are
        there already. seconds: how long each stage takes; what is missing counts as nothing.
    """
    paths = {fingerprint: seconds.get(fingerprint, 0.0) for fingerprint in inputs}
    for fingerprint in reversed(list(inputs)):
        for need in inputs[fingerprint]:
            if need in paths:
                paths[need] = max(paths[need], seconds.get(need, 0.0) + paths[fingerprint])
    return paths


def cpus_beside_gpus(
    inputs: Mapping[str, Iterable[str]], needs: Mapping[str, Amounts]
) -> dict[str, float]:
    """For each stage, the most CPUs per GPU that it or a stage behind it needs; 0 where no GPU is
    needed any more.

    Args:
        inputs: as for `longest_paths`.
        needs: what each stage occupies.
    """
    most = {fingerprint: _per_gpu(needs[fingerprint]) for fingerprint in inputs}
    for fingerprint in reversed(list(inputs)):
        for need in inputs[fingerprint]:
            if need in most:
                most[need] = max(most[need], most[fingerprint])
    return most


def choose(
    waiting: Iterable[Waiting],
    free: Sequence[Amounts],
    *,
    totals: Sequence[Amounts] | None = None,
    kept: float = 0.0,
) -> list[tuple[Waiting, int]]:
    """What to start now, and on which of the machines.

    Stages that need a GPU come first, so that no GPU idles for want of CPUs; then the longest path.
    What does not fit anywhere lets others pass. A stage without a GPU goes where the fewest GPUs
    are, and leaves the CPUs that the GPUs will need, unless no machine of this cluster could ever
    take it then.

    Args:
        waiting: the stages whose inputs are there.
        free: what each machine has left.
        totals: what each machine has when nothing runs; by default nothing does.
        kept: CPUs to keep for each free GPU, as long as a stage that needs one may still come.
    """
    totals = totals or free
    left = [dict(machine) for machine in free]
    chosen = []
    for stage in sorted(waiting, key=lambda stage: (not stage.needs.get("GPU"), -stage.path_s)):
        place = _place(stage.needs, left, totals, kept=kept)
        if place is not None:
            for name, amount in stage.needs.items():
                left[place][name] = left[place].get(name, 0.0) - amount
            chosen.append((stage, place))
    return chosen


def _place(
    needs: Amounts, left: Sequence[Amounts], totals: Sequence[Amounts], *, kept: float
) -> int | None:
    """The fullest machine that has room, so that wide stages find one too."""
    gpus = left if needs.get("GPU") else totals
    if needs.get("GPU") or not any(fits(needs, _without_kept(machine, kept)) for machine in totals):
        kept = 0.0
    able = [
        place for place, machine in enumerate(left) if fits(needs, _without_kept(machine, kept))
    ]
    order = [(gpus[place].get("GPU", 0.0), left[place].get("CPU", 0.0), place) for place in able]
    return min(order)[-1] if order else None


def _without_kept(machine: Amounts, kept: float) -> Amounts:
    return {**machine, "CPU": machine.get("CPU", 0.0) - kept * machine.get("GPU", 0.0)}


def _per_gpu(needs: Amounts) -> float:
    gpus = needs.get("GPU", 0.0)
    return needs.get("CPU", 0.0) / gpus if gpus else 0.0


def fits(needs: Amounts, free: Amounts) -> bool:
    """Whether a machine with `free` resources can take a stage now."""
    return all(amount <= free.get(name, 0.0) + EXACT for name, amount in needs.items())
