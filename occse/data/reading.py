"""Bounded reads of the files of a user's data set, with errors that name the file."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
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
        raise ValueError(f"{path} is not UTF-8 text: {error}") from None


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


def check_present(folder: Path, files: Iterable[str], *, source: object) -> None:
    """Raise ValueError if `folder` lacks any of the `files` that `source` names.

    The message has the first missing file and the number of the others. The folder is listed once,
    because asking for each of many thousand files is slow on a network drive.
    """
    present = {path.name for path in folder.iterdir()}
    missing = [file for file in files if file not in present]
    if missing:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise ValueError(
            f"{source} names {Path(missing[0]).stem}, but {folder / missing[0]} is missing{more}"
        )
