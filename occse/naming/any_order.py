"""Command lines whose words and options come in any order."""

import argparse
from collections.abc import Sequence
from typing import Any


class AnyOrderParser(argparse.ArgumentParser):
    """Parser that takes a word that may be left out behind the options, too.

    `argparse` leaves such a word out as soon as an option follows, and then refuses it: of
    `control NAME --store DIR pause` the last.
    """

    _is_second_try = False

    def parse_known_args(  # type: ignore[override]
        self,
        args: Sequence[str] | None = None,
        namespace: Any = None,  # noqa: ANN401
    ) -> tuple[Any, list[str]]:
        """Return the values of the arguments, and the words that are none."""
        found, unknown = super().parse_known_args(args, namespace)
        # Words of a command go to the parser of that command.
        if not unknown or self._subparsers is not None or self._is_second_try:
            return found, unknown
        self._is_second_try = True
        try:
            return self.parse_known_intermixed_args(args)
        finally:
            self._is_second_try = False
