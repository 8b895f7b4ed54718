"""`python -m sweeps status`: the state of the sweeps on a store; needs neither Ray nor torch."""

import argparse
import time

from rich.console import Console

from sweeps.commands.arguments import Commands, add_place, add_store
from sweeps.progress.screen import describe, render
from sweeps.progress.status import read_status
from sweeps.store.store import Store


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "status", help="what runs, what is left and when it ends; reads the store only"
    )
    parser.add_argument(
        "sweep", nargs="?", help="name of a sweep (default: all that run, or the last one)"
    )
    add_store(parser)
    add_place(parser)
    parser.set_defaults(command=show_status)


def show_status(options: argparse.Namespace) -> int:
    """Print the state of the sweeps of a store.

    Raises:
        ValueError: no sweep, or none of that name, has run on the store.
    """
    now = time.time()
    statuses = read_status(Store(options.store))
    if options.place:
        statuses = [status for status in statuses if status.tracking == options.place]
    if options.sweep:
        shown = [status for status in statuses if status.name == options.sweep]
    else:
        shown = [status for status in statuses if status.alive(now)] or statuses[:1]
    if not shown:
        names = ", ".join(status.name for status in statuses) or "none"
        what = f"no sweep {options.sweep}" if options.sweep else "no sweep"
        raise ValueError(f"{what} has run on {options.store}; those that have: {names}")
    console = Console(highlight=False, soft_wrap=True)
    for status in shown:
        for line in describe(status, now=now):
            console.print(line, markup=False)
        console.print(render(status))
    return 0
