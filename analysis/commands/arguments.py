"""The arguments that several commands share."""

import argparse
from collections.abc import Callable
from typing import Any

Commands = Any  # argparse's sub-parsers have no public type


def add_command(
    commands: Commands,
    name: str,
    function: Callable[[argparse.Namespace], int],
    *,
    help_: str,
    several: bool = False,
) -> argparse.ArgumentParser:
    """A command that calls `function`, whose result is the exit code, and reads one experiment, or
    `several`.
    """
    parser: argparse.ArgumentParser = commands.add_parser(name, help=help_)
    parser.set_defaults(command=function)
    what = "name of a sweep, or a file that `export` wrote"
    if several:
        parser.add_argument("experiments", nargs="+", metavar="EXPERIMENT", help=what)
    else:
        parser.add_argument("experiment", metavar="EXPERIMENT", help=what)
    parser.add_argument(
        "--tracking",
        metavar="URI",
        help="default: MLFLOW_TRACKING_URI, else sqlite:///runs/mlflow.db",
    )
    return parser
