"""`python -m analysis export EXPERIMENT ... --out FILE.parquet`: trials in a file, for tables
without a server.
"""

import argparse
from pathlib import Path

from analysis.commands.arguments import Commands, add_command
from analysis.read.mlflow import load
from analysis.read.parquet import write_export


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = add_command(
        commands,
        "export",
        export,
        help_="all trials in one Parquet file, to read instead",
        several=True,
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="a file that ends in .parquet"
    )


def export(options: argparse.Namespace) -> int:
    """Write the file."""
    trials = load(*options.experiments, tracking=options.tracking)
    write_export(trials, options.out)
    print(
        f"{len(trials)} trials in {options.out}; every command reads it in place of an experiment's name"
    )
    return 0
