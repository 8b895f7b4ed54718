"""`python -m analysis pareto EXPERIMENT`: what a score costs, and which variants nothing else
beats.
"""

import argparse

from analysis.commands.arguments import Commands, add_command
from analysis.read.mlflow import load
from analysis.studies.pareto import pareto, pareto_passage
from analysis.table.grid import passages_markdown


def add(commands: Commands) -> None:
    """Declare the command."""
    help_ = "what a score costs, and which variants nothing else beats"
    parser = add_command(commands, "pareto", costs, help_=help_)
    parser.add_argument("--metric", default="seg/miou", help="the score (default: %(default)s)")


def costs(options: argparse.Namespace) -> int:
    """Print cost and score of every variant."""
    trials = load(options.experiment, tracking=options.tracking)
    print(passages_markdown([pareto_passage(pareto(trials, metric=options.metric))]))
    return 0
