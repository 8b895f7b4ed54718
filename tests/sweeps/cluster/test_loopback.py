"""A cluster that a sweep starts on this machine: nobody else reaches its ports."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray._private import ray_constants

# A socket that listens, and the loopback addresses of IPv4 and IPv6, as /proc/net writes them.
LISTENS = "0A"
LOOPBACK = {
    "0100007F",
    "00000000000000000000000001000000",
    "0000000000000000FFFF00000100007F",
}


def descendants(pid: int) -> set[int]:
    """The processes below `pid`, itself included."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = path.read_text()
        except OSError:  # it has ended
            continue
        parents[int(path.parent.name)] = int(text.rpartition(")")[2].split()[1])
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def sockets(pid: int) -> Iterator[str]:
    """The numbers of the sockets that a process has open."""
    for path in Path(f"/proc/{pid}/fd").glob("*"):
        try:
            kind, _, number = str(path.readlink()).partition(":[")
        except OSError:  # it has been closed
            continue
        if kind == "socket":
            yield number.rstrip("]")


def addresses(pids: set[int]) -> list[str]:
    """The addresses that `pids` listen on, without their ports."""
    own = {number for pid in pids for number in sockets(pid)}
    lines = [
        line.split()
        for name in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]
    ]
    return [
        words[1].partition(":")[0] for words in lines if words[3] == LISTENS and words[9] in own
    ]


@pytest.mark.usefixtures("cluster")
def test_every_process_of_a_cluster_on_this_machine_listens_on_the_loopback_only() -> None:
    pid = ray.get(ray.remote(lambda: os.getpid()).remote())
    pids = descendants(os.getpid())
    assert pid in pids, "the worker is looked at, too"
    found = addresses(pids)
    assert len(found) >= 5, "driver, head, raylet, agents and worker have ports"
    assert set(found) <= LOOPBACK
    assert ray_constants.ENABLE_RAY_CLUSTER, "the next driver may join a cluster elsewhere"
