"""Digests of a user's files are remembered, and edited files are told all the same."""

import hashlib
import os
import pwd
import sqlite3
import tempfile
import time
from contextlib import closing
from pathlib import Path

import pytest

from occse.data.file_digests import (
    DATABASE,
    SETTLED_NS,
    _temporary_cache,
    node_cache,
    sha256_of,
    sha256_of_all,
)


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
        assert cache.execute("SELECT path FROM files").fetchall() == [(os.fsencode(path),)]
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
        cache.execute("UPDATE files SET sha256 = 'remembered' WHERE sha256 = ?", (sha256(b"a"),))
    assert sha256_of_all(paths) == ["remembered", sha256(b"b")]
    cache.close()
    database.write_bytes(b"no database at all, which costs time and nothing else")
    assert sha256_of_all(paths) == [sha256(b"a"), sha256(b"b")]


def test_digest_of_a_file_below_a_folder_whose_name_is_no_utf8_is_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OCCSE_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / os.fsdecode(b"gr\xfcn")
    folder.mkdir()
    path = folder / "a"
    path.write_bytes(b"a")
    os.utime(path, (0, 0))
    # Its time of change is now, so a day passes before the look at it.
    later = time.time_ns() + 10 * SETTLED_NS
    monkeypatch.setattr(time, "time_ns", lambda: later)
    assert sha256_of(path) == sha256(b"a")
    with closing(sqlite3.connect(tmp_path / "cache" / DATABASE)) as cache:
        assert cache.execute("SELECT sha256 FROM files").fetchall() == [(sha256(b"a"),)]


def test_digests_need_no_home_folder_and_trust_no_other_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(user: int) -> None:
        raise KeyError(user)

    # Containers may run as a user that the system does not know.
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name in ("HOME", "OCCSE_CACHE"):
        monkeypatch.delenv(name)
    (tmp_path / "a").write_bytes(b"a")
    _temporary_cache.cache_clear()
    assert sha256_of(tmp_path / "a") == sha256(b"a")
    assert node_cache() == tmp_path / f"occse-{os.getuid()}"
    assert node_cache().stat().st_mode & 0o077 == 0
    elsewhere = os.getuid() + 1
    monkeypatch.setattr(os, "getuid", lambda: elsewhere)
    _temporary_cache.cache_clear()
    assert node_cache() != tmp_path / f"occse-{elsewhere}"
    _temporary_cache.cache_clear()


def test_digest_of_a_missing_file_names_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.png cannot be read .*expected a file of the data"):
        sha256_of(tmp_path / "none.png")
