"""Leases: which cluster runs a stage, where several share a store.

`leases/<fingerprint>.json` is made before a stage is submitted, renewed while it runs, and removed
at its end. One that was not renewed for `EXPIRES_S`, or whose process is no more, is taken over. On
a folder and on S3 a free lease goes to one of all that ask at once. Two that take over the same
expired lease within the same moment, or machines whose clocks differ by more than `EXPIRES_S`, may
run a stage twice: artifacts are published whole and the first wins, so that this costs time and
never changes a number."""

import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from sweeps.store.backends import Files

LEASES = "leases"
EXPIRES_S = 120.0
RENEW_S = 20.0


class Lease(BaseModel):
    """Who runs a stage, since when, and when that was last confirmed (seconds since 1970)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    owner: str
    host: str
    pid: int
    since: float
    heartbeat: float

    def expired(self, now: float) -> bool:
        """Whether nobody holds it any more."""
        dead = (
            self.host == platform.node()
            and not Path(f"/proc/{self.pid}").exists()
            and Path("/proc/self").exists()
        )
        return dead or now > self.heartbeat + EXPIRES_S


class Leases:
    """The leases of one scheduler, which keeps its `owner` name when it comes back after a crash."""

    def __init__(self, files: Files, *, owner: str, clock: Callable[[], float] = time.time) -> None:
        self._files = files
        self._owner = owner
        self._clock = clock
        self._since: dict[str, float] = {}

    def take(self, fingerprint: str) -> Lease | None:
        """Take the lease of a stage; None on success, else the lease of who has it."""
        self._since[fingerprint] = self._clock()
        if self._files.create(_name(fingerprint), self._mine(fingerprint)):
            return None
        holder = read_lease(self._files, fingerprint)
        if holder is None or holder.owner == self._owner or holder.expired(self._clock()):
            self.renew(fingerprint)
            holder = read_lease(self._files, fingerprint)
        return holder if holder is not None and holder.owner != self._owner else None

    def renew(self, fingerprint: str) -> None:
        """Confirm that the stage still runs here."""
        self._files.write(_name(fingerprint), self._mine(fingerprint))

    def release(self, fingerprint: str) -> None:
        """Give the lease back, unless somebody took it over."""
        holder = read_lease(self._files, fingerprint)
        if holder is not None and holder.owner == self._owner:
            self._files.remove(_name(fingerprint))

    def _mine(self, fingerprint: str) -> bytes:
        lease = Lease(
            owner=self._owner,
            host=platform.node(),
            pid=os.getpid(),
            since=self._since[fingerprint],
            heartbeat=self._clock(),
        )
        return lease.model_dump_json().encode()


def read_lease(files: Files, fingerprint: str) -> Lease | None:
    """The lease of a stage; None where there is none, or none that can be read."""
    data = files.read(_name(fingerprint))
    try:
        return Lease.model_validate_json(data) if data is not None else None
    except ValueError:
        return None


def _name(fingerprint: str) -> str:
    return f"{LEASES}/{fingerprint}.json"
