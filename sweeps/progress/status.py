"""The status file of a sweep: a small file in its store that the driver rewrites every few seconds.

It is advisory: losing it loses nothing. Any machine that sees the store can read it without Ray."""

import hashlib
import time
from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from sweeps.store.process import ProcessId, this_process
from sweeps.store.store import STATUS, Store

# Often enough for a person who looks, and few requests on an object store that bills each.
REWRITE_S = 3.0
# A driver that did not write for ten periods has died, or cannot reach its store.
GONE_S = 30.0
HERE = this_process()
# Enough to tell the few servers apart that record sweeps of one name.
KEY_DIGITS = 8


def sweep_key(name: str, tracking: str) -> str:
    """Return the name of a sweep's files in the store.

    Sweeps of one name are two where they are recorded at two places: `tracking`, which is empty for
    a sweep of an earlier version of this program.
    """
    if not tracking:
        return name
    return f"{name}.{hashlib.sha256(tracking.encode()).hexdigest()[:KEY_DIGITS]}"


class StageCounts(BaseModel):
    """Number of distinct artifacts of one stage class by their state."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fields: str
    queued: int
    running: int
    done: int
    reused: int
    failed: int


class RunningStage(BaseModel):
    """A stage that runs: its seconds, the trials that need it, and the epoch of its training."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    field: str
    fingerprint: str
    seconds: float
    trial: str
    epochs: str


class Status(BaseModel):
    """State of a sweep. Times are seconds since 1970, durations are seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    #: Place of its records, see `sweeps.tracking.database.place`; empty in files of an earlier
    #: version.
    tracking: str = ""
    #: "running", "paused" and "stopping" as long as the driver lives; else how it ended.
    state: Literal["running", "paused", "stopping", "ended", "failed", "stopped"] = "running"
    host: str = HERE.host
    pid: int = HERE.pid
    boot: str = HERE.boot
    namespace: str = HERE.namespace
    started_ticks: str = HERE.started
    command: str
    started: float
    updated: float
    trials: int
    trials_done: int
    stages: list[StageCounts]
    running: list[RunningStage]
    failed: list[str]
    #: Time to the end, as text.
    left: str
    #: Time of the stages that ran, one after the other; `gpu_` times the GPUs that they held.
    spent_s: float
    #: Time that the trials would have taken more, had each run all its stages itself.
    saved_s: float
    gpu_spent_s: float
    gpu_saved_s: float

    @property
    def key(self) -> str:
        """Name of the sweep's files in the store."""
        return sweep_key(self.name, self.tracking)

    @property
    def lives(self) -> bool:
        """True if the driver had not ended when it last wrote."""
        return self.state in ("running", "paused", "stopping")

    def alive(self, now: float) -> bool:
        """Tell whether the driver lives: it wrote lately, and its process has not died here."""
        if not self.lives or now - self.updated > GONE_S:
            return False
        return self.process.life() != "dead"

    @property
    def process(self) -> ProcessId:
        """The driver's process."""
        return ProcessId(
            host=self.host,
            pid=self.pid,
            boot=self.boot,
            namespace=self.namespace,
            started=self.started_ticks,
        )


def write_status(store: Store, status: Status) -> None:
    """Write the sweep's status into the store."""
    store.files.write(f"{STATUS}/{status.key}.json", status.model_dump_json(indent=1).encode())


def read_status(store: Store) -> list[Status]:
    """Return the status of every sweep that ran on this store, the last written first.

    Files that cannot be read are left out."""
    found = []
    for name in store.files.children(STATUS):
        try:
            found.append(Status.model_validate_json(store.files.read(f"{STATUS}/{name}") or b""))
        except ValidationError:
            continue
    return sorted(found, key=lambda status: -status.updated)


def running(store: Store, key: str) -> Status | None:
    """Return the status of the sweep with this key if its driver lives."""
    found = [status for status in read_status(store) if status.key == key]
    return found[0] if found and found[0].alive(time.time()) else None


def the_running(store: Store, name: str, tracking: str) -> Status:
    """Return the status of the one sweep of a name that runs.

    Args:
        store: the sweep's.
        name: of the sweep.
        tracking: place of its records, for several of that name; empty if nobody said.

    Raises:
        ValueError: none runs, or several do.
    """
    lives = [status for status in read_status(store) if status.alive(time.time())]
    found = [status for status in lives if status.name == name]
    if tracking:
        found = [status for status in found if status.tracking in (tracking, "")]
    if not found:
        names = ", ".join(sorted({status.name for status in lives})) or "none"
        raise ValueError(
            f"expected the name of a sweep that runs on {store.url} ({names}), got {name}"
        )
    check_one(name, [status.tracking for status in found])
    return found[0]


def check_one(name: str, places: Sequence[str]) -> None:
    """Check that a name means one sweep.

    Raises:
        ValueError: sweeps of that name are recorded at several places; it says how to choose.
    """
    if len(places) > 1:
        choices = "\n".join(f"  --tracking {place or 'unknown'}" for place in places)
        raise ValueError(
            f"{name}: expected the name of one sweep, but {len(places)} of that name are recorded "
            f"at different places; add one of\n{choices}"
        )
