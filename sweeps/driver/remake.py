"""Makes stages again on purpose, and compares the new artifacts with the old ones.

The old artifact is set aside, not removed, below `corrupt` in the store, until `sweeps store gc`
clears it away. Artifacts that were made from it stay valid: an artifact's identity is its
configuration and that of its inputs, not their bytes."""

import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from occse.artifacts.checksums import CORRUPT
from occse.artifacts.manifest import Manifest
from occse.pipeline import Node
from sweeps.spec.trials import Trial
from sweeps.store.store import Store

Forced = list[tuple[Node, Manifest]]


def set_aside(store: Store, trials: Sequence[Trial], fields: Collection[str]) -> Forced:
    """Set the artifacts of the stages in `fields` aside, and return them with their manifests.

    Raises:
        ValueError: no trial has such a stage; or the store is not a folder, and other machines may
            have copies.
    """
    _check_folder(store, "--force")
    known: dict[str, None] = {}
    for trial in trials:
        known |= dict.fromkeys(trial.nodes)
    if unknown := sorted(set(fields) - known.keys()):
        raise ValueError(
            f"--force: no trial has a stage {', '.join(unknown)}; they have {', '.join(known)}"
        )
    nodes: dict[str, Node] = {}
    for trial in trials:
        wanted = [node for field, node in trial.nodes.items() if field in fields]
        nodes |= {node.fingerprint: node for node in wanted}
    return _move_aside(store, nodes.values())


def set_changed_aside(
    store: Store, nodes: Mapping[str, Node], reasons: Mapping[str, str]
) -> Forced:
    """Set the artifacts aside that other code made, and return them with their manifests.

    Args:
        store: a store in a folder.
        nodes: the artifacts of the sweep, by fingerprint.
        reasons: the reason for each artifact of other code, by fingerprint.

    Raises:
        ValueError: the store is not a folder, and other machines may have copies.
    """
    _check_folder(store, "--changed-code rerun")
    return _move_aside(store, [nodes[fingerprint] for fingerprint in reasons])


def _check_folder(store: Store, option: str) -> None:
    # The cache of any machine may hold a copy, which its next stage would take for the new
    # artifact.
    if "://" in store.url:
        raise ValueError(
            f"{option}: expected a store in a folder, got {store.url}; "
            "remove the artifact there, and from each machine's cache"
        )


def _move_aside(store: Store, nodes: Iterable[Node]) -> Forced:
    forced: Forced = []
    for node in nodes:
        # Read before the move: the comparison at the end needs its metrics.
        manifest = store.manifest(node)
        if manifest is not None:
            name = f"{node.kind}/{node.fingerprint}"
            store.files.move(name, f"{CORRUPT}/{name}.{time.strftime('%Y%m%d-%H%M%S')}")
            forced.append((node, manifest))
    return forced


def compare(store: Store, forced: Forced) -> Iterator[str]:
    """Yield one line per artifact of `forced`: whether it came out the same."""
    for node, before in forced:
        what = f"forced {node.field} {node.fingerprint[:8]}"
        now = store.manifest(node)
        if now is None:
            yield f"{what}: was not made again"
            continue
        differences = list(_differences(before.metrics, now.metrics))
        if differences:
            yield f"{what}: OTHER METRICS: {', '.join(differences)}"
        elif now.files == before.files:
            yield f"{what}: the same metrics, and the same files, byte for byte"
        else:
            yield f"{what}: the same metrics, in files that differ"


def _differences(before: dict[str, float], now: dict[str, float]) -> Iterator[str]:
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            yield f"{name} {before.get(name)} before, {now.get(name)} now"
