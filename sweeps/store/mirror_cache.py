"""The bound on what a machine keeps of object stores: the artifacts that were used longest ago go
first.

Whoever needs an artifact while it works holds its lock, shared; only one that nobody holds is
removed. What was used a moment ago stays too, for a reader that holds no lock, such as the driver.
"""

import contextlib
import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from occse.artifacts.manifest import MANIFEST

LIMIT_GB = "OCCSE_CACHE_GB"
DEFAULT_GB = 100.0
RECENT_S = 600.0


@dataclass(frozen=True)
class _Kept:
    folder: Path
    bytes: int
    used: float


def limit() -> float:
    """How many bytes a machine may keep of each object store.

    Raises:
        ValueError: the environment variable is no size.
    """
    text = os.environ.get(LIMIT_GB, str(DEFAULT_GB))
    try:
        given = float(text)
    except ValueError:
        given = -1.0
    if not given >= 0:
        raise ValueError(
            f"{LIMIT_GB}={text}: expected a number of gigabytes, such as {DEFAULT_GB:g}"
        )
    return given * 1e9


@contextlib.contextmanager
def in_use(root: Path, fingerprints: Iterable[str]) -> Iterator[None]:
    """Keep these artifacts below `root`, whether they are there yet or not."""
    with contextlib.ExitStack() as stack:
        for fingerprint in fingerprints:
            fcntl.flock(_lock(root, fingerprint, stack), fcntl.LOCK_SH)
        yield


def touch(folder: Path) -> None:
    """Note that an artifact is used now. Its manifest has no part in what tells damage."""
    with contextlib.suppress(OSError):  # somebody removed it
        os.utime(folder / MANIFEST)


def trim(root: Path, *, most: float) -> None:
    """Remove artifacts below `root`, the cache of one store, until they take `most` bytes; see
    above what stays.
    """
    kept = sorted(_kept(root), key=lambda each: each.used)
    excess = sum(each.bytes for each in kept) - most
    for each in kept:
        if excess <= 0 or each.used > time.time() - RECENT_S:
            return
        if _remove(root, each.folder):
            excess -= each.bytes


def _kept(root: Path) -> Iterator[_Kept]:
    for manifest in root.glob(f"[!.]*/[!.]*/{MANIFEST}"):
        with contextlib.suppress(OSError, ValueError, KeyError):
            size = json.loads(manifest.read_bytes())["bytes"]
            yield _Kept(manifest.parent, size, manifest.stat().st_mtime)


def _remove(root: Path, folder: Path) -> bool:
    with contextlib.ExitStack() as stack:
        try:
            fcntl.flock(_lock(root, folder.name, stack), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        aside = folder.with_name(f".{folder.name}.gone")
        with contextlib.suppress(OSError):  # somebody else removed it
            folder.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)
    return True


def _lock(root: Path, fingerprint: str, stack: contextlib.ExitStack) -> int:
    path = root / "locks" / f"{fingerprint}.use"
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(path, os.O_CREAT | os.O_RDWR)
    stack.callback(os.close, lock)
    return lock
