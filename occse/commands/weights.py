"""`occse weights`: identify and check weight files, and list the networks that they fit."""

import argparse
from pathlib import Path

from occse.commands.options import Commands, Finding


def add(commands: Commands) -> None:
    command = commands.add_parser(
        "weights", help="identify and check weight files, and list the networks that they fit"
    )
    command.set_defaults(command=weights)
    command.add_argument("files", nargs="+", type=Path, metavar="FILE")


def weights(options: argparse.Namespace) -> None:
    """Describe all files, before damage of one ends the command.

    Raises:
        Finding: a file is damaged.
    """
    # Imported here: it needs torch, and the help of this command does not.
    from occse.weights.describe import describe

    descriptions = [describe(path) for path in options.files]
    for description in descriptions:
        print("\n".join(description.lines()), flush=True)
    damaged = [str(description.path) for description in descriptions if description.damage]
    if damaged:
        raise Finding(f"damaged: {', '.join(damaged)}")
