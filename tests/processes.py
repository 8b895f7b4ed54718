"""Processes that a test started, found by their command line."""

import os
import re
import signal
import sys
from pathlib import Path

# From a driver over its raylet to a worker, and one more for a shell between.
GENERATIONS = 4


def processes(pattern: str, *, below: int | None = None) -> list[int]:
    """Ids of the processes whose command line starts with `pattern`.

    Only descendants of the process `below`, by default this one, are looked at: other people's Ray
    workers have the same names.
    """
    parents: dict[int, int] = {}
    names: dict[int, str] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            # The fields after the name, which itself may hold spaces: state, then parent.
            after_name = (folder / "stat").read_text().rpartition(") ")[2]
            parents[int(folder.name)] = int(after_name.split()[1])
            names[int(folder.name)] = (folder / "cmdline").read_text()
        except (OSError, ValueError):
            continue
    family = {below or os.getpid()}
    for _ in range(GENERATIONS):
        family |= {pid for pid, parent in parents.items() if parent in family}
    return [pid for pid in sorted(family) if re.match(pattern, names.get(pid, ""))]


def child_environment() -> dict[str, str]:
    """The environment of a child process that imports modules of the tests."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}


def hear_signals() -> None:
    """Let Ctrl-C and the end of the terminal reach this process and its children.

    A shell's background job ignores the first, `nohup` the second, and so would every sweep that a
    test starts.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
