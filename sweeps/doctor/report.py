"""Needs of a sweep on every machine, checked before hours are spent; each fault has its remedy."""

import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

from sweeps.doctor.facts import Facts, Question, look
from sweeps.store.backends import SHARED_STORE, Files

# Room for some ten trials on PASCAL VOC, which take under 1 GB each.
LOW_DISK_BYTES = 10 << 30
# Machines with NTP differ by milliseconds; five seconds are a machine without.
SKEW_S = 5.0
# A network disk that wakes up takes a minute or two.
PATIENCE_S = 300.0
REMEDIES = {
    "store": "mount the same folder at the same path on every machine, writable, or name another "
    "--store",
    "tracking": "start the server (`python -m sweeps mlflow`), or let it admit this host name "
    "(--allowed-hosts)",
    "data": "mount the data set at the same path on every machine; `python -m occse data check` "
    "says what is wrong",
    "weights": "copy the weight files to the same path on every machine; `python -m occse weights` "
    "says what they are",
}
Level = Literal[
    "ok",  # one line about each machine
    "warning",  # a sweep runs, but slower or with less safety
    "error",  # a sweep fails
]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Line of the report, with the remedy where something is wrong."""

    level: Level
    what: str
    advice: str = ""

    def __str__(self) -> str:
        advice = f"\n         -> {self.advice}" if self.advice else ""
        return f"{self.level:<8} {self.what}{advice}"


@contextmanager
def token_in(files: Files) -> Iterator[str]:
    """Make a file in the store for other machines to find, and return its name.

    The same path may be another folder there.
    """
    token = f".doctor.{uuid.uuid4().hex[:8]}"
    files.write(token, b"here")
    try:
        yield token
    finally:
        files.remove(token)


def ask_here(question: Question) -> Facts:
    """Return the facts about this machine, without Ray."""
    asked = time.time()
    return look(question, num_gpus=0) | {"asked": asked, "answered": time.time()}


def ask_nodes(question: Question) -> list[Facts]:
    """Return the facts about every node of the cluster that Ray is connected to.

    Raises:
        TimeoutError: a node does not answer.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task = ray.remote(num_cpus=0, max_retries=0)(look)
    asked = time.time()
    answers = {}
    for node in ray.nodes():
        if node["Alive"]:
            here = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            gpus = node["Resources"].get("GPU", 0.0)
            ref = task.options(scheduling_strategy=here).remote(
                question_for(question, node["Resources"]), num_gpus=gpus
            )
            answers[ref] = node
    ready, late = ray.wait(list(answers), num_returns=len(answers), timeout=PATIENCE_S)
    if late:
        silent = ", ".join(answers[ref]["NodeManagerHostname"] for ref in late)
        raise TimeoutError(
            f"no answer within {PATIENCE_S:.0f} s from {silent}: is its disk or its network stuck?"
        )
    answered = time.time()
    return [{**ray.get(ref), "asked": asked, "answered": answered} for ref in ready]


def question_for(question: Question, resources: dict[str, Any]) -> Question:
    """Return what a node must be asked for.

    No node records, and a head without CPUs runs no stage.
    """
    question = replace(question, tracking="")
    if resources.get("CPU", 0) or resources.get("GPU", 0):
        return question
    return replace(question, data=None, digests=())


def judge(driver: Facts, machines: Sequence[Facts]) -> list[Finding]:
    """Return the report on `machines`, compared with the one that starts sweeps."""
    findings: list[Finding] = []
    for machine in machines:
        findings.append(Finding(level="ok", what=f"{machine['host']}: {_summary(machine)}"))
        findings += _of_code(machine, driver)
        findings += _of_machine(machine)
        findings += _of_store(machine)
        findings += _of_clock(machine)
    if not any(machine["num_gpus"] or machine["gpus"] for machine in machines):
        advice = "the GPU stages will run on CPUs; fine for the embedded data, days for PASCAL VOC"
        findings.append(
            Finding(level="warning", what="no machine of the cluster has a GPU", advice=advice)
        )
    return findings


def _of_code(machine: Facts, driver: Facts) -> Iterator[Finding]:
    host = machine["host"]
    if machine["code"] != driver["code"]:
        yield Finding(
            level="error",
            what=f"{host}: other code of occse or sweeps than on the driver",
            advice="install the same commit on every machine, or submit with `ray job submit "
            "--working-dir .`",
        )
    for package, expected in driver["versions"].items():
        version = machine["versions"].get(package)
        if version == expected:
            continue
        what = f"{host}: {package} {version or 'is missing'}, the driver has {expected}"
        if package in ("python", "ray"):
            yield Finding(level="error", what=what, advice="Ray needs them equal")
        else:
            advice = "numbers of the two machines may differ"
            yield Finding(level="warning", what=what, advice=advice)


def _of_machine(machine: Facts) -> Iterator[Finding]:
    host = machine["host"]
    if machine["num_gpus"] and machine["cuda"] != "ok":
        yield Finding(
            level="error",
            what=f"{host}: Ray grants {machine['num_gpus']:g} GPUs, but torch cannot use them: "
            f"{machine['cuda']}",
            advice="install a driver that fits torch's CUDA, or a torch that fits the driver "
            "(nvidia-smi shows it)",
        )
    for part, remedy in REMEDIES.items():
        error = machine[part].get("error")
        if error:
            yield Finding(level="error", what=f"{host}: {part}: {error}", advice=remedy)


def _of_store(machine: Facts) -> Iterator[Finding]:
    """Yield what the file system or the object store cannot do."""
    host = machine["host"]
    store = machine["store"]
    free = store.get("free", LOW_DISK_BYTES)
    if free < LOW_DISK_BYTES:
        yield Finding(
            level="warning",
            what=f"{host}: {free / 2**30:.1f} GB free for the store",
            advice="`python -m sweeps plan` says what the sweep needs; `python -m sweeps store gc` "
            "makes room",
        )
    if store.get("rename"):
        yield Finding(
            level="error",
            what=f"{host}: the store cannot rename a folder: {store['rename']}",
            advice="artifacts are published by renaming: name a --store on another file system",
        )
    if not store.get("exclusive", True):
        yield Finding(
            level="error",
            what=f"{host}: the store lets two processes create the same file",
            advice="two clusters would run the same stage: use one cluster for this store at a "
            "time, or name another --store",
        )
    elif not store.get("links", True):
        yield Finding(
            level="warning",
            what=f"{host}: the store has no hard links; leases are made by exclusive creation",
            advice="fine on one machine; on a network disk see that its version keeps O_EXCL",
        )
    if store.get("shared"):
        yield Finding(
            level="warning",
            what=f"{host}: others may write to the store, but not into what this user makes there",
            advice=SHARED_STORE,
        )


def _of_clock(machine: Facts) -> Iterator[Finding]:
    advice = "run NTP: leases between clusters and the times in the records rest on it"
    behind = machine["asked"] - machine["time"]
    ahead = machine["time"] - machine["answered"]
    skew = max(behind, ahead)
    if skew > SKEW_S:
        side = "behind" if behind > ahead else "ahead of"
        what = f"{machine['host']}: its clock is {skew:.0f} s {side} the driver's"
        yield Finding(level="warning", what=what, advice=advice)
    store_ahead = machine["store"].get("clock", 0.0)
    if abs(store_ahead) > SKEW_S:
        side = "ahead of" if store_ahead > 0 else "behind"
        clock = f"the store's clock is {abs(store_ahead):.0f} s {side} this machine's"
        what = f"{machine['host']}: {clock}"
        yield Finding(level="warning", what=what, advice=advice)


def _summary(machine: Facts) -> str:
    versions = machine["versions"]
    parts = [
        f"Python {versions['python']}",
        f"torch {versions.get('torch', 'is missing')}",
        ", ".join(machine["gpus"]) or "no GPU",
    ]
    parts += [f"{part} {machine[part]['said']}" for part in REMEDIES if "said" in machine[part]]
    return ", ".join(parts)
