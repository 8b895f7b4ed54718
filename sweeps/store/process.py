"""The identity of a process, by which another process can tell whether it still lives."""

import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

PROC = Path("/proc")
BOOT_ID = PROC / "sys/kernel/random/boot_id"
PID_NAMESPACE = PROC / "self/ns/pid"
# Position of the start time behind the closing bracket of the name in /proc/PID/stat (see
# proc(5): field 22 of the line, of which pid and name are the first two).
START_TIME = 19

Life = Literal[
    "alive",  # the same process runs on this machine
    "dead",  # it ran on this machine and does not any more
    "unknown",  # it runs on another machine or in another container
]


@dataclass(frozen=True, kw_only=True)
class ProcessId:
    """Identity of a process among all machines and containers.

    A pid alone is reused, and two containers may have the same host name and the same pids. Parts
    that the operating system does not tell are empty.

    Attributes:
        host: host name, for people.
        pid: number of the process in its namespace.
        boot: id of the kernel's boot, the same in all containers of a machine.
        namespace: id of the pid namespace in which `pid` counts.
        started: clock ticks from the boot to the start of the process.
    """

    host: str
    pid: int
    boot: str = ""
    namespace: str = ""
    started: str = ""

    def life(self) -> Life:
        """Tell whether the process lives, as far as this process can see it."""
        here = this_process()
        if not self.boot or not self.namespace:
            return "unknown"
        # A pid means nothing on another machine or in another container: its lease must expire by
        # time.
        if (self.boot, self.namespace) != (here.boot, here.namespace):
            return "unknown"
        # The same pid with another start time is another process that got the number.
        return "alive" if _started(self.pid) == self.started else "dead"


def this_process() -> ProcessId:
    """Return the identity of the process that asks."""
    pid = os.getpid()
    return ProcessId(
        host=platform.node(),
        pid=pid,
        boot=_read(BOOT_ID).strip(),
        namespace=_namespace(),
        started=_started(pid),
    )


def _namespace() -> str:
    try:
        return str(PID_NAMESPACE.readlink())
    except OSError:
        return ""


def _started(pid: int) -> str:
    """Return the start time of a process of this namespace; empty where there is none.

    One that has ended counts as none, though its parent has not asked for its exit code yet.
    """
    # the name of the process may hold spaces and brackets, so the line is cut behind its end
    fields = _read(PROC / str(pid) / "stat").rpartition(")")[2].split()
    if len(fields) <= START_TIME or fields[0] == "Z":
        return ""
    return fields[START_TIME]


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
