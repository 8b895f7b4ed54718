"""What an artifact says of itself, and where it lies. Reading it needs no torch."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from occse.pipeline import Node

MANIFEST = "manifest.json"


class Manifest(BaseModel):
    """What an artifact is and where it came from. `seconds` is the time of the attempt that finished.

    `machine` holds `processes` and `accumulate` where the batches were shared: an equal result, but for the order of
    sums, the activations that dropout drew and, under `accumulate`, the statistics that a trained batch norm saw.
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
    created: str
    host: str
    device: str
    machine: dict[str, int] = {}
    git: dict[str, str]
    packages: dict[str, str]


def artifact_folder(root: Path, node: "Node") -> Path:
    """Where the artifact of `node` lies below a store's root."""
    return root / node.kind / node.fingerprint


def load_manifest(root: Path, node: "Node") -> Manifest | None:
    """The manifest of a finished artifact, or None where there is none.

    Raises:
        ValueError: the manifest cannot be read, or it belongs to another configuration.
    """
    path = artifact_folder(root, node) / MANIFEST
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(f"{path} is no manifest ({error}); move that folder away to compute it again") from None
    expected = {"stage": node.kind, "version": node.stage.version, "config": node.stage.config(), "inputs": node.inputs}
    for key, value in expected.items():
        if getattr(manifest, key) != value:
            raise ValueError(
                f"{path} does not match: {key} is {getattr(manifest, key)!r}, expected {value!r}; "
                "move that folder away to compute it again"
            )
    return manifest
