"""The store: finished artifacts by fingerprint, on a disk that every machine of the sweep sees."""

import json
import os
import uuid
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from occse.manifest import MANIFEST, Manifest, artifact_folder, load_manifest

if TYPE_CHECKING:  # the scheduler imports this module, but not torch
    from occse.pipeline import Node

CURVES = "curves.json"
PROBE_BYTES = 1 << 20


@dataclass(frozen=True)
class Store:
    """The artifacts below `root`. Presence means completeness, so two sweeps may share one store."""

    root: Path

    def __contains__(self, node: "Node") -> bool:
        return (artifact_folder(self.root, node) / MANIFEST).exists()

    def manifest(self, node: "Node") -> Manifest | None:
        """The manifest of the artifact of `node`, or None where it is not in the store.

        Raises:
            ValueError: the manifest cannot be read, or it belongs to another configuration.
        """
        return load_manifest(self.root, node)

    def manifests(self) -> Iterator[Manifest]:
        """The manifests of all artifacts; what cannot be read is left out."""
        for path in self.root.glob(f"*/*/{MANIFEST}"):
            with suppress(OSError, ValueError):  # whoever needs that artifact gets the error
                yield Manifest.model_validate_json(path.read_bytes())

    def folder(self, node: "Node") -> Path:
        """The folder on this machine with the files of the artifact of `node`, which is in the store."""
        return artifact_folder(self.root, node)

    def path(self, node: "Node", name: str) -> Path:
        """The file `name` of the artifact of `node` on this machine."""
        return self.folder(node) / name

    def curves(self, node: "Node") -> list[dict[str, float]]:
        """What a training stage measured per step, `{"step": ..., name: value, ...}` each; empty for other stages."""
        try:
            points: list[dict[str, float]] = json.loads(self.path(node, CURVES).read_text())
        except FileNotFoundError:
            return []
        return points

    def execute(self, node: "Node", **machine: Any) -> Manifest:  # noqa: ANN401 - occse.artifact.execute types them
        """Run the stage of `node` unless its artifact is there; `machine` as for `occse.artifact.execute`."""
        from occse.artifact import execute  # imports torch, which the scheduler does without

        return execute(node, root=self.root, **machine)

    def durations(self) -> Mapping[str, float]:
        """Median seconds of the artifacts of each stage class; classes that were never run are absent."""
        seconds: dict[str, list[float]] = defaultdict(list)
        for manifest in self.manifests():
            seconds[manifest.stage].append(manifest.seconds)
        return {kind: median(values) for kind, values in seconds.items()}

    def check_writable(self) -> None:
        """Make the store's folder (and its parent) and write a megabyte into it, before anything expensive starts.

        Raises:
            OSError: the folder above does not exist, or the disk is read-only or full.
        """
        if not self.root.parent.parent.is_dir():
            raise OSError(f"store {self.root}: {self.root.parent.parent} is not a folder; make it or mount its disk")
        probe = self.root / f".probe.{uuid.uuid4().hex[:8]}"
        try:
            self.root.parent.mkdir(exist_ok=True)
            self.root.mkdir(exist_ok=True)
            with probe.open("wb") as file:
                file.write(bytes(PROBE_BYTES))
                file.flush()
                os.fsync(file.fileno())  # a full network disk may tell only now
        except OSError as error:
            raise OSError(f"store {self.root} cannot be written: {error.strerror}") from None
        finally:
            if probe.exists():
                probe.unlink()
