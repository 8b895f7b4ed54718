"""Decides which stages start next, and on which machine.

All functions are pure: the scheduler calls them for the cluster, the simulation of a plan for a
made-up one. Resources are plain mappings such as `{"CPU": 4.0, "GPU": 0.5}`, as Ray gives them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

Amounts = Mapping[str, float]
# Sums of fractions of a GPU are off by rounding; Ray itself counts in steps of 1e-4.
EXACT = 1e-6


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """A stage whose inputs are there.

    Attributes:
        needs: what it occupies on one machine while it runs.
        path_s: seconds to the end of the longest chain of stages that begins with it.
    """

    fingerprint: str
    needs: Amounts
    path_s: float = 0.0


def longest_paths(
    inputs: Mapping[str, Iterable[str]], seconds: Mapping[str, float]
) -> dict[str, float]:
    """Return, for each stage, the seconds to the end of the longest chain that begins with it.

    Args:
        inputs: the fingerprints that each stage reads, upstream first; those that are no key are
            there already.
        seconds: how long each stage takes; a stage that is no key takes no time.
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
    """Return, for each stage, the most CPUs per GPU that it or a stage behind it needs.

    0 where no GPU is needed any more.

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
    """Return the stages to start now, each with the index of its machine.

    Stages that need a GPU come first, so that no GPU idles for want of CPUs; then the longest path.
    A stage that fits nowhere lets others pass. A stage without a GPU goes where the fewest GPUs
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
        index = _best_machine(stage.needs, left, totals, kept=kept)
        if index is not None:
            for name, amount in stage.needs.items():
                left[index][name] = left[index].get(name, 0.0) - amount
            chosen.append((stage, index))
    return chosen


def _best_machine(
    needs: Amounts, left: Sequence[Amounts], totals: Sequence[Amounts], *, kept: float
) -> int | None:
    """Return the index of the fullest machine that has room, so that wide stages find one too."""
    gpus = left if needs.get("GPU") else totals
    if needs.get("GPU") or not any(fits(needs, _without_kept(machine, kept)) for machine in totals):
        kept = 0.0
    order = [
        (gpus[index].get("GPU", 0.0), machine.get("CPU", 0.0), index)
        for index, machine in enumerate(left)
        if fits(needs, _without_kept(machine, kept))
    ]
    return min(order)[-1] if order else None


def _without_kept(machine: Amounts, kept: float) -> Amounts:
    return {**machine, "CPU": machine.get("CPU", 0.0) - kept * machine.get("GPU", 0.0)}


def _per_gpu(needs: Amounts) -> float:
    gpus = needs.get("GPU", 0.0)
    return needs.get("CPU", 0.0) / gpus if gpus else 0.0


def fits(needs: Amounts, free: Amounts) -> bool:
    """Return whether a machine with `free` resources can take a stage now."""
    return all(amount <= free.get(name, 0.0) + EXACT for name, amount in needs.items())
