"""Sweeps that go on without a terminal: their start, their log file, and their end by name."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from sweeps.progress.status import (
    KEY_DIGITS,
    check_one,
    read_status,
    running,
    sweep_key,
    the_running,
)
from sweeps.store.store import LOGS, Store

# Reading a spec, its data and its store takes seconds, Ray and MLflow take some more.
START_S = 60.0
# The end of a process is seen without a delay that a person would notice.
POLL_S = 0.2
# A sweep gives its stages a minute to end, and then writes its records.
STOP_S = 150.0
# Logs of earlier starts that are kept: enough to see what happened before the last few starts.
EARLIER_LOGS = 5


def log_path(store: Store, key: str) -> Path:
    """Return the file that takes what a detached sweep prints; on this machine, for any store.

    Logs of earlier starts lie beside it, with a number from 1 (the last one) to `EARLIER_LOGS`.
    """
    return store.root / LOGS / f"{key}.log"


def start(words: Sequence[str], *, store: Store, name: str, tracking: str, uri: str) -> int | None:
    """Run `python -m sweeps WORDS` as a process of its own, and wait until it runs or has ended.

    Args:
        words: the arguments, without a password, which every user of the machine could read.
        store: the sweep's.
        name: of the sweep.
        tracking: place of its records, see `sweeps.tracking.database.place`.
        uri: the same as a URI with its password, which the process finds in its environment.

    Returns:
        None if it runs, else its exit code.

    Raises:
        ValueError: a sweep of that name runs on this store already.
    """
    key = sweep_key(name, tracking)
    if (status := running(store, key)) is not None:
        raise ValueError(
            f"{name} runs already, as process {status.pid} on {status.host}; "
            f"expected a sweep that does not: stop it first, or wait"
        )
    path = log_path(store, key)
    path.parent.mkdir(parents=True, exist_ok=True)
    keep_earlier(path)
    with path.open("wb") as log:
        # In a session of its own, so that neither Ctrl-C nor the end of the terminal reaches it.
        process = subprocess.Popen(
            [sys.executable, "-u", "-m", "sweeps", *words],
            env=os.environ | {"MLFLOW_TRACKING_URI": uri},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    deadline = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < deadline:
        status = running(store, key)
        if status is not None and status.pid == process.pid:
            return None
        time.sleep(POLL_S)
    return process.poll()


def keep_earlier(path: Path) -> None:
    """Give the log of the last start a number, and those before it the next one; drop the oldest.

    A process that still writes into it goes on doing so.
    """
    numbered = [path, *(Path(f"{path}.{number}") for number in range(1, EARLIER_LOGS + 1))]
    for index in range(EARLIER_LOGS, 0, -1):
        with suppress(FileNotFoundError):
            numbered[index - 1].rename(numbered[index])


def stop(store: Store, name: str, *, tracking: str, now: bool) -> bool:
    """Ask the driver of the sweep `name` to end, and wait until it has.

    Args:
        store: the sweep's.
        name: of the sweep.
        tracking: place of its records, for several sweeps of that name; empty for any.
        now: end running stages at once; otherwise trainings write a checkpoint first.

    Returns:
        False if it has not ended after two and a half minutes.

    Raises:
        ValueError: no sweep of that name runs, several do, or it runs on another machine.
    """
    status = the_running(store, name, tracking)
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


def follow(
    store: Store, name: str, *, tracking: str, show: Callable[[bytes], None], to_the_end: bool
) -> None:
    """Show what a detached sweep has printed, and with `to_the_end` what it prints from now on.

    Raises:
        ValueError: there is no log of that name, or sweeps of that name have several.
    """
    key = _logged(store, name, tracking)
    status = running(store, key)
    with log_path(store, key).open("rb") as log:
        while True:
            # Asked before the file is read: what was printed before the end is then shown. The
            # process, not its status: a sweep that has ended still prints its table.
            lives = status is not None and status.process.life() == "alive"
            show(log.read())
            if not (to_the_end and lives):
                return
            time.sleep(POLL_S)


def _logged(store: Store, name: str, tracking: str) -> str:
    """Return the key of the one sweep of a name that has a log on this machine.

    Raises:
        ValueError: none has one, or several have.
    """
    there = {path.stem for path in log_path(store, "").parent.glob("*.log")}
    keys = [key for key in sorted(there) if _name_of(key) == name and key != name]
    if tracking:
        keys = [key for key in keys if key == sweep_key(name, tracking)]
    if not keys and name in there:  # of an earlier version, which kept one log for each name
        keys = [name]
    if not keys:
        names = ", ".join(sorted({_name_of(key) for key in there})) or "none"
        raise ValueError(
            f"{log_path(store, sweep_key(name, tracking))} is missing; expected the log of a sweep "
            "that was started with `run --detach` on this machine; there are logs of: " + names
        )
    places = {status.key: status.tracking for status in read_status(store)}
    check_one(name, [places.get(key, "") for key in keys])
    return keys[0]


def _name_of(key: str) -> str:
    return re.sub(rf"\.[0-9a-f]{{{KEY_DIGITS}}}$", "", key)
