"""`python -m analysis correlation EXPERIMENT`: does a better map make a better segmentation."""

import argparse

from analysis.commands.arguments import Commands, add_command
from analysis.read.mlflow import load
from analysis.studies.correlation import correlation, correlation_passages
from analysis.table.grid import passages_markdown


def add(commands: Commands) -> None:
    """Declare the command."""
    help_ = "does a better map make a better segmentation, and what would a choice by the maps have cost"
    add_command(commands, "correlation", hang_together, help_=help_)


def hang_together(options: argparse.Namespace) -> int:
    """Print the correlations between stages, and the regret of gates."""
    trials = load(options.experiment, tracking=options.tracking)
    print(passages_markdown(correlation_passages(correlation(trials))))
    return 0
