"""`python -m sweeps control NAME`: pause a sweep that runs, resume it, or change its pace."""

import argparse

from occse.commands.values import positive
from occse.naming.counts import number
from sweeps.commands.arguments import Commands, add_place, add_store
from sweeps.progress.control import Wishes, read_wishes, write_wishes
from sweeps.progress.status import the_running
from sweeps.store.store import Store


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "control", help="pause a sweep that runs, resume it, or change the number of trials at once"
    )
    parser.add_argument("sweep", metavar="NAME", help="name of the sweep")
    parser.add_argument(
        "action",
        nargs="?",
        choices=("pause", "resume"),
        help="pause: nothing more starts, running stages go on to their ends; resume: the opposite",
    )
    parser.add_argument("--max-concurrent", type=positive, help="trials at a time from now on")
    add_store(parser)
    add_place(parser)
    parser.set_defaults(command=control)


def control(options: argparse.Namespace) -> int:
    """Leave the wish where the sweep's driver reads it.

    Raises:
        ValueError: nothing was asked for, or not one sweep of that name runs on the store.
    """
    if options.action is None and options.max_concurrent is None:
        raise ValueError("control: expected pause, resume or --max-concurrent N, got none of them")
    store = Store(options.store)
    key = the_running(store, options.sweep, options.place).key
    before = read_wishes(store, key)
    # What is not said now stays as it was asked for before.
    paused = before.paused if options.action is None else options.action == "pause"
    wishes = Wishes(paused=paused, max_concurrent=options.max_concurrent or before.max_concurrent)
    write_wishes(store, key, wishes)
    state = "paused" if paused else "running"
    pace = "as many trials at a time as fit"
    if wishes.max_concurrent:
        pace = f"{number(wishes.max_concurrent, 'trial')} at a time"
    print(f"{options.sweep}: {state}, {pace}; the driver applies it within seconds")
    return 0
