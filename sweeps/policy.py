"""Which stages start next. Pure: the scheduler asks it about the cluster, the simulation of a plan about a made-up one.

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
        needs: what it occupies on one machine while it runs.
        path_s: seconds from its start to the end of the longest chain of stages that begins with it.
    """

    fingerprint: str
    needs: Amounts
    path_s: float = 0.0


def longest_paths(inputs: Mapping[str, Iterable[str]], seconds: Mapping[str, float]) -> dict[str, float]:
    """For each stage, the seconds from its start to the end of the longest chain that begins with it.

    Args:
        inputs: the fingerprints that each stage reads, upstream first; those that are no key are there already.
        seconds: how long each stage takes; what is missing counts as nothing.
    """
    paths = {fingerprint: seconds.get(fingerprint, 0.0) for fingerprint in inputs}
    for fingerprint in reversed(list(inputs)):
        for need in inputs[fingerprint]:
            if need in paths:
                paths[need] = max(paths[need], seconds.get(need, 0.0) + paths[fingerprint])
    return paths


def choose(waiting: Iterable[Waiting], free: Sequence[Amounts]) -> list[tuple[Waiting, int]]:
    """What to start now, and on which of the machines, whose free resources are given.

    Stages that need a GPU come first, so that no GPU idles for want of CPUs; then the longest path. What does not fit
    anywhere lets others pass. A stage without a GPU goes where the fewest GPUs are.
    """
    left = [dict(machine) for machine in free]
    order = sorted(range(len(left)), key=lambda place: left[place].get("GPU", 0.0))
    chosen = []
    for stage in sorted(waiting, key=lambda stage: (not stage.needs.get("GPU"), -stage.path_s)):
        place = next((place for place in order if fits(stage.needs, left[place])), None)
        if place is not None:
            for name, amount in stage.needs.items():
                left[place][name] = left[place].get(name, 0.0) - amount
            chosen.append((stage, place))
    return chosen


def fits(needs: Amounts, free: Amounts) -> bool:
    """Whether a machine with `free` resources can take a stage now."""
    return all(amount <= free.get(name, 0.0) + EXACT for name, amount in needs.items())
