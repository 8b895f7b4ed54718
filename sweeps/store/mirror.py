"""Copies on this machine of the artifacts of an object store.

On the object store an artifact is `<Class>/<fingerprint>/manifest.json` and, beside it, a folder of
its files that is named by their seal. Two attempts therefore never mix their files. The manifest is
uploaded last, so that its presence means that the artifact is complete.
"""

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
from sweeps.store.backends import ObjectFiles, PatientFiles
from sweeps.store.mirror_cache import in_use, limit, touch, trim

SCRATCH = "scratch"
# A checkpoint is uploaded this often at most: what an attempt on another machine repeats at worst.
MIRROR_S = 60.0
# Uploads of checkpoints take at most a tenth of the time of a stage.
UPLOAD_SHARE = 0.1
log = logging.getLogger(__name__)


def sealed_at(kind: str, fingerprint: str, seal: str) -> str:
    """Return the folder of an artifact's files on an object store."""
    return f"{kind}/{fingerprint}/{seal[:16]}"


class NodeCache:
    """Folder of this machine with artifacts of an object store.

    Each artifact is fetched once per machine. Those that are made here are put on the store.
    """

    def __init__(self, files: ObjectFiles | PatientFiles, root: Path) -> None:
        self._files = files
        self._root = root
        self._most = limit()

    def has(self, kind: str, fingerprint: str) -> bool:
        """Tell whether an artifact is on this machine."""
        return (artifact_at(self._root, kind, fingerprint) / MANIFEST).exists()

    def fetch(self, fingerprint: str, kinds: list[str]) -> Path | None:
        """Return the artifact's folder on this machine, undamaged.

        None where the store has no such artifact, or only a damaged one.
        """
        # without the lock, stages that start together would each download the same input
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
        """Put an artifact that was made on this machine on the store.

        Where another attempt was first, its artifact counts, and the one made here is removed.
        """
        folder = artifact_at(self._root, kind, fingerprint)
        data = (folder / MANIFEST).read_bytes()
        seal = (read_manifest(data) or {})["files"]
        names = [FILES, *(sealed_files(folder, seal) or {})]
        target = sealed_at(kind, fingerprint, seal)
        # Files first: a manifest without them would make every reader set the artifact aside.
        self._files.upload((folder / name, f"{target}/{name}") for name in names)
        # the manifest comes last and only once: all machines go on with the same artifact
        if not self._files.create(f"{kind}/{fingerprint}/{MANIFEST}", data):
            first = read_manifest(self._files.read(f"{kind}/{fingerprint}/{MANIFEST}") or b"") or {}
            if first.get("files") != seal:
                # Nothing points to these files any more. The local copy goes too: this machine must
                # go on with the artifact that all others use.
                self._files.remove(target)
                shutil.rmtree(folder)
        trim(self._root, most=self._most)

    def set_aside(self, kind: str, fingerprint: str, *, fault: str) -> None:
        """Move a damaged artifact on the store to `corrupt`."""
        target = f"{CORRUPT}/{kind}/{fingerprint}.{time.strftime('%Y%m%d-%H%M%S')}"
        self._files.move(f"{kind}/{fingerprint}", target)
        log.warning(
            "the artifact %s/%s on the store is damaged (%s): moved to %s",
            kind,
            fingerprint,
            fault,
            target,
        )

    @contextlib.contextmanager
    def scratch(self, fingerprint: str) -> Iterator[None]:
        """Go on from the checkpoint on the store, and keep it up to date there.

        The next attempt may run on another machine, which knows only what the store has.
        """
        uploaded: dict[str, float] = {}
        self._restore(fingerprint, uploaded)
        stop = threading.Event()
        thread = threading.Thread(
            target=self._save_often, args=(fingerprint, uploaded, stop), daemon=True
        )
        thread.start()
        try:
            yield
        # A failed or stopped attempt leaves its last checkpoint for the next one, which may run on
        # another machine. After success it is not needed, and the folder is removed below.
        except Exception:
            stop.set()
            thread.join()
            self._save(fingerprint, uploaded)
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
        seal = str((read_manifest(data) or {}).get("files"))
        try:
            fault = self._fill(aside, kind, fingerprint, seal=seal)
            if fault is not None:
                self.set_aside(kind, fingerprint, fault=fault)
                return False
            (aside / MANIFEST).write_bytes(data)
            # one rename: no process of this machine sees a part of the artifact
            aside.rename(final)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        return True

    def _fill(self, folder: Path, kind: str, fingerprint: str, *, seal: str) -> str | None:
        """Download an artifact's files; return what is wrong with them, or None."""
        source = sealed_at(kind, fingerprint, seal)
        try:
            self._files.download({f"{source}/{FILES}": folder / FILES})
            names = sealed_files(folder, seal)
            if names is None:
                return f"{FILES} is damaged"
            # The list comes from the store, to which others may write: `../` in it would overwrite
            # files of this user.
            outside = [name for name in names if _leaves_folder(name)]
            if outside:
                return f"{FILES} names {outside[0]}, which lies outside"
            self._files.download({f"{source}/{name}": folder / name for name in names})
        except FileNotFoundError as error:
            return f"a file is missing: {error}"
        return damage(folder, seal)

    def _restore(self, fingerprint: str, uploaded: dict[str, float]) -> None:
        """Fetch those files of a checkpoint that are newer on the store than here."""
        for entry in self._files.find(f"{SCRATCH}/{fingerprint}"):
            path = self._root / entry.name
            # This machine made the last attempt itself, and its checkpoint is ahead of the upload.
            if path.exists() and path.stat().st_mtime >= entry.modified:
                continue
            aside = path.with_name(f".{path.name}")
            # the attempt that wrote it may end and remove it at the same time
            with contextlib.suppress(FileNotFoundError):
                self._files.download({entry.name: aside})
                # A download that is cut off must not stand where the checkpoint was.
                aside.replace(path)
                uploaded[entry.name] = path.stat().st_mtime

    def _save_often(
        self, fingerprint: str, uploaded: dict[str, float], stop: threading.Event
    ) -> None:
        pause = MIRROR_S
        while not stop.wait(pause):
            start = time.monotonic()
            self._save(fingerprint, uploaded)
            pause = max(MIRROR_S, (time.monotonic() - start) / UPLOAD_SHARE)

    def _save(self, fingerprint: str, uploaded: dict[str, float]) -> None:
        """Upload the files of a checkpoint that changed.

        One that could not be uploaded costs time after the next failure, no more.
        """
        for path in (self._root / SCRATCH / fingerprint).glob("[!.]*"):
            name = path.relative_to(self._root).as_posix()
            aside = path.with_name(f".{path.name}")
            try:
                modified = path.stat().st_mtime
                if not path.is_file() or path.suffix == ".tmp" or uploaded.get(name) == modified:
                    continue
                # the stage may replace its checkpoint during the upload: this copy stays as it is
                aside.unlink(missing_ok=True)
                _copy(path, aside)
                self._files.upload([(aside, name)])
                uploaded[name] = modified
            except OSError as error:
                log.warning("%s could not be kept on the store: %s", name, error)
            finally:
                aside.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _locked(self, fingerprint: str) -> Iterator[None]:
        """Hold the lock under which a process of this machine fetches an artifact."""
        path = self._root / "locks" / fingerprint
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(path, os.O_CREAT | os.O_RDWR)
        try:
            # The kernel frees it when the process dies, so a killed stage blocks nobody.
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)


def _leaves_folder(name: str) -> bool:
    path = PurePosixPath(name)
    return path.is_absolute() or ".." in path.parts


def _copy(path: Path, aside: Path) -> None:
    """Link a file, which takes no time and no room, or copy it where links are refused."""
    try:
        aside.hardlink_to(path)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copyfile(path, aside)
