"""Manifests as if artifacts had been made, for estimates."""

from collections.abc import Mapping

from occse.artifacts.manifest import Manifest
from occse.pipeline import Node


def measured(
    node: Node,
    *,
    seconds: float,
    size: int = 1000,
    gpu: str = "",
    threads: int = 1,
    metrics: Mapping[str, float] | None = None,
) -> Manifest:
    """The manifest that a run of `node` would have left."""
    return Manifest(
        stage=node.kind,
        version=node.stage.version,
        fingerprint=node.fingerprint,
        config=node.stage.config(),
        inputs=dict(node.inputs),
        metrics=dict(metrics or {}),
        seconds=seconds,
        bytes=size,
        files="",
        created="",
        host="",
        device=gpu or "a processor",
        git={},
        packages={},
        machine={"threads": threads} | ({"gpu": gpu} if gpu else {}),
        command="",
    )
