"""What a running sweep tells the world: a small file in its store, which the driver rewrites every
few seconds.

It is advisory. Losing it loses nothing, and any machine that sees the store can read it without
Ray."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from sweeps.store.process import ProcessId, this_process
from sweeps.store.store import STATUS, Store

REWRITE_S = 3.0
GONE_S = 30.0
HERE = this_process()


class StageCounts(BaseModel):
    """The distinct artifacts of one stage class, asked for in these fields, by where they stand."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fields: str
    queued: int
    running: int
    done: int
    reused: int
    failed: int


class RunningStage(BaseModel):
    """A stage that runs: since when, for which trial, and how far its training is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    field: str
    fingerprint: str
    seconds: float
    trial: str
    epochs: str


class Status(BaseModel):
    """Where a sweep stands. Times are seconds since 1970, durations seconds.

    Attributes:
        state: "running" and "stopping" as long as the driver lives; else how it ended. left: time
        to the end, in words. spent_s: time of the stages that ran, one after the other; `gpu_` by
        the GPUs that they held. saved_s: what the trials would have taken more, had each run all
        its stages itself.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    state: Literal["running", "stopping", "ended", "failed", "stopped"] = "running"
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
    left: str
    spent_s: float
    saved_s: float
    gpu_spent_s: float
    gpu_saved_s: float

    def alive(self, now: float) -> bool:
        """Tell whether the driver lives: it wrote lately, and its process has not died here."""
        if self.state not in ("running", "stopping") or now - self.updated > GONE_S:
            return False
        process = ProcessId(
            host=self.host,
            pid=self.pid,
            boot=self.boot,
            namespace=self.namespace,
            started=self.started_ticks,
        )
        return process.life() != "dead"


def write_status(store: Store, status: Status) -> None:
    """Replace the sweep's status in the store."""
    store.files.write(f"{STATUS}/{status.name}.json", status.model_dump_json(indent=1).encode())


def read_status(store: Store) -> list[Status]:
    """Of every sweep that ever ran on this store, the last written first; what cannot be read is
    left out.
    """
    found = []
    for name in store.files.children(STATUS):
        try:
            found.append(Status.model_validate_json(store.files.read(f"{STATUS}/{name}") or b""))
        except ValidationError:
            continue
    return sorted(found, key=lambda status: -status.updated)
