"""Keys that MLflow accepts, for every name that a user can give to a class.

MLflow refuses a whole request over one key with a bracket, a plus or another character outside its
list. Such a name is replaced by a safe one, and the tag `occse.name.<safe>` keeps the original, so
that tables show it.
"""

import hashlib
import posixpath
import re
from collections.abc import Iterable

NAME_TAG = "occse.name."
# The characters that MLflow allows in keys, see mlflow.utils.validation.
ALLOWED = re.compile(r"[/\w.\- :]*")
# MLflow's limit of a key.
KEY_CHARACTERS = 250
# The readable part of a safe name, so that key and tag stay below the limit.
NAME_CHARACTERS = 100
# Two names of one data set that differ in refused characters only stay two.
DIGEST_DIGITS = 8


def safe_key(key: str) -> str:
    """Return the key of a metric as MLflow accepts it: the same, if it does.

    Args:
        key: `<field>/<metric>`, or `<field>/<metric>/<name>` with a name that a user chose.
    """
    if _accepted(key):
        return key
    *parts, name = key.split("/", 2)
    return "/".join([*parts, safe_name(name)])


def safe_name(name: str) -> str:
    """Return a name that MLflow accepts and that stands for `name` alone."""
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()
    readable = re.sub(r"[^\w.\- :]", "_", name)[:NAME_CHARACTERS]
    return f"{readable}.{digest[:DIGEST_DIGITS]}"


def name_tags(keys: Iterable[str]) -> dict[str, str]:
    """Return the tags with the original names of those of `keys` that MLflow does not accept."""
    tags = {}
    for key in keys:
        if not _accepted(key):
            name = key.split("/", 2)[-1]
            tags[f"{NAME_TAG}{safe_name(name)}"] = name
    return tags


def _accepted(key: str) -> bool:
    """Tell whether MLflow takes a key: by its characters, its length, and as a path of its own."""
    if ALLOWED.fullmatch(key) is None or len(key) > KEY_CHARACTERS:
        return False
    return posixpath.normpath(key) == key and not key.startswith(("/", ".."))
