"""Printing of answers, and of the files that a command wrote."""

import sys
from collections.abc import Sequence
from pathlib import Path

from analysis.table.formats.on_terminal import passages_on_terminal
from analysis.table.grid import Passage, passages_markdown
from occse.naming.terminal import shows_styles, visible


def say(text: str, *, end: str = "\n", to_stderr: bool = False) -> None:
    """Print a text; every command prints through here.

    What others' runs are called must not command the reader's terminal.
    """
    print(visible(text), end=end, file=sys.stderr if to_stderr else sys.stdout, flush=to_stderr)


def print_passages(passages: Sequence[Passage]) -> None:
    """Print the answer of a study: aligned and bold on a terminal, as Markdown in a pipe."""
    if shows_styles(sys.stdout):
        say(passages_on_terminal(passages))
    else:
        say(passages_markdown(passages))


def say_written(path: Path, what: str) -> None:
    """Print the name of a file that was written, and what is in it."""
    say(f"{path}: {what}")
