"""Files of a store by their names below its root: in a folder, or on an object store."""

import contextlib
import errno
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from occse.artifacts.manifest import MOST_BYTES, read_start
from sweeps.store.patience import StoreAwayError, patiently

# What file systems without hard links answer: exFAT, some FUSE and parallel file systems.
NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
SHARED_STORE = (
    "a store that several users share needs group-writable folders: "
    "`chgrp -R GROUP` and `chmod -R g+ws` on it, and `umask 002` for everyone who writes there"
)

# Errors of botocore that are about the request, not about the store that gets it.
FAULTS_OF_THE_CALLER = ("NoCredentialsError", "PartialCredentialsError", "ParamValidationError")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """File of a store: its name below the root, its size, and the time of its last change.

    Attributes:
        name: parts separated by `/`.
        bytes: size of the file.
        modified: seconds since 1970.
    """

    name: str
    bytes: int
    modified: float


class FolderFiles:
    """Files in a folder that every machine sees. Parts of a name are separated by `/`."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def read(self, name: str) -> bytes | None:
        """Return the content of a file, or None where there is none.

        Of a file above `MOST_BYTES` only the start is read, which no checksum and no parser takes.
        """
        try:
            return read_start(self._root / name)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def read_all(self, names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        """Yield names and contents of those of the files that exist."""
        for name in names:
            data = self.read(name)
            if data is not None:
                yield name, data

    def modified(self, name: str) -> float | None:
        """Return when a file was last written, in seconds since 1970; None where there is none."""
        try:
            return (self._root / name).stat().st_mtime
        except (FileNotFoundError, NotADirectoryError):
            return None

    def write(self, name: str, data: bytes) -> None:
        """Make or replace a file; a reader never sees a part of it."""
        with self._permitted(name), self._aside(name, data) as path:
            # One rename: a reader, or a crash, finds the old content or the new one, never a part.
            path.replace(self._root / name)

    def create(self, name: str, data: bytes) -> bool:
        """Make a file unless it exists; of all that try at once, one succeeds.

        Where the file system has no hard links, a reader may see the file before it is complete.
        """
        with self._permitted(name), self._aside(name, data) as path:
            try:
                # a link appears in one step and complete, on network disks too
                os.link(path, self._root / name)
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno not in NO_LINKS:
                    raise
                return self._create_exclusively(self._root / name, data)
        return True

    def children(self, name: str = "") -> list[str]:
        """Return the names directly below a folder, by default the root, without hidden ones."""
        folder = self._root / name
        if not folder.is_dir():
            return []
        return [path.name for path in folder.iterdir() if not path.name.startswith(".")]

    def find(self, name: str = "") -> Iterator[Entry]:
        """Yield all files below a folder, hidden ones too.

        A hidden folder without files counts as a file: it is what an attempt left that died.
        """
        for path in (self._root / name).rglob("*"):
            # other processes remove their files at the same time
            with contextlib.suppress(FileNotFoundError):
                status = path.lstat()
                if path.is_dir() and not _is_empty_hidden(path):
                    continue
                yield Entry(
                    name=path.relative_to(self._root).as_posix(),
                    bytes=status.st_size,
                    modified=status.st_mtime,
                )

    def move(self, name: str, to: str) -> None:
        """Move a folder or a file, if it exists."""
        with self._permitted(name):
            (self._root / to).parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):
                # Of two processes that move it at once, the second finds nothing, which is no
                # fault.
                (self._root / name).rename(self._root / to)

    def remove(self, name: str) -> None:
        """Remove a folder or a file, if it exists."""
        path = self._root / name
        if path.is_dir():
            # Another process may be removing the same folder.
            shutil.rmtree(path, ignore_errors=True)
            return
        with self._permitted(name):
            path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _aside(self, name: str, data: bytes) -> Iterator[Path]:
        """Write `data` to a hidden file beside the final one, and remove that in the end."""
        final = self._root / name
        final.parent.mkdir(parents=True, exist_ok=True)
        # A name of its own for each writer: two that shared one would mix their bytes. Beside the
        # final file, since a rename works within one file system only.
        path = final.with_name(f".{final.name}.{uuid.uuid4().hex[:8]}")
        try:
            path.write_bytes(data)
            yield path
        finally:
            path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _permitted(self, name: str) -> Iterator[None]:
        """Say what a shared store needs where another user's folder refuses a change."""
        try:
            yield
        except PermissionError as error:
            raise PermissionError(
                f"store {self._root}: no permission to change {name}; {SHARED_STORE}"
            ) from error

    @staticmethod
    def _create_exclusively(path: Path, data: bytes) -> bool:
        try:
            # O_EXCL: of several processes only one makes the file
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            return False
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        return True


class ObjectFiles:
    """Files on an object store at a URL such as s3://bucket/prefix.

    Credentials and endpoint are those of the environment.

    Raises:
        ValueError: fsspec does not know the protocol of the URL.
    """

    def __init__(self, url: str) -> None:
        from fsspec import available_protocols  # not needed for folders
        from fsspec.core import url_to_fs

        # Caches of fsspec stand before the protocol, as in simplecache::s3://bucket
        protocol = url.partition("://")[0].rpartition("::")[2]
        if protocol not in available_protocols():
            raise ValueError(
                f"store {url}: expected a folder, or a URL of a protocol that fsspec knows, such "
                f"as s3://bucket/prefix, got {protocol!r}"
            )
        self._url = url
        with self._answering():
            self._fs, root = url_to_fs(url, use_listings_cache=False)
        self._root = root.rstrip("/")

    def read(self, name: str) -> bytes | None:
        """Return the content of a file, or None where there is none.

        No more than `MOST_BYTES` are fetched, as from a folder.
        """
        return dict(self.read_all([name])).get(name)

    def read_all(self, names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        """Yield names and contents of those of the files that exist, fetched several at a time."""
        paths = [self._path(name) for name in names]
        if not paths:
            return
        with self._answering():
            # a range: the store sends no more of a file, and is not asked for its size first
            answers = self._fs.cat_ranges(paths, 0, MOST_BYTES, on_error="return")
            contents = list(map(self._content, paths, answers))
        for name, content in zip(names, contents, strict=True):
            if content is not None:
                yield name, content

    def modified(self, name: str) -> float | None:
        """Return when a file was last written, in seconds since 1970; None where there is none."""
        with self._answering():
            try:
                return _modified(self._fs.info(self._path(name)))
            except FileNotFoundError:
                return None

    def write(self, name: str, data: bytes) -> None:
        """Make or replace a file; a reader never sees a part of it."""
        with self._answering():
            self._fs.pipe_file(self._path(name), data)

    def create(self, name: str, data: bytes) -> bool:
        """Make a file unless it exists; of all that try at once, one succeeds.

        Several may succeed where the object store has no conditional writes, as S3 has.
        """
        with self._answering():
            try:
                self._fs.pipe_file(self._path(name), data, mode="create")
            except FileExistsError:
                return False
        return True

    def children(self, name: str = "") -> list[str]:
        """Return the names directly below a folder, by default the root, without hidden ones."""
        folder = self._path(name)
        with self._answering():
            try:
                paths = [path.rstrip("/") for path in self._fs.ls(folder, detail=False)]
            except FileNotFoundError:
                return []
        names = [path.rsplit("/", 1)[-1] for path in paths if path != folder]
        return [child for child in names if not child.startswith(".")]

    def find(self, name: str = "") -> Iterator[Entry]:
        """Yield all files below a folder, hidden ones too."""
        with self._answering():
            details = self._fs.find(self._path(name), detail=True)
        for path, info in details.items():
            below = path.removeprefix(f"{self._root}/")
            yield Entry(name=below, bytes=info["size"], modified=_modified(info))

    def move(self, name: str, to: str) -> None:
        """Move a folder or a file, if it exists."""
        for entry in list(self.find(name)):
            target = to + entry.name.removeprefix(name)
            with self._answering(), contextlib.suppress(FileNotFoundError):
                self._fs.mv(self._path(entry.name), self._path(target))

    def remove(self, name: str) -> None:
        """Remove a folder or a file, if it exists."""
        paths = [self._path(entry.name) for entry in self.find(name)]
        if paths:
            with self._answering(), contextlib.suppress(FileNotFoundError):
                self._fs.rm(paths)

    def download(self, paths: Mapping[str, Path]) -> None:
        """Fetch files, several at a time, each to its path.

        Raises:
            FileNotFoundError: a file does not exist.
        """
        for folder in {path.parent for path in paths.values()}:
            folder.mkdir(parents=True, exist_ok=True)
        with self._answering():
            self._fs.get(
                [self._path(name) for name in paths], [str(path) for path in paths.values()]
            )

    def upload(self, paths: Iterable[tuple[Path, str]]) -> None:
        """Put files, several at a time, each under its name."""
        pairs = [(str(path), self._path(name)) for path, name in paths]
        with self._answering():
            self._fs.put([path for path, _ in pairs], [name for _, name in pairs])

    def _content(self, path: str, answer: bytes | Exception) -> bytes | None:
        """Return what a store answered to a request for the start of a file; None for no file."""
        if isinstance(answer, bytes):
            return answer
        if isinstance(answer, FileNotFoundError):
            return None
        # S3 and its like refuse every range of an empty file, and say so.
        if "range" in str(answer).lower() and self._fs.size(path) == 0:
            return b""
        # Left out, an error would say that a finished artifact is not there.
        raise answer

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root

    @contextlib.contextmanager
    def _answering(self) -> Iterator[None]:
        """Turn every fault of the library into an OSError with the store's URL."""
        try:
            yield
        except Exception as error:
            kind = _kind_of(error)
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise kind(f"store {self._url}: {reason}") from error


class PatientFiles:
    """Files of a store whose every operation waits while the store does not answer.

    A write that is repeated may find what its first try wrote: `create` then returns False though
    the file is the caller's. Leases and manifests name their owner, so that their callers can tell.

    Args:
        files: those of the store.
    """

    def __init__(self, files: FolderFiles | ObjectFiles) -> None:
        self._files = files

    def read(self, name: str) -> bytes | None:
        """Return the content of a file, or None where there is none."""
        return patiently(partial(self._files.read, name))

    def read_all(self, names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        """Yield those of the files that are there."""
        yield from patiently(lambda: list(self._files.read_all(names)))

    def write(self, name: str, data: bytes) -> None:
        """Make or replace a file."""
        patiently(partial(self._files.write, name, data))

    def create(self, name: str, data: bytes) -> bool:
        """Make a file unless there is one."""
        return patiently(partial(self._files.create, name, data))

    def children(self, name: str = "") -> list[str]:
        """Return the names directly below."""
        return patiently(partial(self._files.children, name))

    def find(self, name: str = "") -> Iterator[Entry]:
        """Yield all files below."""
        yield from patiently(lambda: list(self._files.find(name)))

    def modified(self, name: str) -> float | None:
        """Return when a file was written, in seconds since 1970; None where there is none."""
        return patiently(partial(self._files.modified, name))

    def move(self, name: str, to: str) -> None:
        """Move a folder or a file, if it is there."""
        patiently(partial(self._files.move, name, to))

    def remove(self, name: str) -> None:
        """Remove a folder or a file, if it is there."""
        patiently(partial(self._files.remove, name))

    def download(self, paths: Mapping[str, Path]) -> None:
        """Fetch files from an object store, each to its path."""
        assert isinstance(self._files, ObjectFiles)
        patiently(partial(self._files.download, paths))

    def upload(self, paths: Iterable[tuple[Path, str]]) -> None:
        """Put files on an object store, each under its name."""
        assert isinstance(self._files, ObjectFiles)
        patiently(partial(self._files.upload, list(paths)))


def _kind_of(error: Exception) -> type[OSError]:
    """Return the class under which an error of fsspec or its libraries is raised here."""
    if isinstance(error, FileNotFoundError):
        return FileNotFoundError
    if isinstance(error, PermissionError):
        return PermissionError
    # By name, so that botocore need not be there for other object stores. Anything unknown counts
    # as an outage: waiting in vain costs an hour, giving up may cost days of a sweep.
    return OSError if type(error).__name__ in FAULTS_OF_THE_CALLER else StoreAwayError


Files = FolderFiles | ObjectFiles | PatientFiles


def _is_empty_hidden(folder: Path) -> bool:
    return folder.name.startswith(".") and not any(folder.iterdir())


def _modified(info: Mapping[str, Any]) -> float:
    """Return the time in a listing, which each kind of object store names differently."""
    for key in ("LastModified", "last_modified", "updated", "mtime", "created"):
        value = info.get(key)
        if value is not None:
            moment = datetime.fromisoformat(value) if isinstance(value, str) else value
            return moment.timestamp() if isinstance(moment, datetime) else float(moment)
    return 0.0
