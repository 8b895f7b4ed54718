"""`python -m sweeps import EXPERIMENT SOURCE ...`: old results into MLflow, beside those of sweeps."""

import argparse
from pathlib import Path

from sweeps.commands.arguments import Commands, add_tracking, natural


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "import", help="record old results: a CSV file, or outputs of the official code"
    )
    parser.add_argument(
        "experiment", metavar="EXPERIMENT", help="the MLflow experiment; made where there is none"
    )
    parser.add_argument(
        "sources",
        type=Path,
        nargs="+",
        metavar="SOURCE",
        help="a .csv file, or a folder experiments/NAME of KAIST-vilab/OC-CSE",
    )
    add_tracking(parser)
    parser.add_argument(
        "--unit", choices=("fraction", "percent"), help="of the scores in CSV files"
    )
    parser.add_argument(
        "--data-root",
        type=Path,
        help="VOC 2012: the CAMs in the folders are scored anew, per image",
    )
    parser.add_argument("--variant", help="of the folders' runs, instead of the name in the log")
    parser.add_argument(
        "--seed", type=natural, help="of one folder's run, instead of the seed in the log"
    )
    parser.add_argument(
        "--baseline", action="store_true", help="the folders' runs are the baseline"
    )
    parser.set_defaults(command=import_)


def import_(options: argparse.Namespace) -> int:
    """Read all sources, then record what is not there yet."""
    from sweeps.imports.csv_file import table_runs
    from sweeps.imports.official_code import (
        official_run,  # imports torch, which a faulty command line need not wait for
    )
    from sweeps.imports.runs import OldRun, import_runs

    runs: list[OldRun] = []
    for source in options.sources:
        if source.is_dir():
            runs.append(
                official_run(
                    source,
                    variant=options.variant,
                    seed=options.seed,
                    baseline=options.baseline,
                    data_root=options.data_root,
                )
            )
        else:
            runs += table_runs(source, unit=options.unit)
    for line in import_runs(options.tracking, options.experiment, runs):
        print(line, flush=True)
    for run in runs:
        for note in run.notes:
            print(f"{run.name}: {note}")
    return 0
