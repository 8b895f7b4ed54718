"""Bound on the room that a machine gives to copies from object stores.

The artifacts that were used longest ago are removed first. A stage holds a shared lock on each
artifact that it works with, and only an artifact without such a lock is removed. What was used a
moment ago stays too, for readers that hold no lock, such as the driver.
"""

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from occse.artifacts.manifest import MANIFEST, read_start
from occse.data.reading import parse_json

LIMIT_GB = "OCCSE_CACHE_GB"
# Room for the artifacts of some hundred trials on PASCAL VOC at under 1 GB each.
DEFAULT_GB = 100.0
# A reader without a lock is done with a file within minutes.
RECENT_S = 600.0
# No download and no attempt leaves its folder untouched for a day.
LEFTOVER_S = 86400.0


@dataclass(frozen=True)
class _Copy:
    folder: Path
    bytes: int
    used: float


def limit() -> float:
    """Return how many bytes a machine may keep of each object store.

    Raises:
        ValueError: the environment variable is not a size.
    """
    text = os.environ.get(LIMIT_GB, str(DEFAULT_GB))
    try:
        gigabytes = float(text)
    except ValueError:
        gigabytes = -1.0
    # written so that NaN is refused, too
    if not gigabytes >= 0:
        raise ValueError(
            f"{LIMIT_GB}={text}: expected a number of gigabytes, such as {DEFAULT_GB:g}"
        )
    return gigabytes * 1e9


@contextlib.contextmanager
def in_use(root: Path, fingerprints: Iterable[str]) -> Iterator[None]:
    """Keep these artifacts below `root`, even those that are not there yet."""
    with contextlib.ExitStack() as stack:
        for fingerprint in fingerprints:
            # Shared: any number of stages may read an artifact; the one who removes it needs it
            # alone.
            fcntl.flock(_lock(root, fingerprint, stack), fcntl.LOCK_SH)
        yield


def touch(folder: Path) -> None:
    """Note that an artifact is used now, as the time of its manifest, which no checksum covers."""
    with contextlib.suppress(OSError):  # another process removed it
        os.utime(folder / MANIFEST)


def trim(root: Path, *, most: float) -> None:
    """Remove artifacts below `root`, the copies from one store, until they take `most` bytes.

    Artifacts in use and those used a moment ago stay, even where they take more. Folders of
    attempts that were killed on the way go after a day.
    """
    for leftover in root.glob("[!.]*/.*"):
        with contextlib.suppress(OSError):  # another process removes it, too
            if leftover.is_dir() and leftover.stat().st_mtime < time.time() - LEFTOVER_S:
                shutil.rmtree(leftover, ignore_errors=True)
    copies = sorted(_copies(root), key=lambda copy: copy.used)
    excess = sum(copy.bytes for copy in copies) - most
    for copy in copies:
        if excess <= 0 or copy.used > time.time() - RECENT_S:
            return
        if _remove(root, copy.folder):
            excess -= copy.bytes


def _copies(root: Path) -> Iterator[_Copy]:
    for manifest in root.glob(f"[!.]*/[!.]*/{MANIFEST}"):
        # another process removes it, or a copy is damaged: `fetch` sees to that
        with contextlib.suppress(OSError, ValueError, KeyError):
            size = parse_json(read_start(manifest))["bytes"]
            yield _Copy(manifest.parent, size, manifest.stat().st_mtime)


def _remove(root: Path, folder: Path) -> bool:
    """Remove an artifact, unless a stage works with it."""
    with contextlib.ExitStack() as stack:
        try:
            # Without waiting: an artifact that is in use for hours must not stop the clearing of
            # others.
            fcntl.flock(_lock(root, folder.name, stack), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        # renamed first: a reader never sees an artifact of which some files are gone
        aside = folder.with_name(f".{folder.name}.gone")
        with contextlib.suppress(OSError):  # another process removed it
            folder.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)
    return True


def _lock(root: Path, fingerprint: str, stack: contextlib.ExitStack) -> int:
    path = root / "locks" / f"{fingerprint}.use"
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(path, os.O_CREAT | os.O_RDWR)
    stack.callback(os.close, lock)
    return lock
