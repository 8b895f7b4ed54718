"""What lies in a store and what of it nobody needs any more."""

import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from occse.artifacts.checksums import CORRUPT
from occse.artifacts.manifest import MANIFEST, Manifest
from sweeps.store.backends import Entry
from sweeps.store.leases import LEASES, read_lease
from sweeps.store.mirror import SCRATCH, sealed_at
from sweeps.store.store import Store

DAY_S = 86400.0
REASONS = {
    "artifact": "no run refers to it",
    "damaged": "damaged, was set aside",
    "scratch": "no attempt goes on with it",
    "leftover": "its attempt died",
    "lease": "expired",
}


@dataclass(frozen=True, kw_only=True)
class Item:
    """One thing in a store.

    Attributes:
        what: "artifact", "damaged" (set aside), "scratch" (of a stage that has not ended), "lease"
            or "leftover" (of an attempt that died or is on its way), or "other".
        name: its folder or file below the store's root.
        kind: class of the stage, empty where it is not known.
        fingerprint: of the stage, empty where it is not known.
        bytes: size of all its files.
        modified: when the newest of its files was written, in seconds since 1970.
    """

    what: str
    name: str
    kind: str = ""
    fingerprint: str = ""
    bytes: int = 0
    modified: float = 0.0


def survey(store: Store) -> list[Item]:
    """Everything that lies in a store."""
    items: dict[str, Item] = {}
    finished: set[str] = set()
    entries = list(store.files.find())
    strays = _strays(store, entries)
    for entry in entries:
        item = strays.get("/".join(entry.name.split("/")[:3])) or _item(entry)
        known = items.get(item.name, item)
        size, modified = (
            (known.bytes if item.name in items else 0),
            max(known.modified, entry.modified),
        )
        items[item.name] = replace(item, bytes=size + entry.bytes, modified=modified)
        if entry.name == f"{item.name}/{MANIFEST}":
            finished.add(item.name)
    return [
        replace(item, what="leftover")
        if item.what == "artifact" and item.name not in finished
        else item
        for item in items.values()
    ]


def unneeded(
    store: Store,
    items: Sequence[Item],
    *,
    referenced: Collection[str],
    keep_s: float,
    now: float | None = None,
) -> list[Item]:
    """What may go: no run refers to it, nothing that runs now needs it, and it is older than
    `keep_s`.

    Of an artifact that is kept, the inputs are kept too. Scratch folders and leftovers of the last
    day may belong to an attempt that runs now, and so may everything whose lease is held.

    Args:
        store: the store that was surveyed.
        items: what `survey` found.
        referenced: fingerprints of the artifacts that runs refer to.
        keep_s: what is younger is kept.
        now: the time in seconds since 1970.
    """
    now = time.time() if now is None else now
    held = {
        item.fingerprint
        for item in items
        if item.what == "lease" and not _expired(store, item, now)
    }
    young = {item.fingerprint for item in items if now - item.modified < keep_s}
    kept = _with_inputs(held | young | set(referenced), store.manifests())
    least = {"artifact": keep_s, "damaged": keep_s, "lease": 0.0}
    return [
        item
        for item in items
        if item.what in REASONS
        and item.fingerprint not in held
        and now - item.modified >= least.get(item.what, max(keep_s, DAY_S))
        and not (item.what == "artifact" and item.fingerprint in kept)
    ]


def remove(store: Store, items: Sequence[Item]) -> None:
    """Remove things for good; of an artifact the manifest first, so that nobody takes the rest for
    whole.
    """
    for item in items:
        if item.what == "artifact":
            store.files.remove(f"{item.name}/{MANIFEST}")
        store.files.remove(item.name)


def _strays(store: Store, entries: Iterable[Entry]) -> dict[str, Item]:
    """On an object store, by name: files of an attempt that died on the way, beside those of one
    that was finished.
    """
    if "://" not in store.url:
        return {}
    seals: dict[tuple[str, str], set[str]] = {}
    for entry in entries:
        if _item(entry).what == "artifact" and entry.name.count("/") > 2:
            kind, fingerprint, seal, _ = entry.name.split("/", 3)
            seals.setdefault((kind, fingerprint), set()).add(seal)
    found = {}
    for (kind, fingerprint), several in seals.items():
        if len(several) > 1 and (manifest := store.peek(kind, fingerprint)) is not None:
            own = sealed_at(kind, fingerprint, str(manifest.get("files")))
            for name in {f"{kind}/{fingerprint}/{seal}" for seal in several} - {own}:
                found[name] = Item(what="leftover", name=name, kind=kind, fingerprint=fingerprint)
    return found


def _item(entry: Entry) -> Item:
    """What the file belongs to."""
    parts = entry.name.split("/")
    hidden = next((place for place, part in enumerate(parts[:2]) if part[0] == "."), None)
    if hidden is not None:
        return Item(
            what="leftover",
            name="/".join(parts[: hidden + 1]),
            fingerprint=parts[hidden].split(".")[1],
        )
    if parts[0] == CORRUPT and len(parts) > 3:
        return Item(what="damaged", name="/".join(parts[:3]), kind=parts[1])
    if parts[0] in (SCRATCH, LEASES) and len(parts) > 1:
        what = "scratch" if parts[0] == SCRATCH else "lease"
        return Item(what=what, name="/".join(parts[:2]), fingerprint=parts[1].split(".")[0])
    if len(parts) > 2:
        return Item(what="artifact", name="/".join(parts[:2]), kind=parts[0], fingerprint=parts[1])
    return Item(what="other", name=entry.name)


def _expired(store: Store, item: Item, now: float) -> bool:
    lease = read_lease(store.files, item.fingerprint)
    return lease is None or lease.expired(now)


def _with_inputs(fingerprints: set[str], manifests: Iterable[Manifest]) -> set[str]:
    inputs = {manifest.fingerprint: manifest.inputs.values() for manifest in manifests}
    kept: set[str] = set()
    ahead = list(fingerprints)
    while ahead:
        if (fingerprint := ahead.pop()) not in kept:
            kept.add(fingerprint)
            ahead += inputs.get(fingerprint, ())
    return kept
