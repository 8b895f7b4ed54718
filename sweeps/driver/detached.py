"""Sweeps that go on without a terminal: their start, their log file, and their end by name."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from sweeps.progress.status import Status, read_status
from sweeps.store.store import LOGS, Store

# Reading a spec, its data and its store takes seconds, Ray and MLflow take some more.
START_S = 60.0
# The end of a process is seen without a delay that a person would notice.
POLL_S = 0.2
# A sweep gives its stages a minute to end, and then writes its records.
STOP_S = 150.0


def log_path(store: Store, name: str) -> Path:
    """Return the file that takes what a detached sweep prints; on this machine, for any store."""
    return store.root / LOGS / f"{name}.log"


def running(store: Store, name: str) -> Status | None:
    """Return the status of the sweep `name` if its driver lives."""
    found = [status for status in read_status(store) if status.name == name]
    return found[0] if found and found[0].alive(time.time()) else None


def start(words: Sequence[str], *, store: Store, name: str) -> int | None:
    """Run `python -m sweeps WORDS` as a process of its own, and wait until it runs or has ended.

    Returns:
        None if it runs, else its exit code.

    Raises:
        ValueError: a sweep of that name runs on this store already.
    """
    if (status := running(store, name)) is not None:
        raise ValueError(
            f"{name} runs already, as process {status.pid} on {status.host}; "
            f"expected a sweep that does not: stop it first, or wait"
        )
    path = log_path(store, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as log:
        # In a session of its own, so that neither Ctrl-C nor the end of the terminal reaches it.
        process = subprocess.Popen(
            [sys.executable, "-u", "-m", "sweeps", *words],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    deadline = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < deadline:
        status = running(store, name)
        if status is not None and status.pid == process.pid:
            return None
        time.sleep(POLL_S)
    return process.poll()


def stop(store: Store, name: str, *, now: bool) -> bool:
    """Ask the driver of the sweep `name` to end, and wait until it has.

    Args:
        store: the sweep's.
        name: of the sweep.
        now: end running stages at once; otherwise trainings write a checkpoint first.

    Returns:
        False if it has not ended after two and a half minutes.

    Raises:
        ValueError: no sweep of that name runs, or it runs on another machine.
    """
    status = running(store, name)
    if status is None:
        lives = [status.name for status in read_status(store) if status.alive(time.time())]
        raise ValueError(
            f"no sweep {name} runs on {store.url}; those that run: {', '.join(lives) or 'none'}"
        )
    # A pid counts on its own machine only: elsewhere it may be that of any process.
    if status.process.life() != "alive":
        raise ValueError(
            f"{name} runs on {status.host}: expected this command there (this is another machine "
            "or container)"
        )
    os.kill(status.pid, signal.SIGTERM if now else signal.SIGINT)
    deadline = time.monotonic() + STOP_S
    while status.process.life() == "alive":
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


def follow(store: Store, name: str, *, show: Callable[[bytes], None], to_the_end: bool) -> None:
    """Show what a detached sweep has printed, and with `to_the_end` what it prints from now on.

    Raises:
        ValueError: there is no log of that name.
    """
    path = log_path(store, name)
    if not path.is_file():
        there = sorted(other.stem for other in path.parent.glob("*.log"))
        raise ValueError(
            f"{path} is missing; expected the log of a sweep that was started with "
            f"`run --detach` on this machine; there are logs of: {', '.join(there) or 'none'}"
        )
    status = running(store, name)
    with path.open("rb") as log:
        while True:
            # Asked before the file is read: what was printed before the end is then shown. The
            # process, not its status: a sweep that has ended still prints its table.
            lives = status is not None and status.process.life() == "alive"
            show(log.read())
            if not (to_the_end and lives):
                return
            time.sleep(POLL_S)
