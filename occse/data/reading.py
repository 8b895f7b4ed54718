"""Bounded reads of the files of a user's data set, with errors that name the file."""

import json
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePath
from typing import Any

# Lists and tables of a million images take less.
MAX_TEXT_BYTES = 100_000_000


def read_bytes(path: Path, *, limit: int, expected: str) -> bytes:
    """Return the content of a file of at most `limit` bytes.

    Args:
        path: of the file.
        limit: in bytes.
        expected: the content that should be there, for the error.

    Raises:
        ValueError: the file cannot be read, or is larger.
    """
    try:
        size = path.stat().st_size
        if size > limit:
            raise ValueError(f"{path} has {size} bytes; expected {expected} of at most {limit}")
        with path.open("rb") as file:
            return file.read(limit)
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}); expected {expected}") from None


def read_text(path: Path, *, expected: str, limit: int = MAX_TEXT_BYTES) -> str:
    """Return the content of a UTF-8 text file, with or without a byte order mark.

    Raises:
        ValueError: the file cannot be read, is larger than `limit` bytes, or is not UTF-8.
    """
    try:
        return read_bytes(path, limit=limit, expected=expected).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text: {error}; save it as UTF-8") from None


def numbered_lines(path: Path, *, expected: str) -> Iterator[tuple[int, str]]:
    """Yield the lines of a text file that are not blank, stripped, with their numbers from 1 on."""
    for number, line in enumerate(read_text(path, expected=expected).splitlines(), start=1):
        if line.strip():
            yield number, line.strip()


def num_bytes(path: Path) -> int:
    """Return the size of a file.

    Raises:
        ValueError: there is no such file.
    """
    try:
        return path.stat().st_size
    except OSError as error:
        raise ValueError(
            f"{path} cannot be read ({error.strerror}); expected a file of the data set"
        ) from None


def parse_json(text: str | bytes) -> Any:  # noqa: ANN401 - JSON has every kind of value
    """Return the value that a JSON text holds.

    Raises:
        ValueError: it is not JSON, or nested deeper than Python's parser can follow.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply; expected a few levels") from None


def check_root(root: Path) -> None:
    """Raise ValueError unless the root of a data set is a folder."""
    if not root.is_dir():
        problem = "is no folder" if root.exists() else "is missing"
        raise ValueError(f"{root} {problem}; expected the folder of a data set")


def composed(text: str) -> str:
    """Return a name in Unicode's composed form: some systems store "ü" as two characters."""
    return unicodedata.normalize("NFC", text)


def as_stored(path: Path) -> Path:
    """Return `path`, or the path of a file whose name is the same in its decomposed form."""
    decomposed = path.with_name(unicodedata.normalize("NFD", path.name))
    return path if path.exists() or not decomposed.exists() else decomposed


def find_files(
    folder: Path, files: Iterable[str], *, source: object, suffixes: Sequence[str] = ()
) -> dict[str, str]:
    """Return the names that `files`, which `source` names, have in `folder`.

    Unicode's composed and decomposed form are one name, and so are `.jpg` and `.JPG`. The folder is
    listed once, because asking for each of many thousand files is slow on a network drive.

    Args:
        folder: to look into.
        files: names of files.
        source: the file that names them, for the message.
        suffixes: suffixes that a file may have instead of its own.

    Raises:
        ValueError: files are missing; the message has the first one and the number of the others.
    """
    present = {path.name for path in folder.iterdir()}
    found = {file: file for file in files}
    others = [file for file in found if file not in present]
    # Keys of a hundred thousand files take a second, and most data sets need none.
    by_key = {_key(name): name for name in sorted(present)} if others else {}
    missing: list[str] = []
    for file in others:
        names = [file, *(str(PurePath(file).with_suffix(suffix)) for suffix in suffixes)]
        there = [by_key[_key(name)] for name in names if _key(name) in by_key]
        if there:
            found[file] = there[0]
        else:
            missing.append(file)
    if missing:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise ValueError(
            f"{source} names {Path(missing[0]).stem}, but {folder / missing[0]} is missing{more}"
        )
    return found


def _key(name: str) -> str:
    path = PurePath(composed(name))
    return f"{path.stem}{path.suffix.lower()}"
