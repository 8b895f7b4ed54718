"""The files of a store, by their names below its root: in a folder, or on an object store that
fsspec knows.
"""

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A file: its name below the root, its size, and when it was written, in seconds since 1970."""

    name: str
    bytes: int
    modified: float


class FolderFiles:
    """A folder that every machine sees. Names have `/` between their parts."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def read(self, name: str) -> bytes | None:
        """The content of a file, or None where there is none."""
        try:
            return (self._root / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def read_all(self, names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        """Those of the files that are there."""
        for name in names:
            if (data := self.read(name)) is not None:
                yield name, data

    def write(self, name: str, data: bytes) -> None:
        """Make or replace a file; nobody ever sees a part of it."""
        with self._aside(name, data) as path:
            path.replace(self._root / name)

    def create(self, name: str, data: bytes) -> bool:
        """Make a file unless there is one; of all that try at once, one succeeds."""
        with self._aside(name, data) as path:
            try:
                os.link(path, self._root / name)  # in one step, on network disks too
            except FileExistsError:
                return False
        return True

    def children(self, name: str = "") -> list[str]:
        """The names directly below, without what is hidden; of the root by default."""
        folder = self._root / name
        return (
            [path.name for path in folder.iterdir() if path.name[0] != "."]
            if folder.is_dir()
            else []
        )

    def find(self, name: str = "") -> Iterator[Entry]:
        """All files below, hidden ones too; a hidden folder without files counts as one."""
        for path in (self._root / name).rglob("*"):
            with contextlib.suppress(FileNotFoundError):  # others remove theirs at the same time
                found = path.lstat()
                if not path.is_dir() or (path.name[0] == "." and not any(path.iterdir())):
                    below = path.relative_to(self._root).as_posix()
                    yield Entry(name=below, bytes=found.st_size, modified=found.st_mtime)

    def move(self, name: str, to: str) -> None:
        """Move a folder or a file, if it is there."""
        (self._root / to).parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            (self._root / name).rename(self._root / to)

    def remove(self, name: str) -> None:
        """Remove a folder or a file, if it is there."""
        path = self._root / name
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _aside(self, name: str, data: bytes) -> Iterator[Path]:
        final = self._root / name
        final.parent.mkdir(parents=True, exist_ok=True)
        path = final.with_name(f".{final.name}.{uuid.uuid4().hex[:8]}")
        try:
            path.write_bytes(data)
            yield path
        finally:
            path.unlink(missing_ok=True)


class ObjectFiles:
    """An object store at a URL such as s3://bucket/prefix; credentials and endpoint are those of
    the environment.
    """

    def __init__(self, url: str) -> None:
        from fsspec.core import url_to_fs  # not needed for folders

        self._url = url
        with self._answering():
            self._fs, root = url_to_fs(url, use_listings_cache=False)
        self._root = root.rstrip("/")
        # s3fs would ask for each file's size before it reads it, to read in parts
        self._whole = {"max_concurrency": 1} if "s3" in self._fs.protocol else {}

    def read(self, name: str) -> bytes | None:
        """The content of a file, or None where there is none."""
        with self._answering():
            try:
                data: bytes = self._fs.cat_file(self._at(name), **self._whole)
            except FileNotFoundError:
                return None
        return data

    def read_all(self, names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        """Those of the files that are there, fetched several at a time."""
        paths = {self._at(name): name for name in names}
        with self._answering():
            found = self._fs.cat(list(paths), on_error="omit", **self._whole) if paths else {}
        yield from ((paths[path], data) for path, data in found.items())

    def write(self, name: str, data: bytes) -> None:
        """Make or replace a file; nobody ever sees a part of it."""
        with self._answering():
            self._fs.pipe_file(self._at(name), data)

    def create(self, name: str, data: bytes) -> bool:
        """Make a file unless there is one; where the store has no conditional writes, as S3 has,
        two may succeed.
        """
        with self._answering():
            try:
                self._fs.pipe_file(self._at(name), data, mode="create")
            except FileExistsError:
                return False
        return True

    def children(self, name: str = "") -> list[str]:
        """The names directly below, without what is hidden; of the root by default."""
        with self._answering():
            try:
                paths = self._fs.ls(self._at(name), detail=False)
            except FileNotFoundError:
                return []
        names = [
            path.rstrip("/").rsplit("/", 1)[-1]
            for path in paths
            if path.rstrip("/") != self._at(name)
        ]
        return [each for each in names if each[0] != "."]

    def find(self, name: str = "") -> Iterator[Entry]:
        """All files below, hidden ones too."""
        with self._answering():
            found = self._fs.find(self._at(name), detail=True)
        for path, info in found.items():
            below = path.removeprefix(f"{self._root}/")
            yield Entry(name=below, bytes=info["size"], modified=_modified(info))

    def move(self, name: str, to: str) -> None:
        """Move a folder or a file, if it is there."""
        for entry in list(self.find(name)):
            with self._answering(), contextlib.suppress(FileNotFoundError):
                self._fs.mv(self._at(entry.name), self._at(to + entry.name.removeprefix(name)))

    def remove(self, name: str) -> None:
        """Remove a folder or a file, if it is there."""
        if paths := [self._at(entry.name) for entry in self.find(name)]:
            with self._answering(), contextlib.suppress(FileNotFoundError):
                self._fs.rm(paths)

    def download(self, paths: Mapping[str, Path]) -> None:
        """Fetch files, several at a time, each to its path.

        Raises:
            FileNotFoundError: one is not there.
        """
        for path in {path.parent for path in paths.values()}:
            path.mkdir(parents=True, exist_ok=True)
        with self._answering():
            self._fs.get([self._at(name) for name in paths], [str(path) for path in paths.values()])

    def upload(self, paths: Iterable[tuple[Path, str]]) -> None:
        """Put files, several at a time, each under its name."""
        pairs = [(str(path), self._at(name)) for path, name in paths]
        with self._answering():
            self._fs.put([path for path, _ in pairs], [name for _, name in pairs])

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root

    @contextlib.contextmanager
    def _answering(self) -> Iterator[None]:
        """What goes wrong is an OSError with the store's URL, whatever the library raises."""
        try:
            yield
        except Exception as error:
            kind = FileNotFoundError if isinstance(error, FileNotFoundError) else OSError
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise kind(f"store {self._url}: {reason}") from error


Files = FolderFiles | ObjectFiles


def _modified(info: Mapping[str, Any]) -> float:
    """The time in a listing, which each kind of object store names differently."""
    for key in ("LastModified", "last_modified", "updated", "mtime", "created"):
        if (value := info.get(key)) is not None:
            moment = datetime.fromisoformat(value) if isinstance(value, str) else value
            return moment.timestamp() if isinstance(moment, datetime) else float(moment)
    return 0.0
