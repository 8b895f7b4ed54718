"""Counts and lists as sentences have them."""

from collections.abc import Sequence


def number(count: int, noun: str) -> str:
    """Return a count and its noun, in the plural for any number but one."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def listed(parts: Sequence[str]) -> str:
    """Return parts as a sentence lists them."""
    if len(parts) < 2:
        return "".join(parts)
    return f"{', '.join(parts[:-1])} and {parts[-1]}"
