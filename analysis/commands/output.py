"""Printing of answers, and of the files that a command wrote."""

import sys
from collections.abc import Sequence
from pathlib import Path

from analysis.table.formats.on_terminal import passages_on_terminal
from analysis.table.grid import Passage, passages_markdown
from occse.naming.terminal import shows_styles


def print_passages(passages: Sequence[Passage]) -> None:
    """Print the answer of a study: aligned and bold on a terminal, as Markdown in a pipe."""
    if shows_styles(sys.stdout):
        print(passages_on_terminal(passages))
    else:
        print(passages_markdown(passages))


def say_written(path: Path, what: str) -> None:
    """Print the name of a file that was written, and what is in it."""
    print(f"{path}: {what}")
