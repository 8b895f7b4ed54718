"""Stages that are made again on purpose, and how what comes out compares with what was there.

The old artifact is set aside, not removed, below `corrupt` in the store, until `sweeps store gc`
clears it away. What was made from it stays valid: an artifact's identity is its configuration and
that of its inputs, not their bytes."""

import time
from collections.abc import Collection, Iterator, Sequence

from occse.artifacts.checksums import CORRUPT
from occse.artifacts.manifest import Manifest
from occse.pipeline import Node
from sweeps.spec.trials import Trial
from sweeps.store.store import Store

Forced = list[tuple[Node, Manifest]]


def set_aside(store: Store, trials: Sequence[Trial], fields: Collection[str]) -> Forced:
    """Set the artifacts of the stages in `fields` aside, and return them with their manifests.

    Raises:
        ValueError: no trial has such a stage; or the store is no folder, and other machines may
        have copies.
    """
    if "://" in store.url:
        raise ValueError(
            f"--force: {store.url} is no folder; remove the artifact there, and from each machine's cache"
        )
    known = dict.fromkeys(field for trial in trials for field in trial.nodes)
    if unknown := sorted(set(fields) - known.keys()):
        raise ValueError(
            f"--force: no trial has a stage {', '.join(unknown)}; they have {', '.join(known)}"
        )
    wanted = [trial.nodes[field] for trial in trials for field in fields if field in trial.nodes]
    nodes = {node.fingerprint: node for node in wanted}
    found = [(node, made) for node in nodes.values() if (made := store.manifest(node)) is not None]
    for node, _ in found:
        name = f"{node.kind}/{node.fingerprint}"
        store.files.move(name, f"{CORRUPT}/{name}.{time.strftime('%Y%m%d-%H%M%S')}")
    return found


def compare(store: Store, forced: Forced) -> Iterator[str]:
    """One line per artifact that was made again: whether it came out the same."""
    for node, before in forced:
        what = f"forced {node.field} {node.fingerprint[:8]}"
        if (now := store.manifest(node)) is None:
            yield f"{what}: was not made again"
        elif differences := list(_differences(before.metrics, now.metrics)):
            yield f"{what}: OTHER METRICS: {', '.join(differences)}"
        else:
            files = (
                "and the same files, byte for byte"
                if now.files == before.files
                else "in files that differ"
            )
            yield f"{what}: the same metrics, {files}"


def _differences(before: dict[str, float], now: dict[str, float]) -> Iterator[str]:
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            yield f"{name} {before.get(name)} before, {now.get(name)} now"
