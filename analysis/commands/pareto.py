"""`python -m analysis pareto EXPERIMENT`: what a score costs, and which variants nothing else
beats.
"""

import argparse

from analysis.commands.arguments import Commands, add_command
from analysis.read.mlflow import load
from analysis.studies.pareto import pareto, pareto_text


def add(commands: Commands) -> None:
    """Declare the command."""
    help_ = "what a score costs, and which variants nothing else beats"
    parser = add_command(commands, "pareto", costs, help_=help_)
    parser.add_argument("--metric", default="seg/miou", help="the score (default: %(default)s)")


def costs(options: argparse.Namespace) -> int:
    """Print cost and score of every variant."""
    trials = load(options.experiment, tracking=options.tracking)
    print(pareto_text(pareto(trials, metric=options.metric)))
    return 0
