"""Errors of a store that waiting may mend, and how long to wait for it.

A network disk or an object store may be away for seconds or minutes. Stages that run for hours and
sweeps that run for days survive that, as they survive a tracking server that is away."""

import errno
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

T = TypeVar("T")

# An hour covers the restart of a file server; a worker that waits longer holds its GPU for nothing.
PATIENCE_S = 3600.0
# The first look comes soon, for most outages last seconds; later ones leave a busy store alone.
FIRST_PAUSE_S = 1.0
# An outage that ends is noticed soon enough.
LONGEST_PAUSE_S = 15.0
# Errors of network disks that come and go. A full or read-only disk, a missing permission and a
# wrong name are not among them: they need a person.
PASSING = frozenset(
    (
        errno.EIO,
        errno.ESTALE,
        errno.ETIMEDOUT,
        errno.EAGAIN,
        errno.EBUSY,
        errno.EREMOTEIO,
        errno.ENOTCONN,
        errno.ECONNABORTED,
        errno.ECONNREFUSED,
        errno.ECONNRESET,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.ENETUNREACH,
    )
)


class StoreAwayError(OSError):
    """An object store did not answer, or answered that it cannot work now."""


def may_pass(error: OSError) -> bool:
    """Return whether the store may answer later without anybody's help."""
    return isinstance(error, StoreAwayError) or error.errno in PASSING


def pauses() -> Iterator[float]:
    """Yield the seconds to wait after each try; ends after `PATIENCE_S` altogether."""
    pause = FIRST_PAUSE_S
    waited = 0.0
    while waited < PATIENCE_S:
        yield pause
        waited += pause
        pause = min(2 * pause, LONGEST_PAUSE_S)


def patiently(call: Callable[[], T]) -> T:
    """Return what `call` returns, and call it again while the store does not answer.

    Raises:
        OSError: a lasting error, or the store was away for `PATIENCE_S`.
    """
    for pause in pauses():
        try:
            return call()
        except OSError as error:
            if not may_pass(error):
                raise
        time.sleep(pause)
    return call()
