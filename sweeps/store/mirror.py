"""The part of an object store that this machine has fetched or made, in a folder of its own.

On the object store an artifact is `<Class>/<fingerprint>/manifest.json` and, beside it, a folder of
its files that is named by their seal: two attempts never mix their files, and the manifest comes
last, so that its presence means completeness."""

import contextlib
import fcntl
import logging
import os
import shutil
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from occse.artifacts.checksums import CORRUPT, FILES, damage, intact, sealed_files
from occse.artifacts.manifest import MANIFEST, artifact_at, read_manifest
from sweeps.store.backends import ObjectFiles
from sweeps.store.mirror_cache import in_use, limit, touch, trim

SCRATCH = "scratch"
MIRROR_S = 60.0
log = logging.getLogger(__name__)


def sealed_at(kind: str, fingerprint: str, seal: str) -> str:
    """The folder of an artifact's files on an object store."""
    return f"{kind}/{fingerprint}/{seal[:16]}"


class NodeCache:
    """Fetches artifacts into the folder `root`, once per machine, and puts those that were made
    there on the store.
    """

    def __init__(self, files: ObjectFiles, root: Path) -> None:
        self._files = files
        self._root = root
        self._most = limit()

    def has(self, kind: str, fingerprint: str) -> bool:
        """Whether an artifact is on this machine."""
        return (artifact_at(self._root, kind, fingerprint) / MANIFEST).exists()

    def fetch(self, fingerprint: str, kinds: list[str]) -> Path | None:
        """The artifact's folder on this machine, undamaged; None where the store has none, or only
        a damaged one.
        """
        with self._locked(fingerprint):
            here = next((kind for kind in kinds if intact(self._root, kind, fingerprint)), None)
            kind = here or next((kind for kind in kinds if self._download(kind, fingerprint)), None)
            if kind is None:
                return None
            folder = artifact_at(self._root, kind, fingerprint)
            touch(folder)
        if here is None:
            trim(self._root, most=self._most)
        return folder

    def in_use(self, fingerprints: Iterable[str]) -> contextlib.AbstractContextManager[None]:
        """Keep these artifacts on this machine, however full it gets."""
        return in_use(self._root, fingerprints)

    def publish(self, kind: str, fingerprint: str) -> None:
        """Put an artifact that was made on this machine on the store, unless another attempt was
        first.
        """
        folder = artifact_at(self._root, kind, fingerprint)
        data = (folder / MANIFEST).read_bytes()
        seal = (read_manifest(data) or {})["files"]
        names = [FILES, *(sealed_files(folder, seal) or {})]
        target = sealed_at(kind, fingerprint, seal)
        self._files.upload((folder / name, f"{target}/{name}") for name in names)
        if not self._files.create(f"{kind}/{fingerprint}/{MANIFEST}", data):
            first = read_manifest(self._files.read(f"{kind}/{fingerprint}/{MANIFEST}") or b"") or {}
            if first.get("files") != seal:  # what this machine goes on with is what all others have
                self._files.remove(target)
                shutil.rmtree(folder)
        trim(self._root, most=self._most)

    def set_aside(self, kind: str, fingerprint: str, *, fault: str) -> None:
        """Move a damaged artifact on the store to `corrupt`."""
        place = f"{CORRUPT}/{kind}/{fingerprint}.{time.strftime('%Y%m%d-%H%M%S')}"
        self._files.move(f"{kind}/{fingerprint}", place)
        log.warning(
            "the artifact %s/%s on the store is damaged (%s): moved to %s",
            kind,
            fingerprint,
            fault,
            place,
        )

    @contextlib.contextmanager
    def scratch(self, fingerprint: str) -> Iterator[None]:
        """Go on from the checkpoint on the store, and keep it up to date there: the next attempt
        may run elsewhere.
        """
        known: dict[str, float] = {}
        self._restore(fingerprint, known)
        stop = threading.Event()
        thread = threading.Thread(
            target=self._save_often, args=(fingerprint, known, stop), daemon=True
        )
        thread.start()
        try:
            yield
        except Exception:
            stop.set()
            thread.join()
            self._save(fingerprint, known)
            raise
        finally:
            stop.set()
            thread.join()
        self._files.remove(f"{SCRATCH}/{fingerprint}")

    def _download(self, kind: str, fingerprint: str) -> bool:
        data = self._files.read(f"{kind}/{fingerprint}/{MANIFEST}")
        if data is None:
            return False
        final = artifact_at(self._root, kind, fingerprint)
        aside = final.with_name(f".{fingerprint}.{uuid.uuid4().hex[:8]}")
        try:
            fault = self._fill(
                aside, kind, fingerprint, seal=str((read_manifest(data) or {}).get("files"))
            )
            if fault is None:
                (aside / MANIFEST).write_bytes(data)
                aside.rename(final)
            else:
                self.set_aside(kind, fingerprint, fault=fault)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        return fault is None

    def _fill(self, folder: Path, kind: str, fingerprint: str, *, seal: str) -> str | None:
        """Download an artifact's files; what is wrong with them, if anything is."""
        source = sealed_at(kind, fingerprint, seal)
        try:
            self._files.download({f"{source}/{FILES}": folder / FILES})
            names = sealed_files(folder, seal)
            if names is None:
                return f"{FILES} is damaged"
            if bad := [
                name
                for name in names
                if ".." in (path := PurePosixPath(name)).parts or path.is_absolute()
            ]:
                return f"{FILES} names {bad[0]}, which lies outside"
            self._files.download({f"{source}/{name}": folder / name for name in names})
        except FileNotFoundError as error:
            return f"a file is missing: {error}"
        return damage(folder, seal)

    def _restore(self, fingerprint: str, known: dict[str, float]) -> None:
        for entry in self._files.find(f"{SCRATCH}/{fingerprint}"):
            path = self._root / entry.name
            if not path.exists() or path.stat().st_mtime < entry.modified:
                aside = path.with_name(f".{path.name}")
                with contextlib.suppress(FileNotFoundError):
                    self._files.download({entry.name: aside})
                    aside.replace(path)
                    known[entry.name] = path.stat().st_mtime

    def _save_often(self, fingerprint: str, known: dict[str, float], stop: threading.Event) -> None:
        pause = MIRROR_S
        while not stop.wait(pause):
            start = time.monotonic()
            self._save(fingerprint, known)
            pause = max(MIRROR_S, 10 * (time.monotonic() - start))

    def _save(self, fingerprint: str, known: dict[str, float]) -> None:
        """Upload what changed. A checkpoint that could not be uploaded costs time after the next
        failure, no more.
        """
        for path in (self._root / SCRATCH / fingerprint).glob("[!.]*"):
            name, aside = path.relative_to(self._root).as_posix(), path.with_name(f".{path.name}")
            try:
                modified = path.stat().st_mtime
                if path.is_file() and path.suffix != ".tmp" and known.get(name) != modified:
                    aside.unlink(missing_ok=True)
                    # it stays as it is when the stage replaces its checkpoint
                    aside.hardlink_to(path)
                    self._files.upload([(aside, name)])
                    known[name] = modified
            except OSError as error:
                log.warning("%s could not be kept on the store: %s", name, error)
            finally:
                aside.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _locked(self, fingerprint: str) -> Iterator[None]:
        """Stages that run on this machine at once fetch an artifact once."""
        path = self._root / "locks" / fingerprint
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(path, os.O_CREAT | os.O_RDWR)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)
