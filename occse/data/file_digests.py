"""SHA-256 of a user's files, remembered as long as size and time of a file stay the same.

All of a data set is hashed to know its identity, which reads every byte of it. So digests are kept
in this machine's cache; losing it costs one more reading.
"""

import hashlib
import os
import platform
import sqlite3
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from functools import cache
from pathlib import Path

DATABASE = "digests.db"
# hashlib leaves other threads alone while it hashes; a network disk answers several at once.
THREADS = 8
# Another command may write into the cache at this moment.
WAIT_S = 10.0
# A file that was written in the last two seconds may be written again within the tick of its
# file system's clock, with the same size: its digest is not kept.
SETTLED_NS = 2_000_000_000
# Path (as bytes, since file systems hold names that are no UTF-8), inode, time of change, size.
Stamp = tuple[bytes, int, int, int]


def node_cache() -> Path:
    """Return this machine's folder of files that may be lost.

    It is `OCCSE_CACHE`, or a folder named after the machine in the user's cache folder; without a
    home folder, as in some containers, one of this user alone among the temporary files.
    """
    given = os.environ.get("OCCSE_CACHE")
    if given:
        return Path(given)
    try:
        return Path.home() / ".cache" / "occse" / platform.node()
    except RuntimeError:
        return _temporary_cache()


@cache
def _temporary_cache() -> Path:
    folder = Path(tempfile.gettempdir()) / f"occse-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    # Another user could put it there first, with digests of files that are not these.
    is_ours = folder.lstat().st_uid == os.getuid()
    return folder if is_ours else Path(tempfile.mkdtemp(prefix="occse-"))


def sha256_of(path: Path) -> str:
    """Return the SHA-256 (hex) of a file.

    Raises:
        ValueError: it cannot be read.
    """
    return sha256_of_all([path])[0]


def sha256_of_all(paths: Iterable[Path]) -> list[str]:
    """Return the SHA-256 (hex) of each file, in the order of `paths`.

    Raises:
        ValueError: one of them cannot be read.
    """
    # Before the first look: a file that is written while others are hashed counts as unsettled.
    now = time.time_ns()
    stamps = [_stamp(path) for path in paths]
    known = _recall(stamps)
    missing = [stamp for stamp in dict.fromkeys(stamps) if stamp not in known]
    if missing:
        with ThreadPoolExecutor(THREADS) as pool:
            fresh = dict(zip(missing, pool.map(_hash, missing), strict=True))
        _remember(fresh, now=now)
        known |= fresh
    return [known[stamp] for stamp in stamps]


def _stamp(path: Path) -> Stamp:
    """Return what tells a changed file: its path, inode, time of change and size."""
    try:
        found = path.stat()
    except OSError as error:
        raise _unreadable(path, error) from None
    return (
        os.fsencode(path.absolute()),
        found.st_ino,
        max(found.st_mtime_ns, found.st_ctime_ns),
        found.st_size,
    )


def _hash(stamp: Stamp) -> str:
    path = Path(os.fsdecode(stamp[0]))
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: OSError) -> ValueError:
    return ValueError(f"{path} cannot be read ({error.strerror}); expected a file of the data set")


def _recall(stamps: Iterable[Stamp]) -> dict[Stamp, str]:
    known: dict[Stamp, str] = {}
    with suppress(sqlite3.Error, OSError), _cache() as database:
        for stamp in dict.fromkeys(stamps):
            row = database.execute(
                "SELECT sha256 FROM files "
                "WHERE path = ? AND inode = ? AND changed = ? AND size = ?",
                stamp,
            ).fetchone()
            if row is not None:
                known[stamp] = row[0]
    return known


def _remember(fresh: dict[Stamp, str], *, now: int) -> None:
    """Keep digests of files that had not changed for a while at `now`, before they were read."""
    rows = [(*stamp, sha) for stamp, sha in fresh.items() if now - stamp[2] > SETTLED_NS]
    # Without a cache, as on a full disk, the files are only hashed again.
    with suppress(sqlite3.Error, OSError), _cache() as database, database:
        database.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)", rows)


@contextmanager
def _cache() -> Iterator[sqlite3.Connection]:
    folder = node_cache()
    folder.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(folder / DATABASE, timeout=WAIT_S)) as database:
        database.execute(
            "CREATE TABLE IF NOT EXISTS files (path BLOB PRIMARY KEY, inode INTEGER, "
            "changed INTEGER, size INTEGER, sha256 TEXT)"
        )
        yield database
