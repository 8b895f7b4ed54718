"""What a sweep needs of every machine, looked at before hours are spent; each fault comes with its
remedy.
"""

import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sweeps.doctor.facts import Facts, Question, look
from sweeps.store.backends import Files

LOW_DISK_BYTES = 10 << 30
SKEW_S = 5.0
PATIENCE_S = 300.0
REMEDIES = {
    "store": "mount the same folder at the same path on every machine, writable, or name another --store",
    "tracking": "start the server (`python -m sweeps mlflow`), or let it admit this host name (--allowed-hosts)",
    "data": "mount the data set at the same path on every machine; `python -m occse data check` says what is wrong",
    "weights": "copy the weight files to the same path on every machine; `python -m occse weights` says what they are",
}
Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of the report; `advice` says what to do where something is wrong."""

    level: Level
    what: str
    advice: str = ""

    def __str__(self) -> str:
        return f"{self.level:<8} {self.what}" + (
            f"\n         -> {self.advice}" if self.advice else ""
        )


@contextmanager
def token_in(files: Files) -> Iterator[str]:
    """The name of a new file in the store, for other machines to find: the same path may be another
    folder there.
    """
    token = f".doctor.{uuid.uuid4().hex[:8]}"
    files.write(token, b"here")
    try:
        yield token
    finally:
        files.remove(token)


def ask_here(question: Question) -> Facts:
    """What this machine has, without Ray."""
    asked = time.time()
    return look(question, num_gpus=0) | {"asked": asked, "answered": time.time()}


def ask_nodes(question: Question) -> list[Facts]:
    """What every node of the cluster has that Ray is connected to.

    Raises:
        TimeoutError: a node does not answer.
    """
    task = ray.remote(num_cpus=0, max_retries=0)(look)
    asked = time.time()
    nodes = [node for node in ray.nodes() if node["Alive"]]
    answers = {
        task.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote(question, num_gpus=node["Resources"].get("GPU", 0.0)): node
        for node in nodes
    }
    ready, late = ray.wait(list(answers), num_returns=len(answers), timeout=PATIENCE_S)
    if late:
        silent = ", ".join(answers[ref]["NodeManagerHostname"] for ref in late)
        raise TimeoutError(
            f"no answer within {PATIENCE_S:.0f} s from {silent}: is its disk or its network stuck?"
        )
    answered = time.time()
    return [{**ray.get(ref), "asked": asked, "answered": answered} for ref in ready]


def judge(driver: Facts, machines: Sequence[Facts]) -> list[Finding]:
    """The report on `machines`, compared with the one that starts sweeps."""
    findings = list[Finding]()
    for machine in machines:
        found = [*_of_code(machine, driver), *_of_machine(machine), *_of_clock(machine)]
        findings += [Finding(level="ok", what=f"{machine['host']}: {_summary(machine)}"), *found]
    if not any(machine["num_gpus"] or machine["gpus"] for machine in machines):
        advice = "the GPU stages will run on CPUs; fine for the embedded data, days for PASCAL VOC"
        findings.append(
            Finding(level="warning", what="no machine of the cluster has a GPU", advice=advice)
        )
    return findings


def _of_code(machine: Facts, driver: Facts) -> Iterator[Finding]:
    if machine["code"] != driver["code"]:
        yield Finding(
            level="error",
            what=f"{machine['host']}: other code of occse or sweeps than on the driver",
            advice="install the same commit on every machine, or submit with `ray job submit --working-dir .`",
        )
    for package, mine in driver["versions"].items():
        if (theirs := machine["versions"].get(package)) != mine:
            level: Level = "error" if package in ("python", "ray") else "warning"
            yield Finding(
                level=level,
                what=f"{machine['host']}: {package} {theirs or 'is missing'}, the driver has {mine}",
                advice="numbers of the two machines may differ"
                if level == "warning"
                else "Ray needs them equal",
            )


def _of_machine(machine: Facts) -> Iterator[Finding]:
    host = machine["host"]
    if machine["num_gpus"] and machine["cuda"] != "ok":
        yield Finding(
            level="error",
            what=f"{host}: Ray grants {machine['num_gpus']:g} GPUs, but torch cannot use them: {machine['cuda']}",
            advice="install a driver that fits torch's CUDA, or a torch that fits the driver (nvidia-smi shows it)",
        )
    for part, remedy in REMEDIES.items():
        if error := machine[part].get("error"):
            yield Finding(level="error", what=f"{host}: {part}: {error}", advice=remedy)
    if (free := machine["store"].get("free", LOW_DISK_BYTES)) < LOW_DISK_BYTES:
        yield Finding(
            level="warning",
            what=f"{host}: {free / 2**30:.1f} GB free for the store",
            advice="`python -m sweeps plan` says what the sweep needs; `python -m sweeps store gc` makes room",
        )


def _of_clock(machine: Facts) -> Iterator[Finding]:
    early, late = machine["asked"] - machine["time"], machine["time"] - machine["answered"]
    if (skew := max(early, late)) > SKEW_S:
        side = "behind" if early > late else "ahead of"
        yield Finding(
            level="warning",
            what=f"{machine['host']}: its clock is {skew:.0f} s {side} the driver's",
            advice="run NTP: leases between clusters and the times in the records rest on it",
        )


def _summary(machine: Facts) -> str:
    parts = [
        f"Python {machine['versions']['python']}",
        f"torch {machine['versions'].get('torch', 'is missing')}",
    ]
    parts.append(", ".join(machine["gpus"]) or "no GPU")
    parts += [f"{part} {machine[part]['said']}" for part in REMEDIES if "said" in machine[part]]
    return ", ".join(parts)
