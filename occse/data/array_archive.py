"""One file for the arrays of many images: a zip of `name/key.npy` members, never pickle.

Such a file may come from anywhere (a shared store, a collaborator), so its headers are not trusted:
the size is checked in the zip directory and against the .npy header before memory is allocated."""

import contextlib
import math
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import numpy as np

MAX_BYTES = 1 << 30
KINDS = "biufU"


class ArrayWriter:
    """Writes the arrays of one image after another, compressed; the same arrays give the same
    bytes.

    The file counts only when the `with` block ends; an exception in it removes the file.

    Raises:
        ValueError: a name twice, a name without text, or an array that cannot be stored.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._names: set[str] = set()
        # Level 1: float16 CAMs as small as with level 6, 8-bit CRF scores 15 % larger, in about
        # half the time.
        self._zip = zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1)

    def __enter__(self) -> "ArrayWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._zip.close()
        if error is not None:  # the closed file looks complete and is not
            self._path.unlink(missing_ok=True)

    def write(self, name: str, /, **arrays: np.ndarray) -> None:
        """Store `arrays` under the image `name`: booleans, integers, floats or text."""
        if not name or name in self._names:
            raise ValueError(
                f"{self._path}: the name {name!r} is {'there already' if name else 'empty'}"
            )
        for key, array in arrays.items():
            if complaint := _complaint(array.dtype, array.nbytes):
                raise ValueError(f"{self._path}: {name}/{key} {complaint}")
        self._names.add(name)
        for key, array in arrays.items():
            self._write_member(f"{name}/{key}.npy", array)

    def _write_member(self, member: str, array: np.ndarray) -> None:
        # A member opened by its name is dated 1980, so no time of writing gets into the bytes.
        with self._zip.open(member, "w") as file:
            np.lib.format.write_array(file, np.asarray(array, order="C"), allow_pickle=False)


class ArrayReader:
    """Reads what `ArrayWriter` wrote, in any order: `reader[name]` is a dict of arrays by key.

    It opens the file when first used and once more in every process that uses it, so it may be
    pickled and carried over a fork: two processes that share one open file would move each other's
    position.

    Raises:
        ValueError: the name is not in the file, or the file is broken; the message names the file.
        FileNotFoundError: there is no file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._opened_by = 0

    def __reduce__(self) -> tuple[type["ArrayReader"], tuple[Path]]:
        return type(self), (self._path,)

    @property
    def names(self) -> tuple[str, ...]:
        """The images in the file, in the order in which they were written."""
        self._open()
        return tuple(self._members)

    def __getitem__(self, name: str) -> dict[str, np.ndarray]:
        self._open()
        if name not in self._members:
            raise ValueError(
                f"{self._path} has no arrays of {name!r}; it holds {len(self._members)} other names"
            )
        return {key: self._read(info) for key, info in self._members[name].items()}

    def _open(self) -> None:
        if self._opened_by == os.getpid():
            return
        with _naming(self._path):
            self._zip = zipfile.ZipFile(self._path)
            self._members = _index(self._zip)
        self._opened_by = os.getpid()

    def _read(self, info: zipfile.ZipInfo) -> np.ndarray:
        with _naming(self._path), self._zip.open(info) as file:
            if (version := np.lib.format.read_magic(file)) != (1, 0):
                raise ValueError(f"{info.filename} is .npy of version {version}; expected (1, 0)")
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
            # Python's integers: no product of a lying shape can wrap around.
            num_bytes = math.prod(shape) * dtype.itemsize
            if complaint := _complaint(dtype, num_bytes):
                raise ValueError(f"{info.filename} {complaint}")
            if min(shape, default=0) < 0 or file.tell() + num_bytes != info.file_size:
                raise ValueError(
                    f"{info.filename} holds {info.file_size} bytes, its header promises {shape} {dtype}"
                )
            file.seek(0)
            array: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
        return array


def _complaint(dtype: np.dtype, num_bytes: int) -> str:
    """Why such an array is neither written nor read, or nothing."""
    if dtype.kind not in KINDS or dtype.itemsize == 0:
        return f"has the type {dtype}; allowed are booleans, integers, floats and text"
    if num_bytes > MAX_BYTES:
        return f"takes {num_bytes} bytes; at most {MAX_BYTES} are allowed"
    return ""


def _index(archive: zipfile.ZipFile) -> dict[str, dict[str, zipfile.ZipInfo]]:
    members: dict[str, dict[str, zipfile.ZipInfo]] = {}
    for info in archive.infolist():
        name, _, key = info.filename.removesuffix(".npy").rpartition("/")
        if not name or not key.isidentifier() or key in members.setdefault(name, {}):
            raise ValueError(
                f"the member {info.filename!r} is unexpected; expected each name/key.npy once"
            )
        members[name][key] = info
    return members


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turn whatever a broken file makes zipfile, zlib and numpy raise into one error that names it."""
    try:
        yield
    except FileNotFoundError:
        raise
    except Exception as error:
        raise ValueError(f"{path} is no archive of arrays, or it is damaged: {error}") from error
