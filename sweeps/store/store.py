"""Finished artifacts by fingerprint, in a folder that every machine sees or on an object store."""

import errno
import hashlib
import os
import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from occse.artifacts.checksums import CORRUPT, FILES, FILES_FORMAT, intact, set_aside
from occse.artifacts.manifest import (
    MANIFEST,
    Manifest,
    artifact_folder,
    check_manifest,
    read_manifest,
)
from occse.data.file_digests import node_cache
from occse.data.reading import parse_json
from sweeps.store.backends import SHARED_STORE, Files, FolderFiles, ObjectFiles, PatientFiles
from sweeps.store.leases import LEASES
from sweeps.store.mirror import SCRATCH, NodeCache, sealed_at

if TYPE_CHECKING:  # the scheduler imports this module, but not torch
    from occse.pipeline import Node

CURVES = "curves.json"
# More than a file system keeps in reserve: a full disk refuses it.
PROBE_BYTES = 1 << 20
# Curves of some thousand trainings, which the driver need not fetch again for each trial.
SMALL_BYTES = 32 << 20
# Manifests of some 10 kB that were checked; all trials of a sweep ask for those that they share.
MOST_MANIFESTS = 2000
STATUS = "status"  # folder of the status files of running sweeps, see sweeps.progress.status
LOGS = "logs"  # folder of what detached sweeps print, see sweeps.driver.detached
CONTROL = "control"  # folder of what people ask running sweeps for, see sweeps.progress.control
NO_KINDS = frozenset({CORRUPT, LEASES, SCRATCH, STATUS, LOGS, CONTROL})


class Store:
    """Artifacts at a location, a folder or an fsspec URL.

    An artifact that is present is complete, so several sweeps may share a store.

    Args:
        location: the folder or the URL.
        patient: whether every operation waits while the store does not answer, for what runs long.

    Attributes:
        url: the absolute folder or the URL; another process opens the same store with it.
        root: folder on this machine where stages find their inputs and leave their outputs. For a
            URL that is a cache: each artifact is fetched once per machine, and fetched again where
            it was lost.
        files: the files at `url`.
    """

    def __init__(self, location: str | Path, *, patient: bool = False) -> None:
        url = str(location).removeprefix("file://").rstrip("/") or "/"
        self.files: Files
        self._cache: NodeCache | None = None
        self._small: dict[str, bytes] = {}
        # by fingerprint: the bytes that were read last, and the manifest that they are
        self._manifests: dict[str, tuple[bytes, Manifest]] = {}
        if "://" in url:
            self.url = url
            self.root = node_cache() / "stores" / hashlib.sha256(url.encode()).hexdigest()[:16]
            objects = ObjectFiles(url)
            remote = PatientFiles(objects) if patient else objects
            self.files = remote
            self._cache = NodeCache(remote, self.root)
        else:
            self.root = Path(url)
            self.url = str(self.root.absolute())
            folder = FolderFiles(self.root)
            self.files = PatientFiles(folder) if patient else folder

    def __contains__(self, node: "Node") -> bool:
        return self.has(node.kind, node.fingerprint)

    def has(self, kind: str, fingerprint: str) -> bool:
        """Return whether an artifact is there: its manifest is, and is whole."""
        return self.peek(kind, fingerprint) is not None

    def present(self, nodes: Iterable["Node"]) -> set[str]:
        """Return the fingerprints of those of `nodes` that are in the store.

        Takes one listing per stage class.
        """
        return {
            node.fingerprint
            for node, data in self._read_all(nodes)
            if read_manifest(data) is not None
        }

    def faults(self, nodes: Iterable["Node"]) -> dict[str, str]:
        """Return by fingerprint the errors that `manifest` raises for those of `nodes`."""
        errors: dict[str, str] = {}
        for node, data in self._read_all(nodes):
            location = f"{self.url}/{node.kind}/{node.fingerprint}/{MANIFEST}"
            try:
                check_manifest(data, node, where=location)
            except ValueError as error:
                errors[node.fingerprint] = str(error)
        return errors

    def peek(self, kind: str, fingerprint: str) -> dict[str, Any] | None:
        """Return the manifest of an artifact unchecked, or None where there is no complete one."""
        data = self.files.read(f"{kind}/{fingerprint}/{MANIFEST}")
        return None if data is None else read_manifest(data)

    def manifest(self, node: "Node") -> Manifest | None:
        """Return the manifest of the artifact of `node`, or None where there is no complete one.

        Raises:
            ValueError: another version of this program wrote it, or it belongs to another
                configuration.
        """
        name = f"{node.kind}/{node.fingerprint}/{MANIFEST}"
        data = self.files.read(name)
        if data is None:
            return None
        known = self._manifests.get(node.fingerprint)
        if known is not None and known[0] == data:
            return known[1]
        manifest = check_manifest(data, node, where=f"{self.url}/{name}")
        if manifest is not None:
            self._manifests[node.fingerprint] = (data, manifest)
            # Two threads may be here; of two that drop the same one, the second finds none.
            while len(self._manifests) > MOST_MANIFESTS:
                self._manifests.pop(next(iter(self._manifests), ""), None)
        return manifest

    def manifests_of(self, nodes: Iterable["Node"]) -> dict[str, Manifest]:
        """Return the manifests of those of `nodes` that are in the store, by fingerprint.

        Those that cannot be read are left out: a stage that needs that artifact gets the error.
        """
        found: dict[str, Manifest] = {}
        for node, data in self._read_all(nodes):
            with suppress(ValueError):
                found[node.fingerprint] = Manifest.model_validate_json(data)
        return found

    def kinds(self) -> list[str]:
        """Return the stage classes that have artifacts here."""
        return [kind for kind in self.files.children() if kind not in NO_KINDS]

    def manifests(self) -> Iterator[Manifest]:
        """Yield the manifests of all artifacts; those that cannot be read are left out."""
        for kind in self.kinds():
            names = [
                f"{kind}/{fingerprint}/{MANIFEST}" for fingerprint in self.files.children(kind)
            ]
            for _, data in self.files.read_all(names):
                with suppress(ValueError):  # a stage that needs that artifact gets the error
                    yield Manifest.model_validate_json(data)

    def folder(self, node: "Node") -> Path:
        """Return the folder on this machine with the files of an artifact, fetched and verified.

        Raises:
            ValueError: the artifact is not in the store, or damaged and set aside.
        """
        if self._cache is not None:
            folder = self._cache.fetch(node.fingerprint, [node.kind])
        else:
            undamaged = intact(self.root, node.kind, node.fingerprint)
            folder = artifact_folder(self.root, node) if undamaged else None
        if folder is None:
            raise ValueError(
                f"{node.kind}/{node.fingerprint} of {node.field!r} is not in the store {self.url}"
            )
        return folder

    def path(self, node: "Node", name: str) -> Path:
        """Return the file `name` of the artifact of `node` on this machine; raises as `folder`."""
        return self.folder(node) / name

    def parts(self, node: "Node", names: Iterable[str], aside: Path) -> Path:
        """Return a folder with those of the files `names` that an artifact has, verified.

        Where only an object store has them, they are fetched into `aside`, without the others.

        Raises:
            ValueError: as `folder`.
        """
        if self._cache is None or self._cache.has(node.kind, node.fingerprint):
            return self.folder(node)
        for name, data in self._read(node, names).items():
            path = aside / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return aside

    def curves(self, node: "Node") -> list[dict[str, float]]:
        """Return the measurements of a training stage, `{"step": ..., name: value, ...}` per step.

        Empty for other stages.

        Raises:
            ValueError: the file was damaged; the artifact is set aside.
        """
        data = self._read(node, [CURVES]).get(CURVES)
        points: list[dict[str, float]] = [] if data is None else parse_json(data)
        return points

    def execute(
        self,
        node: "Node",
        **options: Any,  # noqa: ANN401 - `occse.artifacts.execute.execute` types them
    ) -> Manifest:
        """Run the stage of `node` unless its artifact is there.

        Arguments and errors are those of `occse.artifacts.execute.execute`.
        """
        # imports torch, which the scheduler does without
        from occse.artifacts.execute import MissingInput, execute

        if self._cache is None:
            return execute(node, root=self.root, **options)
        manifest = self.manifest(node)
        if manifest is not None:
            return manifest
        # Before the fetch: another process that trims the cache could remove an input between its
        # arrival and its use.
        with self._cache.in_use([*node.inputs.values(), node.fingerprint]):
            kinds = self.kinds() if node.inputs else []
            for field, fingerprint in node.inputs.items():
                if self._cache.fetch(fingerprint, kinds) is None:
                    raise MissingInput(
                        field,
                        f"the artifact {fingerprint} of {field!r} is not in the store {self.url}",
                    )
            with self._cache.scratch(node.fingerprint):
                made = execute(node, root=self.root, **options)
            # a manifest that cannot be read would keep every new artifact from being published
            data = self.files.read(f"{node.kind}/{node.fingerprint}/{MANIFEST}")
            if data is not None and node not in self:
                fault = f"{MANIFEST} is cut off or not JSON"
                self._cache.set_aside(node.kind, node.fingerprint, fault=fault)
            self._cache.publish(node.kind, node.fingerprint)
        # The store's, which may be that of another attempt that was first.
        return self.manifest(node) or made

    def check_writable(self) -> None:
        """Make the store's folder (and its parent), and write a megabyte into it.

        Raises:
            OSError: the folder above does not exist, the disk is read-only or full, or the object
                store refuses.
        """
        if self._cache is None:
            _check_folder(self.root)
        else:
            probe = f".probe.{uuid.uuid4().hex[:8]}"
            self.files.write(probe, bytes(PROBE_BYTES))
            self.files.remove(probe)
            self.root.mkdir(parents=True, exist_ok=True)

    def _read_all(self, nodes: Iterable["Node"]) -> Iterator[tuple["Node", bytes]]:
        """Yield those of `nodes` that have a manifest, with it; several are read at a time."""
        wanted: dict[str, dict[str, Node]] = defaultdict(dict)
        for node in nodes:
            wanted[node.kind][node.fingerprint] = node
        for kind, known in wanted.items():
            here = known.keys() & set(self.files.children(kind))
            names = {f"{kind}/{fingerprint}/{MANIFEST}": known[fingerprint] for fingerprint in here}
            for name, data in self.files.read_all([*names]):
                yield names[name], data

    def _read(self, node: "Node", names: Iterable[str]) -> dict[str, bytes]:
        """Read those of the files that an artifact has, verified, without fetching the others."""
        manifest = self.manifest(node)
        if manifest is None:
            return {}
        folder = f"{node.kind}/{node.fingerprint}"
        if self._cache is not None:
            folder = sealed_at(node.kind, node.fingerprint, manifest.files)
        listing = self._read_sealed(node, f"{folder}/{FILES}", manifest.files)
        sizes_and_digests = FILES_FORMAT.validate_json(listing)
        contents = {}
        for name in names:
            if name in sizes_and_digests:
                _, digest = sizes_and_digests[name]
                contents[name] = self._read_sealed(node, f"{folder}/{name}", digest)
        return contents

    def _read_sealed(self, node: "Node", name: str, sha256: str) -> bytes:
        known = self._small.get(sha256)
        if known is not None:
            return known
        data = self.files.read(name)
        # Checked on every read, for these bytes go into the record, and no later check would see
        # them.
        if data is None or hashlib.sha256(data).hexdigest() != sha256:
            self._set_aside(node.kind, node.fingerprint, fault=f"{name} is missing or damaged")
            raise ValueError(
                f"{self.url}/{name} was damaged and is set aside; the same command makes it again"
            )
        # each trial of a sweep asks for the curves of the stages that it shares
        if self._cache is not None:
            self._small[sha256] = data
            while sum(map(len, self._small.values())) > SMALL_BYTES:
                del self._small[next(iter(self._small))]
        return data

    def _set_aside(self, kind: str, fingerprint: str, *, fault: str) -> None:
        if self._cache is None:
            set_aside(self.root, kind, fingerprint, fault=fault)
        else:
            self._cache.set_aside(kind, fingerprint, fault=fault)


def _check_folder(root: Path) -> None:
    if not root.parent.parent.is_dir():
        raise OSError(
            f"store {root}: {root.parent.parent} is not a folder; make it or mount its disk"
        )
    probe = root / f".probe.{uuid.uuid4().hex[:8]}"
    try:
        root.parent.mkdir(exist_ok=True)
        root.mkdir(exist_ok=True)
        _check_folders_within(root)
        with probe.open("wb") as file:
            file.write(bytes(PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())  # a full network disk may tell only now
    except PermissionError as error:
        raise PermissionError(
            f"store {root} cannot be written: no permission for {error.filename or root}; "
            f"{SHARED_STORE}"
        ) from None
    except OSError as error:
        raise OSError(f"store {root} cannot be written: {error.strerror}") from None
    finally:
        if probe.exists():
            probe.unlink()


def _check_folders_within(root: Path) -> None:
    """Refuse a store in which another user made folders that this one may not write to.

    Without this a sweep would fail when its first stage of that class publishes its artifact.
    """
    for folder in root.iterdir():
        if folder.is_dir() and not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
