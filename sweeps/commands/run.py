"""`python -m sweeps run SPEC`: run the missing stages, record trials in MLflow, print the table."""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from occse.artifacts.secrets import masked
from occse.commands.values import above_0, positive
from sweeps.cluster.head import JOB
from sweeps.commands.arguments import (
    TRACKING_URI,
    Commands,
    add_changed_code,
    add_spec,
    add_store,
    add_tracking,
    of_other_code,
    python,
    read_sweep,
    without_password,
)
from sweeps.commands.mlflow import PAGE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from occse.pipeline import Node
    from sweeps.driver.remake import Forced
    from sweeps.store.store import Store
    from sweeps.tracking.writer import Tracking


DETACH = "--detach"
# Where `python -m sweeps mlflow` serves the pages of a database.
LOCAL = "http://127.0.0.1:5000"


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "run", help="run the stages that are not in the store, record the trials, print the table"
    )
    add_spec(parser)
    add_store(parser)
    add_tracking(parser)
    parser.add_argument(
        "--address", help="a running Ray cluster, such as auto (default: start one on this machine)"
    )
    parser.add_argument(
        "--autoscaling",
        action="store_true",
        help="let the cluster start machines, as many as the sweep needs; needs --address",
    )
    parser.add_argument(
        "--num-cpus",
        type=positive,
        metavar="N",
        help="CPUs of the cluster that is started on this machine (default: all)",
    )
    parser.add_argument(
        "--max-concurrent",
        type=positive,
        metavar="N",
        help="trials at a time (default: twice as many as the cluster can run)",
    )
    parser.add_argument(
        "--weight",
        type=above_0,
        default=1.0,
        help="share of this sweep, relative to others on the same cluster (default: 1)",
    )
    parser.add_argument(
        "--force",
        action="append",
        default=[],
        metavar="STAGE",
        help="run this stage again although its artifact is in the store, and compare the two; "
        "may be repeated",
    )
    parser.add_argument(
        DETACH,
        action="store_true",
        help="run in the background, also after the terminal closes; see `status`, `logs`, `stop`",
    )
    add_changed_code(parser)
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> int:
    """Run a sweep and print its table.

    Returns:
        0 where every trial succeeded and is recorded, else 1.
    """
    if options.autoscaling and options.address is None:
        raise ValueError(
            "--autoscaling: a cluster on this machine cannot grow; give the --address of one that "
            "can"
        )
    if JOB in os.environ:
        _refuse_lost_paths(options.store, options.tracking)
    spec, found = read_sweep(options)
    if options.detach:
        return _detach(options, spec.name)
    # Ray and MLflow take seconds to import, which a faulty file need not wait for.
    from occse.pipeline import check_files, scored_fields
    from sweeps.cluster.connection import Cluster
    from sweeps.driver.remake import compare, set_aside
    from sweeps.driver.sweep import run_sweep
    from sweeps.progress.screen import Screen
    from sweeps.selection.study import Search
    from sweeps.spec.trials import distinct_nodes
    from sweeps.store.store import Store
    from sweeps.tracking.writer import Tracking

    store = Store(options.store)
    suggestions = Search(spec, store=store, first=len(found)) if spec.search else None
    found += suggestions.known() if suggestions else []
    nodes = distinct_nodes(found)
    here = store.present(nodes.values())
    # A finished artifact needs no weight file any more.
    check_files((node for node in nodes.values() if node.fingerprint not in here), spec.weights)
    forced = set_aside(store, found, options.force) if options.force else []
    forced += _changed(options, store, nodes)
    cluster = Cluster(
        address=options.address,
        num_cpus=options.num_cpus,
        max_concurrent=options.max_concurrent,
        autoscaling=options.autoscaling,
        weight=options.weight,
    )
    tracking = Tracking(options.tracking, spec=spec, source=str(options.spec.absolute()))
    with Screen() as screen:
        summary = run_sweep(
            spec,
            found,
            store=store,
            tracking=tracking,
            cluster=cluster,
            say=screen.say,
            show=screen.show if screen.live else None,
            again=options.again,
            suggestions=suggestions,
        )
    print("\n".join([summary.describe(), *compare(store, forced)]), flush=True)
    # Nothing reached MLflow, of which a table is made.
    if summary.unrecorded == len(found):
        return 1
    if any(node.field in scored_fields() for node in nodes.values()):
        _show_table(spec.name, tracking)
    else:
        print("\nNo stage of this sweep is scored, so there is no table.")
    _show_server(tracking)
    return 0 if summary.well else 1


def _detach(options: argparse.Namespace, name: str) -> int:
    """Run the same command in the background, and say how to see and end it."""
    from sweeps.driver.detached import log_path, start
    from sweeps.progress.status import sweep_key
    from sweeps.store.store import Store
    from sweeps.tracking.database import place

    store = Store(options.store)
    store.check_writable()
    # argparse takes unambiguous beginnings of an option too.
    words = [word for word in options.words if len(word) < 4 or not DETACH.startswith(word)]
    words, _ = without_password(words)
    records = place(options.tracking)
    code = start(words, store=store, name=name, tracking=records, uri=options.tracking)
    path = log_path(store, sweep_key(name, records))
    if code is not None:
        print(path.read_text(errors="replace"), end="")
        return code
    which = f"{name} --store {masked(options.store)}"
    print(
        f"{name} goes on without this terminal; it prints into {path}\n"
        f"{python()} -m sweeps status {which}\n"
        f"{python()} -m sweeps logs {which} --follow\n"
        f"{python()} -m sweeps stop {which}"
    )
    return 0


def _changed(options: argparse.Namespace, store: "Store", nodes: "Mapping[str, Node]") -> "Forced":
    """Say which stored artifacts other code made, or set them aside so that they are made again."""
    from occse.artifacts.source import ChangedCode, changes
    from sweeps.driver.remake import set_changed_aside

    treatment = ChangedCode(options.changed_code)
    if treatment is ChangedCode.REUSE:
        return []
    reasons = changes(store.manifests_of(nodes.values()), nodes)
    if not reasons:
        return []
    lines = of_other_code(reasons, nodes)
    if treatment is ChangedCode.RERUN:
        print("\n".join([*lines, "They are made again."]), flush=True)
        return set_changed_aside(store, nodes, reasons)
    command = f"{options.again} --changed-code rerun"
    print("\n".join([*lines, f"They are used as they are. To make them again: {command}"]))
    return []


def _refuse_lost_paths(store: str, tracking: str) -> None:
    """Refuse a store or a database in the working folder of a job, which Ray removes at its end.

    Raises:
        ValueError: one of them is a relative path.
    """
    from sweeps.tracking.database import database

    expected = "expected an absolute path in a submitted job, whose working folder Ray removes"
    if "://" not in store and not Path(store).is_absolute():
        raise ValueError(f"--store {store}: {expected}, or a URL such as s3://bucket/prefix")
    path = database(tracking)
    if path is not None and not path.is_absolute():
        raise ValueError(f"--tracking {masked(tracking)}: {expected}, or the URL of a server")


def _show_table(name: str, tracking: "Tracking") -> None:
    """Print the table of the sweep, and keep it on the sweep's run in MLflow."""
    print(flush=True)
    # In a process of its own, because sweeps never imports analysis.
    command = [sys.executable, "-m", "analysis", "table", name]
    # not as an argument, which every user of this machine can read: it may have a password
    environment = os.environ | {TRACKING_URI: tracking.uri}
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [*command, "--allow-mixed", "--copies", folder], env=environment, check=False
        )
        # the table was printed; that it is not in MLflow is told, and no failure of the sweep
        try:
            tracking.attach(Path(folder))
        except (OSError, ValueError) as error:
            print(f"warning: the table is not in MLflow: {error}")


def _show_server(tracking: "Tracking") -> None:
    """Print where MLflow shows the sweep: its saved views, or the list of experiments."""
    uri = tracking.uri
    server = masked(uri).rstrip("/") if uri.startswith("http") else LOCAL
    first, *others = tracking.addresses(server) or [f"{server}{PAGE}"]
    if uri.startswith("http"):
        print(f"\nMLflow: open {first}")
    else:
        print(f"\nMLflow: {python()} -m sweeps mlflow --tracking {masked(uri)}, then open {first}")
    for other in others:
        print(f"  and for charts {other}")
