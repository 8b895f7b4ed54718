"""`python -m sweeps reproduce RUN`: run a recorded trial again and compare its metrics."""

import argparse
from pathlib import Path

from occse.commands.values import add_device, at_least_0, chosen_device, natural
from occse.naming.counts import number
from sweeps.commands.arguments import Commands, add_tracking


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "reproduce", help="run a recorded trial again and compare its metrics"
    )
    parser.add_argument(
        "run", metavar="RUN", help="the id of the trial's run in MLflow, or EXPERIMENT/TRIAL"
    )
    add_tracking(parser)
    parser.add_argument(
        "--store",
        default="runs/reproduce",
        metavar="FOLDER",
        help="the artifacts, in a folder for each run (default: %(default)s)",
    )
    parser.add_argument("--data-root", type=Path, metavar="FOLDER", help="your data set")
    parser.add_argument("--weights", type=Path, metavar="FOLDER", help="the weight files")
    add_device(parser)
    parser.add_argument(
        "--workers",
        type=natural,
        default=0,
        metavar="N",
        help="processes beside this one that load data and run CRFs (default: 0)",
    )
    parser.add_argument(
        "--tolerance",
        type=at_least_0,
        help="largest allowed difference of a metric (default: 0 on a CPU, 0.01 on a GPU)",
    )
    parser.set_defaults(command=reproduce)


def reproduce(options: argparse.Namespace) -> int:
    """Rebuild the trial, run it into a store of its own, and print the comparison.

    Returns:
        0 where every recorded metric came out again, else 1.
    """
    from occse.plugins import load_plugins
    from occse.stage import Machine
    from sweeps.driver.reproduce import (
        compare,
        differences,
        rebuild,
        report,
        run_again,
        surroundings,
    )
    from sweeps.store.store import Store
    from sweeps.tracking.query import find_trial

    load_plugins()
    run = find_trial(options.tracking, options.run)
    nodes = rebuild(run)
    rebuilt = f"rebuilt from the params of run {run.info.run_id}"
    print(f"{run.info.run_name}: {number(len(nodes), 'stage')}, {rebuilt}")
    found = list(differences(run, nodes))
    same = ["this code gives every stage the recorded fingerprint"]
    for line in [*(found or same), *surroundings(run)]:
        print(line, flush=True)
    device = chosen_device(options)
    tolerance = options.tolerance
    if tolerance is None:
        # The same code on a CPU gives the same bits; a GPU sums in another order each time.
        tolerance = 0.0 if device == "cpu" else 0.01
    metrics = run_again(
        run,
        nodes,
        Store(f"{options.store}/{run.info.run_id}"),
        say=lambda line: print(line, flush=True),
        machine=Machine(
            device=device,
            workers=options.workers,
            data_root=options.data_root,
            weights=options.weights,
        ),
    )
    compared = compare(run, metrics, tolerance=tolerance)
    print(f"\n{device}, tolerance {tolerance:g}")
    print("\n".join(report(compared)))
    return 0 if all(each.agrees for each in compared) else 1
