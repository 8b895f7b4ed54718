"""`python -m analysis correlation EXPERIMENT`: does a better map make a better segmentation."""

import argparse

from analysis.commands.arguments import add_experiment
from analysis.commands.output import print_passages
from analysis.read.labels import labels_of
from analysis.read.mlflow import load
from analysis.studies.correlation import correlation, correlation_passages


def declare(parser: argparse.ArgumentParser) -> None:
    add_experiment(parser)


def run(options: argparse.Namespace) -> int:
    """Print the correlations between stages, and the regret of gates."""
    trials = load(options.experiment, tracking=options.tracking, labels=options.labels)
    print_passages(correlation_passages(correlation(trials), labels_of(trials)))
    return 0
