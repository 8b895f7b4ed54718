"""Tables for people of what lies in a store."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from occse.artifacts.manifest import Manifest
from occse.naming.counts import number
from sweeps.store.gc import REASONS, Item
from sweeps.text import amount, table

# A row of `store ls` must fit a terminal beside fingerprint, age, size, inputs and knobs.
SHOWN_METRICS = 2
# A longer value, such as a list, is cut: its first characters tell it from the others.
LONG_VALUE = 20
# Short enough that the knobs of a row stay in one line.
CUT_VALUE = 12


def listing(manifests: Iterable[Manifest], *, now: datetime | None = None) -> list[str]:
    """List artifacts by stage class, newest first, with the knobs in which they differ."""
    now = now or datetime.now(UTC)
    by_kind: dict[str, list[Manifest]] = defaultdict(list)
    for manifest in manifests:
        by_kind[manifest.stage].append(manifest)
    lines: list[str] = []
    for kind, artifacts in sorted(by_kind.items()):
        artifacts.sort(key=lambda manifest: manifest.created, reverse=True)
        varied = _varied([manifest.config for manifest in artifacts])
        rows = [_row(manifest, varied, now) for manifest in artifacts]
        head = ("  fingerprint", "age", "size", "took", "made from", "knobs that differ", "metrics")
        lines += [f"{kind}: {number(len(artifacts), 'artifact')}", *table(head, rows), ""]
    return lines or ["no artifacts"]


def usage(items: Sequence[Item]) -> list[str]:
    """Tabulate the room that items take, by stage class and by what they are."""
    rows: dict[str, list[Item]] = defaultdict(list)
    for item in sorted(items, key=lambda item: (item.what != "artifact", item.what, item.kind)):
        rows[item.kind if item.what == "artifact" else f"({item.what})"].append(item)
    rows["total"] = list(items)
    cells = [
        (name, str(len(members)), amount(sum(item.bytes for item in members)).rjust(9))
        for name, members in rows.items()
    ]
    return table(("class", "count", "size"), cells)


def doomed(items: Sequence[Item], *, now: float) -> list[str]:
    """Tabulate the items that would be removed, and why."""
    ordered = sorted(items, key=lambda item: (item.what, item.name))
    rows = [
        (item.what, item.name, _age(now - item.modified), amount(item.bytes), REASONS[item.what])
        for item in ordered
    ]
    return table(("what", "name", "age", "size", "why"), rows)


def _row(manifest: Manifest, varied: Sequence[str], now: datetime) -> tuple[str, ...]:
    metrics = manifest.metrics
    if "miou" in metrics:
        metrics = {"miou": metrics["miou"]}
    scores = [f"{name} {value:.4g}" for name, value in metrics.items()]
    config = manifest.config
    knobs = [f"{knob}={_short(config[knob])}" for knob in varied if knob in config]
    inputs = [f"{field} {fingerprint[:6]}" for field, fingerprint in manifest.inputs.items()]
    age_s = (now - datetime.fromisoformat(manifest.created)).total_seconds()
    return (
        f"  {manifest.fingerprint}",
        _age(age_s),
        amount(manifest.bytes),
        _age(manifest.seconds),
        ", ".join(inputs) or "-",
        ", ".join(knobs) or "-",
        ", ".join(scores[:SHOWN_METRICS]) or "-",
    )


def _varied(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the knobs that have more than one value."""
    knobs: dict[str, None] = {}
    for config in configs:
        knobs |= dict.fromkeys(config)
    return [knob for knob in knobs if len({json.dumps(config.get(knob)) for config in configs}) > 1]


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return f"{text[:CUT_VALUE]}…" if len(text) > LONG_VALUE else text


def _age(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
