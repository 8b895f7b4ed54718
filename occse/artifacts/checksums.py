"""Damage of an artifact's files, found before they are read.

Sizes are compared each time, SHA-256 once per machine. The seal of an artifact is the SHA-256 of
`files.json`, which has the size and the SHA-256 of each of its files.
"""

import hashlib
import json
import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from pydantic import TypeAdapter

from occse.artifacts.manifest import MANIFEST, artifact_at, read_manifest, read_start
from occse.data.file_digests import node_cache

FILES = "files.json"
CORRUPT = "corrupt"
# Half a million files; a longer list is damaged.
SEAL_BYTES = 64 << 20
FILES_FORMAT = TypeAdapter(dict[str, tuple[int, str]])
log = logging.getLogger(__name__)


def seal(folder: Path) -> str:
    """Write `files.json` for the files that lie in `folder`, and return the seal."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    files = {
        path.relative_to(folder).as_posix(): [path.stat().st_size, _sha256(path)] for path in paths
    }
    text = json.dumps(files, indent=0)
    (folder / FILES).write_text(text)
    return hashlib.sha256(text.encode()).hexdigest()


def damage(folder: Path, sealed: str) -> str | None:
    """Return the first fault of the files in `folder`, or None.

    Files whose names, sizes and times are as they were when this machine hashed them last are not
    hashed again.
    """
    listed = sealed_files(folder, sealed)
    if listed is None:
        return f"{FILES} is missing or damaged"
    # The mark's name holds seal, names and times: any change of them makes another name, so a mark
    # never has to be removed.
    stamp = hashlib.sha256(sealed.encode())
    for name, (size, _) in listed.items():
        try:
            found = (folder / name).stat()
        except OSError as error:
            return f"{name}: {error.strerror}"
        if found.st_size != size:
            return f"{name} has {found.st_size} bytes, expected {size}"
        stamp.update(f"\0{name}\0{found.st_mtime_ns}".encode())
    mark = node_cache() / "intact" / stamp.hexdigest()
    if mark.exists():
        return None
    for name, (_, expected) in listed.items():
        if _sha256(folder / name) != expected:
            return f"{name} has another SHA-256 than when it was written"
    # Without the mark the files are only hashed again, so a full disk is no error here.
    with suppress(OSError):
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
    return None


def sealed_files(folder: Path, sealed: str) -> Mapping[str, tuple[int, str]] | None:
    """Return size and SHA-256 of the files in `folder` by name.

    None where the list is missing or is not the one that `sealed` is the seal of.
    """
    try:
        with (folder / FILES).open("rb") as file:
            data = file.read(SEAL_BYTES)
    except OSError:
        return None
    if hashlib.sha256(data).hexdigest() != sealed:
        return None
    return FILES_FORMAT.validate_json(data)


def intact(root: Path, kind: str, fingerprint: str) -> bool:
    """Tell if the artifact is there and undamaged.

    A damaged one is set aside, as if it had never been made.
    """
    folder = artifact_at(root, kind, fingerprint)
    try:
        manifest = read_manifest(read_start(folder / MANIFEST))
    except FileNotFoundError:
        return False
    if manifest is None:
        fault: str | None = f"{MANIFEST} is cut off or not JSON"
    else:
        fault = damage(folder, str(manifest.get("files")))
    if fault is not None:
        set_aside(root, kind, fingerprint, fault=fault)
    return fault is None


def set_aside(root: Path, kind: str, fingerprint: str, *, fault: str) -> None:
    """Move a damaged artifact to the store's folder `corrupt`, for a person to look at."""
    # Another process may have found the damage first and moved the artifact.
    with suppress(FileNotFoundError):
        aside = move_aside(root, kind, fingerprint)
        log.warning(
            "the artifact %s/%s is damaged (%s): moved to %s", kind, fingerprint, fault, aside
        )


def move_aside(root: Path, kind: str, fingerprint: str) -> Path:
    """Move an artifact to the store's folder `corrupt`, and return its new folder.

    Raises:
        FileNotFoundError: there is no such artifact.
    """
    aside = root / CORRUPT / kind / f"{fingerprint}.{time.strftime('%Y%m%d-%H%M%S')}"
    aside.parent.mkdir(parents=True, exist_ok=True)
    artifact_at(root, kind, fingerprint).rename(aside)
    return aside


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
