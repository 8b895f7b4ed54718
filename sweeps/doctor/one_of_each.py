"""Machines of a cluster that can grow, started for the doctor: one of each node type."""

import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import ray

from sweeps.cluster.demand import REPEAT_S, connect_demand
from sweeps.cluster.head import HEAD
from sweeps.cluster.node_types import NodeType
from sweeps.cluster.policy import EXACT, Amounts
from sweeps.doctor.report import Finding
from sweeps.text import Say, duration

# A cloud starts a machine in two to four minutes, and pulls an image of some gigabytes.
START_S = 900.0
LOOK_S = 1.0
ADVICE = (
    "see `ray status` and monitor.log in the head's /tmp/ray/session_latest/logs: quota, spot "
    "capacity, image, or a set-up command that failed"
)


@contextmanager
def one_of_each(types: Sequence[NodeType], *, say: Say) -> Iterator[list[Finding]]:
    """Let the cluster start a machine of each type, and need them no more after the block.

    Yields:
        A line for each type: the machine came, or none did within `START_S`.
    """
    demand = connect_demand()
    owner = f"doctor:{uuid.uuid4().hex[:8]}"
    known = [kind for kind in types if kind.most and kind.resources.get("CPU")]
    bundles = [_bundle(kind.resources) for kind in known]
    findings = [
        Finding(
            level="warning",
            what=f"node type {kind.name}: not started: the cluster's file does not give its CPUs",
            advice="give it `resources` with CPU and GPU",
        )
        for kind in types
        if kind.most and not kind.resources.get("CPU")
    ]
    say(f"starting a machine of each node type: {', '.join(map(NodeType.describe, known))}")
    try:
        begin = time.monotonic()
        asked = float("-inf")
        missing = known
        while missing and time.monotonic() - begin < START_S:
            if time.monotonic() - asked > REPEAT_S:  # the demand of a silent one is forgotten
                asked = time.monotonic()
                ray.get(demand.put.remote(owner, bundles))
            missing = _missing(known)
            time.sleep(LOOK_S)
        took = duration(time.monotonic() - begin)
        for kind in known:
            what = f"node type {kind.describe()}"
            if kind in missing:
                what = f"{what}: no machine started within {took}"
                findings.append(Finding(level="error", what=what, advice=ADVICE))
            else:
                findings.append(Finding(level="ok", what=f"{what}: a machine started"))
        yield findings
    finally:
        ray.get(demand.put.remote(owner, []))


def _missing(types: Sequence[NodeType]) -> list[NodeType]:
    """Return the types of which no machine is alive; each machine counts for one type.

    The head is not a machine that the cluster started, though it may have the size of one."""
    (mark,) = HEAD
    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    machines = [machine for machine in alive if mark not in machine]
    missing = []
    for kind in types:
        found = next((machine for machine in machines if _is_of(machine, kind)), None)
        if found is None:
            missing.append(kind)
        else:
            machines.remove(found)
    return missing


def _is_of(machine: Amounts, kind: NodeType) -> bool:
    for name in ("CPU", "GPU"):
        if abs(machine.get(name, 0.0) - kind.resources.get(name, 0.0)) > EXACT:
            return False
    return True


def _bundle(resources: Amounts) -> dict[str, float]:
    return {name: resources[name] for name in ("CPU", "GPU") if resources.get(name)}
