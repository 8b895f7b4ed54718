"""`python -m sweeps import EXPERIMENT SOURCE ...`: record results of other programs in MLflow."""

import argparse
from pathlib import Path

from occse.commands.values import natural
from sweeps.commands.arguments import Commands, add_tracking


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "import",
        help="record results of other programs: a CSV file, or outputs of the official code",
    )
    parser.add_argument(
        "experiment", metavar="EXPERIMENT", help="the MLflow experiment; it is created if necessary"
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
        "--unit",
        choices=("fraction", "percent"),
        help="unit of the scores in CSV files (required for them)",
    )
    parser.add_argument(
        "--data-root",
        type=Path,
        metavar="FOLDER",
        help="VOC 2012, to score the CAMs in the folders per image",
    )
    parser.add_argument(
        "--variant", help="variant of the folders' runs, in place of the name in the log"
    )
    parser.add_argument(
        "--seed", type=natural, help="seed of one folder's run, in place of the seed in the log"
    )
    parser.add_argument(
        "--baseline", action="store_true", help="the folders' runs are the baseline"
    )
    parser.set_defaults(command=import_)


def import_(options: argparse.Namespace) -> int:
    """Read all sources, then record the results that are not recorded yet."""
    from sweeps.imports.csv_file import table_runs
    from sweeps.imports.official_code import official_run
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
