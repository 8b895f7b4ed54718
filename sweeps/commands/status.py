"""`python -m sweeps status`: what runs on a store, what is left, when it ends, and whether its
driver is alive.
"""

import argparse
import time

from rich.console import Console

from sweeps.commands.arguments import Commands, add_store
from sweeps.progress.screen import describe, render
from sweeps.progress.status import read_status
from sweeps.store.store import Store


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "status", help="what runs, what is left, when it ends; needs the store and no Ray"
    )
    parser.add_argument(
        "sweep", nargs="?", help="the name of a sweep; by default those that run, else the last one"
    )
    add_store(parser)
    parser.set_defaults(command=status)


def status(options: argparse.Namespace) -> int:
    """Print where the sweeps of a store stand.

    Raises:
        ValueError: no sweep, or none of that name, has run on the store.
    """
    now = time.time()
    found = read_status(Store(options.store))
    alive = [each for each in found if each.alive(now)]
    wanted = (
        [each for each in found if each.name == options.sweep]
        if options.sweep
        else alive or found[:1]
    )
    if not wanted:
        names = ", ".join(each.name for each in found) or "none"
        what = f"no sweep {options.sweep}" if options.sweep else "no sweep"
        raise ValueError(f"{what} has run on {options.store}; those that have: {names}")
    console = Console(highlight=False, soft_wrap=True)
    for each in wanted:
        for line in describe(each, now=now):
            console.print(line, markup=False)
        console.print(render(each))
    return 0
