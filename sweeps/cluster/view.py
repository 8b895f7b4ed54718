"""The cluster as the scheduler sees it: its machines, what is free on them, and what is missing."""

import itertools
import time
from collections.abc import Iterable, Iterator

import ray

from sweeps.cluster.demand import REPEAT_S, connect_demand
from sweeps.cluster.policy import Amounts, fits, share_of
from sweeps.cluster.stage_run import StageRun


class ClusterView:
    """Machines that are alive, by Ray's node id, and the demand that a growing cluster was told.

    Args:
        autoscaling: whether the cluster starts machines when they are asked for.
    """

    def __init__(self, *, autoscaling: bool) -> None:
        self.machines: dict[str, Amounts] = {}
        self._autoscaling = autoscaling
        self._demanded: list[dict[str, float]] | None = None
        self._asked = float("-inf")

    def look(self) -> None:
        """See which machines are alive."""
        self.machines = {
            node["NodeID"]: {name: node["Resources"].get(name, 0.0) for name in ("CPU", "GPU")}
            for node in ray.nodes()
            if node["Alive"]
        }

    def demand(self, runs: Iterable[StageRun], *, owner: str) -> None:
        """Ask a cluster that can grow for what all of `runs` need; `owner` is the scheduler."""
        if not self._autoscaling:
            return
        bundles = []
        for run in runs:
            needs = run.request.needs
            bundles.append({name: amount for name, amount in needs.items() if amount})
        now = time.monotonic()
        if bundles != self._demanded or now - self._asked > REPEAT_S:
            # fire and forget: an actor that just restarts hears it at the next turn
            connect_demand().put.remote(owner, bundles)
            self._demanded = bundles
            self._asked = now

    def free(self, runs: Iterable[StageRun]) -> list[Amounts]:
        """Return what each machine has left beside those of `runs` that are on it."""
        left = {machine: dict(totals) for machine, totals in self.machines.items()}
        for run in runs:
            if run.machine in left:
                for name, amount in run.request.needs.items():
                    # Ray's own count lags behind by a heartbeat, in which a second stage would be
                    # sent to the same room.
                    left[run.machine][name] -= amount
        return list(left.values())

    def has_room(self, ready: Iterable[StageRun], runs: Iterable[StageRun]) -> bool:
        """Tell whether a machine has room for any of `ready`, beside those of `runs` on it.

        On a busy cluster none has, most of the time. This is then all that a request costs; a
        choice among thousands that wait would cost ten times as much.
        """
        kinds = {(run.request.num_cpus, run.request.num_gpus) for run in ready}
        if not kinds:
            return False
        free = self.free(runs)
        wanted = [{"CPU": num_cpus, "GPU": num_gpus} for num_cpus, num_gpus in kinds]
        return any(fits(needs, machine) for needs, machine in itertools.product(wanted, free))

    def held(self, runs: Iterable[StageRun]) -> dict[str, float]:
        """Return the part of the cluster that each sweep's stages hold, divided by its weight."""
        totals = list(self.machines.values())
        held: dict[str, float] = {}
        for run in runs:
            if run.machine:
                part = share_of(run.request.needs, totals) / run.request.weight
                held[run.request.sweep] = held.get(run.request.sweep, 0.0) + part
        return held

    def unmet(self, runs: Iterable[StageRun]) -> Iterator[str]:
        """Yield the needs of `runs` that no machine could meet even when nothing ran on it."""
        for run in runs:
            needs = run.request.needs
            if run.leased and not any(fits(needs, machine) for machine in self.machines.values()):
                yield _describe(needs)


def _describe(needs: Amounts) -> str:
    parts = []
    for name, amount in needs.items():
        if amount:
            parts.append(f"{amount:g} {name}" if amount == 1 else f"{amount:g} {name}s")
    return ", ".join(parts)
