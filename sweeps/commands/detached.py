"""`python -m sweeps stop NAME` and `logs NAME`: for sweeps that run without a terminal."""

import argparse
import sys

from sweeps.commands.arguments import Commands, add_place, add_store
from sweeps.driver import detached
from sweeps.store.store import Store


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "stop", help="end a running sweep by its name; the same command goes on with it later"
    )
    parser.add_argument("sweep", help="name of the sweep")
    parser.add_argument(
        "--now", action="store_true", help="end stages at once, without a checkpoint"
    )
    add_store(parser)
    add_place(parser)
    parser.set_defaults(command=stop)
    parser = commands.add_parser(
        "logs", help="print the output of a sweep that `run --detach` started"
    )
    parser.add_argument("sweep", help="name of the sweep")
    parser.add_argument(
        "--follow", action="store_true", help="go on until the sweep ends, or until Ctrl-C"
    )
    add_store(parser)
    add_place(parser)
    parser.set_defaults(command=logs)


def stop(options: argparse.Namespace) -> int:
    """End a sweep.

    Returns:
        1 if it is still there after some minutes.
    """
    store = Store(options.store)
    ended = detached.stop(store, options.sweep, tracking=options.place, now=options.now)
    if not ended:
        print(f"{options.sweep} has not ended yet; --now ends it at once", file=sys.stderr)
        return 1
    print(f"{options.sweep} has ended; the command that started it goes on from there")
    return 0


def logs(options: argparse.Namespace) -> int:
    """Print the log of a detached sweep."""

    def show(content: bytes) -> None:
        sys.stdout.write(content.decode(errors="replace"))
        sys.stdout.flush()

    detached.follow(
        Store(options.store),
        options.sweep,
        tracking=options.place,
        show=show,
        to_the_end=options.follow,
    )
    return 0
