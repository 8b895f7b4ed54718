"""The arguments that several commands share."""

import argparse
from collections.abc import Callable
from typing import Any

Commands = Any  # argparse's sub-parsers have no public type


def add_command(
    commands: Commands, name: str, function: Callable[[argparse.Namespace], int], *, help_: str
) -> argparse.ArgumentParser:
    """A command that calls `function`, whose result is the exit code, and reads one experiment."""
    parser: argparse.ArgumentParser = commands.add_parser(name, help=help_)
    parser.set_defaults(command=function)
    parser.add_argument("experiment", help="name of the sweep")
    parser.add_argument("--tracking", metavar="URI", help="default: MLFLOW_TRACKING_URI, else sqlite:///runs/mlflow.db")
    return parser
