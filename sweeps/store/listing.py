"""What lies in a store, as tables for people."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from occse.artifacts.manifest import Manifest
from sweeps.store.gc import REASONS, Item
from sweeps.text import amount, number, table

SHOWN_METRICS = 2


def listing(manifests: Iterable[Manifest], *, now: datetime | None = None) -> list[str]:
    """The artifacts by stage class, newest first, with the knobs in which those of a class differ."""
    now = now or datetime.now(UTC)
    by_kind: dict[str, list[Manifest]] = defaultdict(list)
    for manifest in manifests:
        by_kind[manifest.stage].append(manifest)
    lines: list[str] = []
    for kind, found in sorted(by_kind.items()):
        found.sort(key=lambda manifest: manifest.created, reverse=True)
        varied = _varied([manifest.config for manifest in found])
        rows = [_row(manifest, varied, now) for manifest in found]
        head = ("  fingerprint", "age", "size", "took", "made from", "knobs that differ", "metrics")
        lines += [f"{kind}: {number(len(found), 'artifact')}", *table(head, rows), ""]
    return lines or ["no artifacts"]


def usage(items: Sequence[Item]) -> list[str]:
    """The room that everything takes, by stage class and by what it is."""
    rows: dict[str, list[Item]] = defaultdict(list)
    for item in sorted(items, key=lambda item: (item.what != "artifact", item.what, item.kind)):
        rows[item.kind if item.what == "artifact" else f"({item.what})"].append(item)
    rows["total"] = list(items)
    cells = [
        (name, str(len(found)), amount(sum(item.bytes for item in found)).rjust(9))
        for name, found in rows.items()
    ]
    return table(("class", "count", "size"), cells)


def doomed(items: Sequence[Item], *, now: float) -> list[str]:
    """What would go, and why."""
    ordered = sorted(items, key=lambda item: (item.what, item.name))
    return table(
        ("what", "name", "age", "size", "why"),
        [
            (
                item.what,
                item.name,
                _age(now - item.modified),
                amount(item.bytes),
                REASONS[item.what],
            )
            for item in ordered
        ],
    )


def _row(manifest: Manifest, varied: Sequence[str], now: datetime) -> tuple[str, ...]:
    scores = {
        name: value for name, value in manifest.metrics.items() if name == "miou"
    } or manifest.metrics
    knobs = (
        f"{knob}={_short(manifest.config[knob])}" for knob in varied if knob in manifest.config
    )
    return (
        f"  {manifest.fingerprint}",
        _age((now - datetime.fromisoformat(manifest.created)).total_seconds()),
        amount(manifest.bytes),
        _age(manifest.seconds),
        ", ".join(f"{field} {fingerprint[:6]}" for field, fingerprint in manifest.inputs.items())
        or "-",
        ", ".join(knobs) or "-",
        ", ".join(f"{name} {value:.4g}" for name, value in [*scores.items()][:SHOWN_METRICS])
        or "-",
    )


def _varied(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    knobs = dict.fromkeys(knob for config in configs for knob in config)
    return [knob for knob in knobs if len({json.dumps(config.get(knob)) for config in configs}) > 1]


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return f"{text[:12]}…" if len(text) > 20 else text


def _age(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
