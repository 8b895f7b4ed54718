"""Digest of the code: a process that lives for long must not be taken for another version of it."""

import hashlib
import importlib.util
from pathlib import Path


def source_digest() -> str:
    """Return a digest of the code of `occse` and `sweeps`, without importing it."""
    texts = []
    for package in ("occse", "sweeps"):
        spec = importlib.util.find_spec(package)
        folders = spec.submodule_search_locations if spec else None
        for folder in folders or ():
            paths = sorted(Path(folder).rglob("*.py"))
            texts += [f"{path.relative_to(folder)}\n{path.read_text()}" for path in paths]
    return short_digest(*texts)


def short_digest(*texts: str) -> str:
    """Return 16 hex digits of a SHA-256 over `texts`."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]
