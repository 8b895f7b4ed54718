"""Passwords in texts that are printed, logged or stored, and texts that a terminal shows."""

import argparse
import re
import shlex
from collections.abc import Iterable
from typing import Any, NoReturn

from occse.naming.any_order import AnyOrderParser

MASK = "***"
# Longer lines of an error repeat what the user fed in; the start tells what is wrong.
LINE_CHARACTERS = 1000
# scheme://user:PASSWORD@host. A password may hold "@", ":" and "/", so all up to the last "@" of
# the word goes.
_PASSWORD = re.compile(r"\b([a-z][a-z0-9+.-]*://[^\s:/@'\"]*):[^\s'\"]+@", re.IGNORECASE)
# https://TOKEN@host; a lone user of a database, as in postgresql://user@host, is not a secret.
_TOKEN = re.compile(r"\b(https?://)[^\s:/@'\"]+@", re.IGNORECASE)
# ?password=..., &token=...: arguments of a URL that drivers of databases take.
_ARGUMENT = re.compile(
    r"([?&;](?:[a-z_]*(?:password|passwd|passphrase|secret|token|api_?key)|pwd)=)[^\s&;'\"]+",
    re.IGNORECASE,
)


def masked(text: str) -> str:
    """Return `text` with `***` in place of the passwords and tokens in its URLs."""
    text = _PASSWORD.sub(rf"\1:{MASK}@", text)
    text = _TOKEN.sub(rf"\1{MASK}@", text)
    return _ARGUMENT.sub(rf"\1{MASK}", text)


def masked_command(words: Iterable[str]) -> str:
    """Return a command as a person would type it, without its passwords and tokens."""
    return shlex.join(masked(word) for word in words)


def shown(text: str) -> str:
    """Return `text` as a terminal may show it: without secrets, escapes and endless lines.

    A name or a file of somebody else may hold escape sequences, which a terminal obeys.
    """
    lines = []
    for line in masked(text).split("\n"):
        visible = "".join(
            character if character.isprintable() or character == "\t" else repr(character)[1:-1]
            for character in line[: LINE_CHARACTERS + 1]
        )
        if len(line) > LINE_CHARACTERS:
            visible = f"{visible[:LINE_CHARACTERS]}... ({len(line):,} characters)"
        lines.append(visible)
    return "\n".join(lines)


class _DescribedCommands(argparse._SubParsersAction):  # type: ignore[type-arg]
    """Commands whose own help begins with their line in the list of commands."""

    def add_parser(self, name: str, **options: Any) -> Any:  # noqa: ANN401 - as argparse's own
        options.setdefault("description", options.get("help"))
        return super().add_parser(name, **options)


class Parser(AnyOrderParser):
    """Command-line parser whose errors, which repeat what was typed, show no secrets."""

    def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 - as argparse's own
        super().__init__(*arguments, **options)
        self.register("action", "parsers", _DescribedCommands)

    def error(self, message: str) -> NoReturn:
        """Print `message` and exit with code 2."""
        super().error(shown(message))
