"""The cluster as the scheduler sees it: its machines, what is free on them, and what is missing."""

from collections.abc import Iterable, Iterator

import ray

from sweeps.cluster.policy import Amounts, fits
from sweeps.cluster.stage_run import StageRun


class ClusterView:
    """Machines that are alive, by Ray's node id, and the demand that a growing cluster was told.

    Args:
        autoscaling: whether the cluster starts machines when they are asked for.
    """

    def __init__(self, *, autoscaling: bool) -> None:
        self.machines: dict[str, Amounts] = {}
        self._autoscaling = autoscaling
        self._demanded: list[Amounts] | None = None

    def look(self) -> None:
        """See which machines are alive."""
        self.machines = {
            node["NodeID"]: {name: node["Resources"].get(name, 0.0) for name in ("CPU", "GPU")}
            for node in ray.nodes()
            if node["Alive"]
        }

    def demand(self, runs: Iterable[StageRun]) -> None:
        """Ask a cluster that can grow for what all of `runs` need."""
        demand: list[Amounts] = [run.request.needs for run in runs]
        if self._autoscaling and demand != self._demanded:
            from ray.autoscaler.sdk import request_resources

            bundles = [
                {name: amount for name, amount in needs.items() if amount} for needs in demand
            ]
            request_resources(bundles=bundles)
            self._demanded = demand

    def free(self, runs: Iterable[StageRun]) -> list[Amounts]:
        """Return what each machine has left beside those of `runs` that are on it."""
        left = {machine: dict(totals) for machine, totals in self.machines.items()}
        for run in runs:
            if run.machine in left:
                for name, amount in run.request.needs.items():
                    left[run.machine][name] -= amount
        return list(left.values())

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
