"""The cluster as the scheduler sees it: its machines, what is free on them, and what is missing.

A cluster may have several schedulers, one for each store, set of options and version of the code.
Each asks the others for their stages, and chooses among all of them as if there were one line: of
what is chosen it starts its own part, and leaves the rest of the room to the others."""

import asyncio
import logging
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import ray
from ray.util import list_named_actors

from sweeps.cluster.demand import REPEAT_S, connect_demand
from sweeps.cluster.head import NAMESPACE
from sweeps.cluster.node_types import describe_amounts
from sweeps.cluster.policy import Amounts, Waiting, fits, share_of
from sweeps.cluster.stage_run import StageRun

# Of the schedulers' names; a digest follows.
SCHEDULER = "scheduler:"
# A scheduler that answers later than the next turn is counted again at the turn after.
ANSWER_S = 1.0
# More stages than a cluster can start at once say nothing more about what it should start.
MOST_WAITING = 500

# Stages of one scheduler as plain data, for one of another version of the code.
Account = Mapping[str, list[dict[str, Any]]]


@dataclass(frozen=True, kw_only=True)
class _Held:
    """A stage that is on a machine: what it occupies there, and for which sweep."""

    sweep: str
    machine: str
    needs: Amounts
    weight: float


class ClusterView:
    """Machines that are alive, by Ray's node id, and the demand that a growing cluster was told.

    Args:
        autoscaling: whether the cluster starts machines when they are asked for.
    """

    def __init__(self, *, autoscaling: bool) -> None:
        self.machines: dict[str, Amounts] = {}
        #: Stages of the other schedulers that wait for a machine.
        self.others: list[Waiting] = []
        self._held_by_others: list[_Held] = []
        self._actors: dict[str, Any] = {}
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

    async def meet(self, runs: Collection[str]) -> None:
        """Ask the other schedulers of the cluster for their stages; one that died has none.

        Args:
            runs: the scheduler's own stages. Without any it need not know, and schedulers of sweeps
                that ended long ago do not keep each other busy.
        """
        if not runs:
            self.others = []
            self._held_by_others = []
            return
        own = ray.get_runtime_context().get_actor_name()
        names = []
        for actor in list_named_actors(all_namespaces=True):
            name = actor["name"]
            if actor["namespace"] == NAMESPACE and name.startswith(SCHEDULER) and name != own:
                names.append(name)
        accounts = await asyncio.gather(*map(self._ask, names))
        self.others = []
        self._held_by_others = []
        for name, account in zip(names, accounts, strict=True):
            try:
                waiting = [Waiting(**values) for values in account.get("waiting", ())]
                held = [_Held(**values) for values in account.get("held", ())]
            except TypeError as error:
                # Of a version of the code that knows other fields; as one without an account.
                logging.info("%s: %s", name, error)
                continue
            for stage in waiting:
                # Sweeps of one name on two stores are two sweeps, and so are artifacts.
                sweep = f"{name}/{stage.sweep}"
                fingerprint = f"{name}/{stage.fingerprint}"
                self.others.append(replace(stage, sweep=sweep, fingerprint=fingerprint))
            for each in held:
                self._held_by_others.append(replace(each, sweep=f"{name}/{each.sweep}"))

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
        """Return what each machine has left beside the stages that are on it."""
        left = {machine: dict(totals) for machine, totals in self.machines.items()}
        for stage in self._on_machines(runs):
            if stage.machine in left:
                for name, amount in stage.needs.items():
                    # Ray's own count lags behind by a heartbeat, in which a second stage would be
                    # sent to the same room.
                    left[stage.machine][name] -= amount
        return list(left.values())

    def held(self, runs: Iterable[StageRun]) -> dict[str, float]:
        """Return the part of the cluster that each sweep's stages hold, divided by its weight."""
        totals = list(self.machines.values())
        held: dict[str, float] = {}
        for stage in self._on_machines(runs):
            part = share_of(stage.needs, totals) / stage.weight
            held[stage.sweep] = held.get(stage.sweep, 0.0) + part
        return held

    def unmet(self, runs: Iterable[StageRun]) -> Iterator[str]:
        """Yield the needs of `runs` that no machine could meet even when nothing ran on it."""
        for run in runs:
            needs = run.request.needs
            if run.leased and not any(fits(needs, machine) for machine in self.machines.values()):
                yield describe_amounts(needs)

    async def _ask(self, name: str) -> Account:
        """Return the account of the scheduler `name`; an empty one where it has none to give."""
        try:
            if name not in self._actors:
                self._actors[name] = ray.get_actor(name, namespace=NAMESPACE)
            asked = self._actors[name].account.remote()
            account: Account = await asyncio.wait_for(asked, ANSWER_S)
            return account
        # One that died, is starting, or is of a version of the code that keeps no account: its
        # stages are in Ray's own queue then, and take their turn there.
        except Exception as error:
            logging.info("%s: %s", name, error)
            self._actors.pop(name, None)
            return {}

    def _on_machines(self, runs: Iterable[StageRun]) -> Iterator[_Held]:
        yield from (_held(run) for run in runs if run.machine)
        yield from self._held_by_others


def account_of(held: Iterable[StageRun], waiting: Iterable[Waiting]) -> Account:
    """Return stages on machines, and those that wait for one, as plain data for `meet`."""
    longest = sorted(waiting, key=lambda stage: -stage.path_s)[:MOST_WAITING]
    return {
        "held": [_plain(_held(run)) for run in held if run.machine],
        "waiting": [_plain(stage) for stage in longest],
    }


def _plain(stage: Waiting | _Held) -> dict[str, Any]:
    """Return the fields of a stage alone: `vars` would have what is cached beside them, too."""
    return {field.name: getattr(stage, field.name) for field in fields(stage)}


def _held(run: StageRun) -> _Held:
    request = run.request
    return _Held(
        sweep=request.sweep, machine=run.machine, needs=request.needs, weight=request.weight
    )
