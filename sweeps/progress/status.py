"""The status file of a sweep: a small file in its store that the driver rewrites every few seconds.

It is advisory: losing it loses nothing. Any machine that sees the store can read it without Ray."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from sweeps.store.process import ProcessId, this_process
from sweeps.store.store import STATUS, Store

# Often enough for a person who looks, and few requests on an object store that bills each.
REWRITE_S = 3.0
# A driver that did not write for ten periods has died, or cannot reach its store.
GONE_S = 30.0
HERE = this_process()


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
    store.files.write(f"{STATUS}/{status.name}.json", status.model_dump_json(indent=1).encode())


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
