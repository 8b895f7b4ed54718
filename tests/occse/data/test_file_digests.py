"""Digests of a user's files are remembered, and edited files are told all the same."""

import hashlib
import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from occse.data.file_digests import DATABASE, SETTLED_NS, sha256_of, sha256_of_all


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_digest_tells_an_edited_file_of_equal_size_and_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OCCSE_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "mask.png"
    path.write_bytes(b"one")
    before = path.stat()
    # Old enough for the cache.
    time.sleep(1.1 * SETTLED_NS / 1e9)
    assert sha256_of(path) == sha256(b"one")
    with closing(sqlite3.connect(tmp_path / "cache" / DATABASE)) as cache:
        assert cache.execute("SELECT path FROM files").fetchall() == [(str(path),)]
    path.write_bytes(b"two")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert sha256_of(path) == sha256(b"two")


def test_digest_of_an_unchanged_file_comes_from_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OCCSE_CACHE", str(tmp_path / "cache"))
    paths = [tmp_path / "a", tmp_path / "b"]
    for path in paths:
        path.write_bytes(path.name.encode())
    # Files of this moment are hashed and not remembered: they may change within a tick.
    assert sha256_of_all(paths) == [sha256(b"a"), sha256(b"b")]
    database = tmp_path / "cache" / DATABASE
    with sqlite3.connect(database) as cache:
        assert cache.execute("SELECT count(*) FROM files").fetchone() == (0,)
    time.sleep(1.1 * SETTLED_NS / 1e9)
    sha256_of_all(paths)
    with sqlite3.connect(database) as cache:
        cache.execute("UPDATE files SET sha256 = 'remembered' WHERE path LIKE '%a'")
    assert sha256_of_all(paths) == ["remembered", sha256(b"b")]
    cache.close()
    database.write_bytes(b"no database at all, which costs time and nothing else")
    assert sha256_of_all(paths) == [sha256(b"a"), sha256(b"b")]


def test_digest_of_a_missing_file_names_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.png cannot be read .*expected a file of the data"):
        sha256_of(tmp_path / "none.png")
