"""Folders and object stores, held to the same behaviour."""

import socket
import threading
import time
from pathlib import Path

import pytest
from s3fs import S3FileSystem

from sweeps.store.backends import Files, FolderFiles, ObjectFiles
from sweeps.store.patience import StoreAwayError


@pytest.fixture(params=["folder", "s3"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Files:
    if request.param == "folder":
        return FolderFiles(tmp_path)
    return ObjectFiles(f"{request.getfixturevalue('s3')}/{tmp_path.name}")


def names(files: Files, below: str = "") -> set[str]:
    return {entry.name for entry in files.find(below)}


def test_files_are_written_read_and_replaced(files: Files) -> None:
    assert files.read("a/b.json") is None
    files.write("a/b.json", b"one")
    files.write("a/b.json", b"three")
    files.write("a/.hidden", b"")
    assert files.read("a/b.json") == b"three"
    (entry,) = (entry for entry in files.find() if entry.bytes)
    assert (entry.name, entry.bytes) == ("a/b.json", 5)
    assert abs(entry.modified - time.time()) < 60
    assert names(files) == {"a/b.json", "a/.hidden"}
    wanted = ["a/b.json", "a/c.json", "a/.hidden"]
    assert dict(files.read_all(wanted)) == {"a/b.json": b"three", "a/.hidden": b""}


def test_children_are_what_lies_directly_below(files: Files) -> None:
    for name in ("a/b/c", "a/d", "a/.e/f", "g/h"):
        files.write(name, b"text")
    assert sorted(files.children()) == ["a", "g"]
    assert sorted(files.children("a")) == ["b", "d"]
    assert files.children("nothing") == []


def test_folders_are_moved_and_removed_whole(files: Files) -> None:
    for name in ("a/b/c", "a/b/d/e", "a/bc"):
        files.write(name, name.encode())
    files.move("a/b", "z/y")
    assert names(files) == {"a/bc", "z/y/c", "z/y/d/e"}
    assert files.read("z/y/d/e") == b"a/b/d/e"
    files.move("a/b", "z/x")
    files.remove("a/b")
    files.remove("z")
    assert names(files) == {"a/bc"}
    files.remove("a/bc")
    assert names(files) == set()


def test_create_succeeds_for_one_of_those_that_try_at_once(files: Files) -> None:
    together = threading.Barrier(8)
    won: list[bytes] = []

    def create(data: bytes) -> None:
        together.wait()
        if files.create("leases/x.json", data):
            won.append(data)

    threads = [
        threading.Thread(target=create, args=(f"attempt {number}".encode(),)) for number in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [files.read("leases/x.json")] == won
    assert names(files) == {"leases/x.json"}


@pytest.mark.usefixtures("s3")
def test_error_of_a_missing_bucket_names_its_url() -> None:
    with pytest.raises(OSError, match=r"store s3://no-such-bucket/prefix: .*bucket does not exist"):
        ObjectFiles("s3://no-such-bucket/prefix").write("a", b"")


def test_store_that_is_away_is_told_from_one_without_the_files(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    # fsspec keeps a connection for the whole process, whatever the environment says since.
    S3FileSystem.clear_instance_cache()
    away = ObjectFiles("s3://bucket/prefix")
    S3FileSystem.clear_instance_cache()
    with pytest.raises(StoreAwayError):
        dict(away.read_all(["a"]))
