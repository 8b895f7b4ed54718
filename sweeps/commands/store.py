"""`python -m sweeps store ls|du|gc`: what lies in the store, how much room it takes, and what
nobody needs.
"""

import argparse
import time

from sweeps.commands.arguments import Commands, add_store, add_tracking
from sweeps.store.gc import DAY_S, remove, survey, unneeded
from sweeps.store.listing import doomed, listing, usage
from sweeps.store.store import Store
from sweeps.text import amount, number


def add(commands: Commands) -> None:
    """Declare the commands."""
    parser = commands.add_parser(
        "store", help="what lies in the store, and what of it nobody needs"
    )
    parts = parser.add_subparsers(required=True, metavar="ls|du|gc")
    ls = parts.add_parser("ls", help="the artifacts by stage class")
    ls.add_argument("--kind", help="one stage class only, such as TrainCGNet")
    ls.set_defaults(command=list_artifacts)
    du = parts.add_parser("du", help="the room that they take, and what else lies there")
    du.set_defaults(command=show_usage)
    gc = parts.add_parser(
        "gc", help="find what no run in MLflow refers to and nothing that runs now needs"
    )
    gc.add_argument("--delete", action="store_true", help="remove it; by default it is only shown")
    gc.add_argument(
        "--keep-days",
        type=float,
        default=7.0,
        metavar="N",
        help="keep what is younger than this (7)",
    )
    add_tracking(gc)
    gc.set_defaults(command=collect)
    for part in (ls, du, gc):
        add_store(part)


def list_artifacts(options: argparse.Namespace) -> int:
    """Print the artifacts."""
    manifests = (
        each for each in Store(options.store).manifests() if options.kind in (None, each.stage)
    )
    print("\n".join(listing(manifests)).rstrip())
    return 0


def show_usage(options: argparse.Namespace) -> int:
    """Print the room that everything takes."""
    print("\n".join(usage(survey(Store(options.store)))))
    return 0


def collect(options: argparse.Namespace) -> int:
    """Show what nobody needs, and remove it when told to.

    Raises:
        ValueError: artifacts would be removed on the word of a tracking server that knows none of
        them. ConnectionError: the tracking server does not answer.
    """
    from sweeps.tracking.query import referenced  # seconds of imports that ls and du do without

    store = Store(options.store)
    known = referenced(options.tracking)
    items = survey(store)
    found = unneeded(store, items, referenced=known, keep_s=options.keep_days * DAY_S)
    artifacts = {item.fingerprint for item in items if item.what == "artifact"}
    if options.delete and any(item.what == "artifact" for item in found) and not artifacts & known:
        raise ValueError(
            f"no run at {options.tracking} refers to anything in {store.url}: is that its tracking server? "
            "Nothing was removed"
        )
    room = amount(sum(item.bytes for item in found))
    if found:
        print("\n".join(doomed(found, now=time.time())), end="\n\n")
    print(
        f"runs at {options.tracking} refer to {len(artifacts & known)} of {number(len(artifacts), 'artifact')}"
    )
    if options.delete:
        remove(store, found)
        print(f"removed {number(len(found), 'thing')}, {room}")
    else:
        print(
            f"{number(len(found), 'thing')}, {room}, may go"
            + ("; --delete removes them" if found else "")
        )
    return 0
