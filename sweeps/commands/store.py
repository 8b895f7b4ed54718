"""`python -m sweeps store ls|du|gc|adopt`: list artifacts and sizes, remove, adopt moved files."""

import argparse
import time

from occse.artifacts.secrets import masked
from occse.commands.values import at_least_0
from occse.naming.counts import number
from sweeps.commands.arguments import Commands, add_store, add_tracking
from sweeps.store.gc import DAY_S, remove, survey, unneeded
from sweeps.store.listing import doomed, listing, usage
from sweeps.store.store import Store
from sweeps.text import amount


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "store", help="list the artifacts, their size, and those that no run needs"
    )
    parts = parser.add_subparsers(required=True, metavar="ls|du|gc|adopt")
    ls = parts.add_parser("ls", help="list the artifacts by stage class")
    ls.add_argument("--kind", help="one stage class only, such as TrainCGNet")
    ls.set_defaults(command=list_artifacts)
    du = parts.add_parser("du", help="show the size of the artifacts, and of all else in the store")
    du.set_defaults(command=show_usage)
    gc = parts.add_parser(
        "gc", help="find artifacts that neither a run in MLflow nor a running sweep needs"
    )
    gc.add_argument("--delete", action="store_true", help="remove them (default: only list them)")
    gc.add_argument(
        "--keep-days",
        type=at_least_0,
        default=7.0,
        metavar="N",
        help="keep everything that is younger than N days (default: 7)",
    )
    add_tracking(gc)
    gc.set_defaults(command=collect)
    moved = parts.add_parser(
        "adopt", help="let MLflow find the files of runs whose folder was moved or copied"
    )
    add_tracking(moved)
    moved.set_defaults(command=adopt_files)
    for part in (ls, du, gc):
        add_store(part)


def adopt_files(options: argparse.Namespace) -> int:
    """Rewrite where MLflow's database says that the files of its runs are, if they moved with it.

    Raises:
        ValueError: the runs are not in a database file.
    """
    from sweeps.tracking.database import adopt, artifacts, database

    path = database(options.tracking)
    if path is None or not path.is_file():
        raise ValueError(
            f"--tracking {masked(options.tracking)}: expected a database file, such as "
            "sqlite:///runs/mlflow.db"
        )
    changed = adopt(path)
    where = artifacts(path)
    if changed:
        print(f"{number(changed, 'run')} changed: MLflow now has the files in {where}")
    else:
        print(f"nothing to change: no run whose files are in {where} is recorded elsewhere")
    return 0


def list_artifacts(options: argparse.Namespace) -> int:
    manifests = list(Store(options.store).manifests())
    if options.kind is not None:
        manifests = [manifest for manifest in manifests if manifest.stage == options.kind]
    print("\n".join(listing(manifests)).rstrip())
    return 0


def show_usage(options: argparse.Namespace) -> int:
    print("\n".join(usage(survey(Store(options.store)))))
    return 0


def collect(options: argparse.Namespace) -> int:
    """Show the artifacts that may go, and remove them with `--delete`.

    Raises:
        ValueError: no run on the tracking server refers to any artifact of the store, so it is
            probably the wrong server.
        ConnectionError: the tracking server does not answer.
    """
    from sweeps.tracking.query import referenced

    store = Store(options.store)
    known = referenced(options.tracking)
    items = survey(store)
    found = unneeded(store, items, referenced=known, keep_s=options.keep_days * DAY_S)
    artifacts = {item.fingerprint for item in items if item.what == "artifact"}
    if options.delete and any(item.what == "artifact" for item in found) and not artifacts & known:
        raise ValueError(
            f"--tracking {masked(options.tracking)}: no run there refers to anything in "
            f"{store.url}; expected the server that recorded its sweeps. Nothing was removed"
        )
    room = amount(sum(item.bytes for item in found))
    if found:
        print("\n".join(doomed(found, now=time.time())), end="\n\n")
    all_artifacts = number(len(artifacts), "artifact")
    print(
        f"runs at {masked(options.tracking)} refer to {len(artifacts & known)} of {all_artifacts}"
    )
    things = f"{number(len(found), 'thing')}, {room}"
    if options.delete:
        remove(store, found)
        print(f"removed {things}")
    elif found:
        print(f"{things}, may go; --delete removes them")
    else:
        print(f"{things}, may go")
    return 0
