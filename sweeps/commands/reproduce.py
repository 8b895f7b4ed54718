"""`python -m sweeps reproduce RUN`: run a recorded trial again and compare its metrics."""

import argparse
from pathlib import Path

from occse.naming.counts import number
from sweeps.commands.arguments import Commands, add_tracking, natural


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
        help="folder of its artifacts, with a folder of its own for each run (runs/reproduce)",
    )
    parser.add_argument("--data-root", type=Path, help="the user's data set")
    parser.add_argument("--weights", type=Path, help="folder of the weight files")
    parser.add_argument("--device", help="cpu or cuda (cuda where there is one)")
    parser.add_argument("--workers", type=natural, default=0, help="processes beside this one (0)")
    parser.add_argument(
        "--tolerance",
        type=float,
        help="largest allowed difference of a metric (0 on a CPU, 0.01 on a GPU)",
    )
    parser.set_defaults(command=reproduce)


def reproduce(options: argparse.Namespace) -> int:
    """Rebuild the trial, run it into a store of its own, and print the comparison.

    Returns:
        0 where every recorded metric came out again, else 1.
    """
    import torch

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
    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
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
