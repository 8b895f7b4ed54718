"""Leases tell which cluster runs a stage, where several clusters share a store.

`leases/<fingerprint>.json` is made before a stage is submitted, renewed while the stage runs, and
removed at its end. Another cluster takes a lease over when it was not renewed for `EXPIRES_S`, or
when its process has died on the same machine.

On a folder and on S3 a free lease goes to one of all that ask at once. A stage may still run twice:
when two clusters take over the same expired lease within the same moment, when clocks differ by
more than `EXPIRES_S`, or when a file system without hard links answers so slowly that a lease is
seen before it is written. That costs time and never changes a number, because artifacts are
published whole and the first one wins.
"""

import math
import time
from collections.abc import Callable

from pydantic import BaseModel, ConfigDict

from sweeps.store.backends import Files
from sweeps.store.process import ProcessId, this_process

LEASES = "leases"
# A scheduler that missed five renewals in a row has lost its machine or its network, and the others
# need not wait longer.
EXPIRES_S = 120.0
# Often enough that a few lost renewals do not matter, and three requests a minute and stage.
RENEW_S = 20.0
# Where hard links are refused, a lease is seen empty between its creation and the end of its
# writing: milliseconds on a disk, more on a network.
WRITING_S = 0.5


class Lease(BaseModel):
    """Holder of a stage, and when the holder last confirmed it.

    Attributes:
        owner: name of the scheduler, the same before and after a crash of it.
        host: machine of the scheduler.
        pid: process of the scheduler.
        boot: see `sweeps.store.process.ProcessId`, as for `namespace` and `started`.
        since: when the stage was leased, in seconds since 1970.
        heartbeat: when the lease was last renewed, in seconds since 1970.
    """

    # a later version of this program may write more fields; its lease must still count here
    model_config = ConfigDict(frozen=True, extra="ignore")

    owner: str
    host: str
    pid: int
    boot: str = ""
    namespace: str = ""
    started: str = ""
    since: float
    heartbeat: float

    def expired(self, now: float) -> bool:
        """Tell whether nobody holds the lease any more."""
        process = ProcessId(
            host=self.host,
            pid=self.pid,
            boot=self.boot,
            namespace=self.namespace,
            started=self.started,
        )
        return process.life() == "dead" or not _confirmed(self.heartbeat, now)


class Leases:
    """Leases of one scheduler, which keeps its `owner` name when it comes back after a crash."""

    def __init__(self, files: Files, *, owner: str, clock: Callable[[], float] = time.time) -> None:
        self._files = files
        self._owner = owner
        self._clock = clock
        self._since: dict[str, float] = {}

    def take(self, fingerprint: str) -> Lease | None:
        """Take the lease of a stage; return None on success, else the lease of its holder."""
        self._since[fingerprint] = self._clock()
        # `create` and not `write`: of all clusters that ask at once only one must get the lease.
        if self._files.create(_name(fingerprint), self._mine(fingerprint)):
            return None
        holder = self._holder(fingerprint)
        if holder is None:
            # perhaps its owner is about to write it: taking it now would run the stage twice
            time.sleep(WRITING_S)
            holder = self._holder(fingerprint)
        if holder is None or holder.owner == self._owner or holder.expired(self._clock()):
            self.renew(fingerprint)
            # of two that take over at once the later one overwrites: the earlier one gives way
            holder = self._holder(fingerprint)
        return holder if holder is not None and holder.owner != self._owner else None

    def renew(self, fingerprint: str) -> None:
        """Confirm that the stage still runs here."""
        self._files.write(_name(fingerprint), self._mine(fingerprint))

    def release(self, fingerprint: str) -> None:
        """Give the lease back, unless another scheduler took it over."""
        holder = self._holder(fingerprint)
        # After a take-over the file is the other cluster's; to remove it would let a third one
        # start.
        if holder is not None and holder.owner == self._owner:
            self._files.remove(_name(fingerprint))

    def _holder(self, fingerprint: str) -> Lease | None:
        return read_lease(self._files, fingerprint, now=self._clock())

    def _mine(self, fingerprint: str) -> bytes:
        process = this_process()
        lease = Lease(
            owner=self._owner,
            host=process.host,
            pid=process.pid,
            boot=process.boot,
            namespace=process.namespace,
            started=process.started,
            since=self._since[fingerprint],
            heartbeat=self._clock(),
        )
        return lease.model_dump_json().encode()


def read_lease(files: Files, fingerprint: str, *, now: float | None = None) -> Lease | None:
    """Return the lease of a stage; None where there is none, or none that can be read.

    A heartbeat that cannot be true (in the future, or no number) comes from a machine with a wrong
    clock. The time at which the store received the lease stands for it, so that such a lease
    expires as others do.
    """
    data = files.read(_name(fingerprint))
    if data is None:
        return None
    try:
        lease = Lease.model_validate_json(data)
    except ValueError:
        return None
    now = time.time() if now is None else now
    if math.isfinite(lease.heartbeat) and lease.heartbeat <= now + EXPIRES_S:
        return lease
    written = files.modified(_name(fingerprint))
    return lease.model_copy(update={"heartbeat": 0.0 if written is None else written})


def _confirmed(heartbeat: float, now: float) -> bool:
    """Tell whether `heartbeat` is recent; one that the clock of neither machine explains is not."""
    return abs(now - heartbeat) <= EXPIRES_S


def _name(fingerprint: str) -> str:
    return f"{LEASES}/{fingerprint}.json"
