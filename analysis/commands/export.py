"""`python -m analysis export EXPERIMENT ... --out FILE.parquet`: trials in one file."""

import argparse
from pathlib import Path

from analysis.commands.arguments import add_experiments
from analysis.commands.output import say_written
from analysis.read.mlflow import load
from analysis.read.parquet import write_export
from occse.naming.counts import number


def declare(parser: argparse.ArgumentParser) -> None:
    add_experiments(parser)
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="a file that ends in .parquet"
    )


def run(options: argparse.Namespace) -> int:
    """Write the file."""
    trials = load(*options.experiments, tracking=options.tracking, labels=options.labels)
    write_export(trials, options.out)
    trials_text = number(len(trials), "trial")
    say_written(options.out, f"{trials_text}; every command reads it in place of an experiment")
    return 0
