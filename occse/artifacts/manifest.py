"""Manifest of an artifact, and its folder in a store. Reading it needs no torch."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from occse.data.reading import parse_json

if TYPE_CHECKING:
    from occse.pipeline import Node

MANIFEST = "manifest.json"
# A store's own files (manifests, curves, lists of checksums, leases) have kilobytes, at most some
# megabytes; what is larger is damaged, or was put there to fill the memory of its reader.
MOST_BYTES = 64 << 20


class Manifest(BaseModel):
    """Identity and origin of an artifact.

    The manifests of its inputs, found by fingerprint, tell the rest.

    Attributes:
        config: the active knobs, seed and digest of the data among them.
        seconds: time of the attempt that finished.
        bytes: size of all files but this one.
        files: seal of the artifact's files, see `occse.artifacts.checksums`.
        git: commit and uncommitted difference of the code.
        packages: versions of the packages that can change a number.
        machine: hardware, drivers, threads; `processes` and `accumulate` where the batches were
            shared. The result is then equal but for the order of sums, the activations that dropout
            drew and, under `accumulate`, the statistics that a trained batch norm saw.
        command: the user's command line.
        source: digests of the modules that made it, see `occse.artifacts.source`; empty where it
            was made before they were kept.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: str
    version: int
    fingerprint: str
    config: dict[str, Any]
    inputs: dict[str, str]
    metrics: dict[str, float]
    seconds: float
    bytes: int
    files: str
    created: str
    host: str
    device: str
    git: dict[str, str]
    packages: dict[str, str]
    machine: dict[str, str | int]
    command: str
    source: dict[str, str] = {}


def artifact_at(root: Path, kind: str, fingerprint: str) -> Path:
    """Return the folder of an artifact below a store's root."""
    return root / kind / fingerprint


def artifact_folder(root: Path, node: "Node") -> Path:
    """Return the folder of the artifact of `node` below a store's root."""
    return artifact_at(root, node.kind, node.fingerprint)


def read_start(path: Path) -> bytes:
    """Return the content of a file of a store, of a larger one the first `MOST_BYTES` only.

    No checksum and no parser takes such a start.
    """
    with path.open("rb") as file:
        return file.read(MOST_BYTES)


def read_manifest(data: bytes) -> dict[str, Any] | None:
    """Return a manifest as plain data; None where the file was cut off or is not a JSON object.

    Such an artifact counts as missing.
    """
    try:
        values = parse_json(data)
    except ValueError:
        return None
    return values if isinstance(values, dict) else None


def check_manifest(data: bytes, node: "Node", *, where: str) -> Manifest | None:
    """Return the manifest of the artifact of `node`; None where `read_manifest` has none.

    Raises:
        ValueError: another version of this program wrote it, or it belongs to another
            configuration.
    """
    if read_manifest(data) is None:
        return None
    try:
        manifest = Manifest.model_validate_json(data)
    except ValidationError as error:
        fault = error.errors()[0]
        key = ".".join(map(str, fault["loc"]))
        raise ValueError(
            f"{where} is not a manifest of this version ({key}: {fault['msg']}); "
            "move that folder away to compute it again"
        ) from None
    # The fingerprint is a digest of these four, so they differ only where a folder was renamed by
    # hand or where two digests collide.
    expected = {
        "stage": node.kind,
        "version": node.stage.version,
        "config": node.stage.config(),
        "inputs": node.inputs,
    }
    for key, value in expected.items():
        if getattr(manifest, key) != value:
            raise ValueError(
                f"{where} does not match: {key} is {getattr(manifest, key)!r}, "
                f"expected {value!r}; move that folder away to compute it again"
            )
    return manifest


def load_manifest(root: Path, node: "Node") -> Manifest | None:
    """Return the manifest of a finished artifact; None where there is none that is whole.

    Raises:
        ValueError: another version of this program wrote it, or it belongs to another
            configuration.
    """
    path = artifact_folder(root, node) / MANIFEST
    try:
        data = read_start(path)
    except FileNotFoundError:
        return None
    return check_manifest(data, node, where=str(path))
