"""Find what lies in a store, and what of it nothing needs any more."""

import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from occse.artifacts.checksums import CORRUPT
from occse.artifacts.manifest import MANIFEST, Manifest
from sweeps.store.backends import Entry
from sweeps.store.leases import LEASES, read_lease
from sweeps.store.mirror import SCRATCH, sealed_at
from sweeps.store.store import Store

# A stage that runs for longer without a lease or a checkpoint is not known: what is older than a
# day belongs to no running attempt.
DAY_S = 86400.0
What = Literal[
    "artifact",  # a finished one
    "damaged",  # an artifact that was set aside
    "scratch",  # the checkpoint of a stage that has not ended
    "lease",  # see sweeps.store.leases
    "leftover",  # of an attempt that died, or that still runs
    "other",  # no part of a store
]
REASONS: dict[What, str] = {
    "artifact": "no run refers to it",
    "damaged": "damaged, was set aside",
    "scratch": "left behind by an attempt",
    "leftover": "its attempt died",
    "lease": "expired",
}


@dataclass(frozen=True, kw_only=True)
class Item:
    """Folder or file of a store that is kept or removed as a whole.

    Attributes:
        what: what it is.
        name: its name below the store's root.
        kind: class of the stage, empty where it is not known.
        fingerprint: of the stage, empty where it is not known.
        bytes: size of all its files.
        modified: when the newest of its files was written, in seconds since 1970.
    """

    what: What
    name: str
    kind: str = ""
    fingerprint: str = ""
    bytes: int = 0
    modified: float = 0.0


def survey(store: Store) -> list[Item]:
    """List everything that lies in a store."""
    items: dict[str, Item] = {}
    finished: set[str] = set()
    entries = list(store.files.find())
    strays = _strays(store, entries)
    for entry in entries:
        item = strays.get("/".join(entry.name.split("/")[:3])) or _item(entry)
        known = items.get(item.name, item)
        items[item.name] = replace(
            item,
            bytes=known.bytes + entry.bytes,
            modified=max(known.modified, entry.modified),
        )
        if entry.name == f"{item.name}/{MANIFEST}":
            finished.add(item.name)
    for name, item in items.items():
        if item.what == "artifact" and name not in finished:
            items[name] = replace(item, what="leftover")
    return list(items.values())


def unneeded(
    store: Store,
    items: Sequence[Item],
    *,
    referenced: Collection[str],
    keep_s: float,
    now: float | None = None,
) -> list[Item]:
    """Return the items that may be removed.

    No run refers to them, no stage that runs now needs them, and they are older than `keep_s`. The
    inputs of an artifact are kept with it. Scratch folders and leftovers of the last day may belong
    to an attempt that runs now, and so may everything whose lease is held.

    Args:
        store: the store that was surveyed.
        items: result of `survey`.
        referenced: fingerprints of the artifacts that runs refer to.
        keep_s: age in seconds below which everything is kept.
        now: the time in seconds since 1970.
    """
    now = time.time() if now is None else now
    held = {
        item.fingerprint
        for item in items
        if item.what == "lease" and not _expired(store, item, now)
    }
    young = {item.fingerprint for item in items if now - item.modified < keep_s}
    # A stage that is waiting or running reads its inputs, though no run refers to them yet.
    kept = _with_inputs(held | young | set(referenced), store.manifests())
    least_age_s = {
        "artifact": keep_s,
        "damaged": keep_s,
        "scratch": max(keep_s, DAY_S),
        "leftover": max(keep_s, DAY_S),
        "lease": 0.0,
    }
    found = []
    for item in items:
        # What is not part of a store belongs to the user, whatever it is.
        if item.what not in REASONS or item.fingerprint in held:
            continue
        # A sweep that runs now may have made the artifact, and not have recorded it yet.
        if now - item.modified < least_age_s[item.what]:
            continue
        if item.what == "artifact" and item.fingerprint in kept:
            continue
        found.append(item)
    return found


def remove(store: Store, items: Sequence[Item]) -> None:
    """Remove items for good.

    The manifest of an artifact goes first: without it no process takes the rest for complete.
    """
    for item in items:
        if item.what == "artifact":
            store.files.remove(f"{item.name}/{MANIFEST}")
        store.files.remove(item.name)


def _strays(store: Store, entries: Iterable[Entry]) -> dict[str, Item]:
    """Find unfinished uploads beside finished artifacts of an object store, by name."""
    if "://" not in store.url:
        return {}
    seals: dict[tuple[str, str], set[str]] = {}
    for entry in entries:
        if _item(entry).what == "artifact" and entry.name.count("/") > 2:
            kind, fingerprint, seal, _ = entry.name.split("/", 3)
            seals.setdefault((kind, fingerprint), set()).add(seal)
    strays = {}
    for (kind, fingerprint), several in seals.items():
        manifest = store.peek(kind, fingerprint) if len(several) > 1 else None
        if manifest is None:
            continue
        own = sealed_at(kind, fingerprint, str(manifest.get("files")))
        for seal in several:
            name = f"{kind}/{fingerprint}/{seal}"
            if name != own:
                strays[name] = Item(what="leftover", name=name, kind=kind, fingerprint=fingerprint)
    return strays


def _item(entry: Entry) -> Item:
    """Return the item that a file belongs to, with the size and the time of this file alone."""
    parts = entry.name.split("/")
    for depth, part in enumerate(parts[:2], start=1):
        if part.startswith("."):
            # hidden names are .<fingerprint>.<attempt>, see `FolderFiles.write`
            name = "/".join(parts[:depth])
            return Item(what="leftover", name=name, fingerprint=part.split(".")[1])
    if parts[0] == CORRUPT and len(parts) > 3:
        return Item(what="damaged", name="/".join(parts[:3]), kind=parts[1])
    if parts[0] in (SCRATCH, LEASES) and len(parts) > 1:
        what: What = "scratch" if parts[0] == SCRATCH else "lease"
        return Item(what=what, name="/".join(parts[:2]), fingerprint=parts[1].split(".")[0])
    if len(parts) > 2:
        return Item(what="artifact", name="/".join(parts[:2]), kind=parts[0], fingerprint=parts[1])
    return Item(what="other", name=entry.name)


def _expired(store: Store, item: Item, now: float) -> bool:
    lease = read_lease(store.files, item.fingerprint, now=now)
    return lease is None or lease.expired(now)


def _with_inputs(fingerprints: set[str], manifests: Iterable[Manifest]) -> set[str]:
    """Return `fingerprints` and those of everything that their artifacts were made from."""
    inputs = {manifest.fingerprint: manifest.inputs.values() for manifest in manifests}
    kept: set[str] = set()
    ahead = list(fingerprints)
    while ahead:
        fingerprint = ahead.pop()
        if fingerprint not in kept:
            kept.add(fingerprint)
            ahead += inputs.get(fingerprint, ())
    return kept
