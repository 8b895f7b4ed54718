"""One file for the arrays of many images: a zip of `name/key.npy` members, never pickle.

Such a file may come from a shared store or a collaborator, so its headers are not trusted. Before
memory is allocated, the size in the zip directory is compared with the one in the .npy header.
"""

import contextlib
import math
import os
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import numpy as np

# The largest array of one image, decompressed. 81 float32 maps of a 1,800 x 1,800 image take 1 GB.
MAX_BYTES = 1 << 30
# numpy's letters for booleans, integers, unsigned integers, floats and text.
KINDS = "biufU"
# Scores in [0, 1] are stored in 255ths, a byte each.
SCORE_STEPS = 255


class ArrayWriter:
    """Writes the arrays of one image after another, compressed.

    The same arrays give the same bytes. The file is complete when the `with` block ends; an
    exception in the block removes it.

    Raises:
        ValueError: a name is empty or given twice, or an array cannot be stored.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._names: set[str] = set()
        # Level 1 takes about half the time of level 6. float16 CAMs are as small as with level 6,
        # 8-bit CRF scores are 15 % larger.
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
        if error is not None:
            # Closed, the file looks complete, and readers could not tell that images are missing.
            self._path.unlink(missing_ok=True)

    def write(self, name: str, /, **arrays: np.ndarray) -> None:
        """Store `arrays` (booleans, integers, floats or text) under the image `name`."""
        if not name:
            raise ValueError(f"{self._path}: the name '' is empty")
        if name in self._names:
            raise ValueError(f"{self._path}: the name {name!r} is there already")
        for key, array in arrays.items():
            if complaint := _complaint(array.dtype, array.nbytes):
                raise ValueError(f"{self._path}: {name}/{key} {complaint}")
        self._names.add(name)
        for key, array in arrays.items():
            self._write_member(f"{name}/{key}.npy", array)

    def _write_member(self, member: str, array: np.ndarray) -> None:
        # zipfile dates a member that is opened by its name to 1980, so the bytes do not depend on
        # the time of writing.
        with self._zip.open(member, "w") as file:
            # In C order whatever the memory layout is, since the header of the file names it.
            np.lib.format.write_array(file, np.asarray(array, order="C"), allow_pickle=False)


class ArrayReader:
    """Reads an archive of `ArrayWriter` in any order: `reader[name]` is a dict of arrays by key.

    A reader may be pickled, and used after a fork: every process opens the file anew at its first
    read. Two processes with one open file would move each other's position in it.

    Raises:
        ValueError: the name is not in the file, or the file is damaged; the message names the file.
        FileNotFoundError: there is no file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._opened_by = 0
        self._opening = threading.Lock()

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
        # Without the lock each thread that reads ahead would open the file and list its members,
        # and one could use the list of another's. No process here is forked while threads read.
        with self._opening:
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
            # With Python's integers the product of a forged shape cannot overflow.
            num_bytes = math.prod(shape) * dtype.itemsize
            if complaint := _complaint(dtype, num_bytes):
                raise ValueError(f"{info.filename} {complaint}")
            if min(shape, default=0) < 0 or file.tell() + num_bytes != info.file_size:
                raise ValueError(
                    f"{info.filename} holds {info.file_size} bytes, "
                    f"its header promises {shape} {dtype}"
                )
            file.seek(0)
            array: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
        return array


def _complaint(dtype: np.dtype, num_bytes: int) -> str:
    """Return the reason to refuse an array, or "" if there is none."""
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
    """Turn any error of zipfile, zlib and numpy on a damaged file into one that names the file."""
    try:
        yield
    except FileNotFoundError:
        raise
    except Exception as error:
        raise ValueError(
            f"{path} is not an archive of arrays, or it is damaged: {error}"
        ) from error
