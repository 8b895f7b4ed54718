"""File with the token that every process of a Ray cluster must know."""

import os
import secrets
import uuid
from contextlib import suppress
from pathlib import Path

# Ray's own tokens have 128 bits; more than anyone can guess either way.
TOKEN_BYTES = 32
PRIVATE_MODE = 0o600
# Rights of the group and of everyone else.
OTHERS = 0o077


def keep_token_private() -> None:
    """Make the token file where Ray would, and let this user alone read it.

    Ray makes it with the rights of an ordinary file, which everyone on a shared machine may read,
    and whoever knows the token runs code as this user.
    """
    if os.environ.get("RAY_AUTH_TOKEN"):
        return
    given = os.environ.get("RAY_AUTH_TOKEN_PATH")
    path = Path(given) if given else Path.home() / ".ray" / "auth_token"
    with suppress(OSError):  # of another user, or on a disk without rights: Ray tells what it lacks
        if not path.exists():
            _make(path)
        if path.stat().st_mode & OTHERS:
            path.chmod(PRIVATE_MODE)


def _make(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_MODE)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(TOKEN_BYTES))
        # complete from the start: another process may read it as soon as it has its name
        with suppress(FileExistsError):
            os.link(aside, path)
    finally:
        aside.unlink()
