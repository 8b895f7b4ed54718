"""Demand of all schedulers of a cluster, for Ray's autoscaler.

Ray keeps one demand for a whole cluster: a second scheduler that asked for itself would erase what
the first one asked for, whose stages then wait for machines that nobody starts. One actor sums the
demands of all schedulers and repeats the sum."""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
import yaml

from sweeps.cluster.head import HEAD, NAMESPACE
from sweeps.cluster.node_types import NodeType, types_of

# The same for every version of the code, so that sweeps of different versions share one actor. The
# number belongs to the arguments of `put`, which are plain data.
NAME = "autoscaling-demand:1"
# A scheduler repeats its demand this often, so that one that died is noticed.
REPEAT_S = 10.0
# A busy scheduler may miss a few turns; an idle machine costs more than a minute of patience.
SILENT_S = 60.0
# A head that is up runs a task within a second; one that is busy within a minute.
ANSWER_S = 60.0
# Words of the command line of Ray's autoscaler on the head.
MONITOR = "monitor.py"
CONFIG = "--autoscaling-config="
HEAD_ADDRESS = "--gcs-address="

Bundles = Sequence[Mapping[str, float]]


class Demand:
    """The actor: demands by scheduler, forgotten when the scheduler is silent for `SILENT_S`."""

    def __init__(self) -> None:
        self._demands: dict[str, tuple[float, Bundles]] = {}
        self._asked: list[dict[str, float]] = []
        self._ticker: asyncio.Task[None] | None = None

    async def put(self, owner: str, bundles: Bundles) -> None:
        """Take the demand of a scheduler, one bundle of resources for each stage."""
        self._demands[owner] = (time.monotonic(), bundles)
        if self._ticker is None:
            self._ticker = asyncio.create_task(self._tick())
        self._ask()

    async def total(self) -> list[dict[str, float]]:
        """Return the bundles that the autoscaler was asked for last."""
        return self._asked

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(REPEAT_S)
            self._ask()

    def _ask(self) -> None:
        """Ask for the sum; again even if it is the same, for the autoscaler may have restarted."""
        from ray.autoscaler.sdk import request_resources

        now = time.monotonic()
        self._demands = {
            owner: (at, bundles)
            for owner, (at, bundles) in self._demands.items()
            # A scheduler that died would keep its machines running, and paid for, without end.
            if now - at < SILENT_S
        }
        self._asked = []
        for _, bundles in self._demands.values():
            self._asked += [dict(bundle) for bundle in bundles]
        request_resources(bundles=self._asked)


def connect_demand() -> Any:  # noqa: ANN401 - Ray types no actor handles
    """Return the actor of this cluster, started if there is none."""
    actor = ray.remote(num_cpus=0, resources=HEAD, max_restarts=-1)(Demand)
    options = {"name": NAME, "namespace": NAMESPACE, "lifetime": "detached", "get_if_exists": True}
    return actor.options(**options, scheduling_strategy="DEFAULT").remote()


def node_types() -> list[NodeType]:
    """Return the node types of the cluster that this process is connected to.

    Empty where the head does not know them (on Kubernetes, and where nothing starts machines), or
    does not answer in time.
    """
    task = ray.remote(num_cpus=0, resources=HEAD)(_read_types)
    address = ray.get_runtime_context().gcs_address
    try:
        found: list[NodeType] = ray.get(task.remote(address), timeout=ANSWER_S)
    # A busy head: the check is a help, and no reason to end a sweep.
    except ray.exceptions.GetTimeoutError:
        return []
    return found


def _read_types(address: str) -> list[NodeType]:
    """Read the cluster's file on the head, where the process of Ray's autoscaler names it.

    Ray keeps the node types nowhere else: its own tables have the machines that are there."""
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = process.read_text(errors="replace").split("\0")
        except OSError:  # it has ended
            continue
        of_autoscaler = any(word.endswith(MONITOR) for word in words)
        if of_autoscaler and f"{HEAD_ADDRESS}{address}" in words:
            paths = [word.removeprefix(CONFIG) for word in words if word.startswith(CONFIG)]
            try:
                return types_of(Path(paths[0]).expanduser().read_text()) if paths else []
            # No file of a kind that is known: nothing is refused, and a stage waits.
            except (OSError, KeyError, TypeError, ValueError, yaml.YAMLError) as error:
                logging.info("node types of the cluster: %s", error)
                return []
    return []
