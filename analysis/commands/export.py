"""`python -m analysis export EXPERIMENT ... --out FILE.parquet`: trials in one file."""

import argparse
from pathlib import Path

from analysis.commands.arguments import add_experiments
from analysis.read.mlflow import load
from analysis.read.parquet import write_export


def declare(parser: argparse.ArgumentParser) -> None:
    add_experiments(parser)
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="a file that ends in .parquet"
    )


def run(options: argparse.Namespace) -> int:
    """Write the file."""
    trials = load(*options.experiments, tracking=options.tracking, labels=options.labels)
    write_export(trials, options.out)
    print(f"{options.out}: {len(trials)} trials; every command reads it in place of an experiment")
    return 0
