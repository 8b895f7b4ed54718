"""The store: finished artifacts by fingerprint, on a disk that every machine of the sweep sees."""

import json
import os
import uuid
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from occse.artifact import MANIFEST, Manifest, artifact_folder, execute, load_manifest
from occse.pipeline import Node

CURVES = "curves.json"
PROBE_BYTES = 1 << 20


@dataclass(frozen=True)
class Store:
    """The artifacts below `root`. Presence means completeness, so two sweeps may share one store."""

    root: Path

    def __contains__(self, node: Node) -> bool:
        return (artifact_folder(self.root, node) / MANIFEST).exists()

    def manifest(self, node: Node) -> Manifest | None:
        """The manifest of the artifact of `node`, or None where it is not in the store.

        Raises:
            ValueError: the manifest cannot be read, or it belongs to another configuration.
        """
        return load_manifest(self.root, node)

    def curves(self, node: Node) -> list[dict[str, float]]:
        """What a training stage measured per step, `{"step": ..., name: value, ...}` each; empty for other stages."""
        try:
            points: list[dict[str, float]] = json.loads((artifact_folder(self.root, node) / CURVES).read_text())
        except FileNotFoundError:
            return []
        return points

    def execute(self, node: Node, **machine: Any) -> Manifest:  # noqa: ANN401 - occse.artifact.execute types them
        """Run the stage of `node` unless its artifact is there; `machine` as for `occse.artifact.execute`."""
        return execute(node, root=self.root, **machine)

    def durations(self) -> Mapping[str, float]:
        """Median seconds of the artifacts of each stage class; classes that were never run are absent."""
        seconds: dict[str, list[float]] = defaultdict(list)
        for path in self.root.glob(f"*/*/{MANIFEST}"):
            try:
                manifest = json.loads(path.read_bytes())
                seconds[manifest["stage"]].append(float(manifest["seconds"]))
            except (OSError, ValueError, KeyError, TypeError):
                continue  # only an estimate hangs on it; whoever needs the artifact gets the error
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
