"""Processes that a test started, found by their command line."""

import fcntl
import os
import re
import select
import signal
import subprocess
import sys
import termios
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from waiting import EVERY_S, PATIENCE_S

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


class Terminal:
    """A process in a terminal of its own, which is read all the time, as a person's is.

    The process, if it still runs, ends with the block.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        folder: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._near, far = os.openpty()
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=far,
            stdout=far,
            stderr=far,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(far, termios.TIOCSCTTY, 0),
        )
        os.close(far)
        self._parts: list[bytes] = []
        self._closing = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self.close()

    def close(self) -> None:
        """Close the terminal, once what was written into it has been read."""
        self._closing.set()
        self._reader.join()

    def end(self, patience_s: float = PATIENCE_S) -> int:
        """Wait for the end of the process, close the terminal, and return the exit code."""
        code = self.process.wait(patience_s)
        self.close()
        return code

    @property
    def printed(self) -> str:
        """Everything that was written into the terminal so far."""
        return b"".join(self._parts).decode(errors="replace")

    def _read(self) -> None:
        while True:
            # Asked before the look: what was written before the terminal closes is then read.
            last = self._closing.is_set()
            # never longer: a read that waits would keep the terminal open though it was closed
            ready, _, _ = select.select([self._near], [], [], EVERY_S)
            try:
                part = os.read(self._near, 1 << 16) if ready else b""
            except OSError:  # nobody has the other end open any more
                break
            self._parts.append(part)
            if last and not ready:
                break
        os.close(self._near)
