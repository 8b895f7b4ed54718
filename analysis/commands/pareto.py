"""`python -m analysis pareto EXPERIMENT`: cost against score."""

import argparse

from analysis.commands.arguments import add_experiment
from analysis.commands.output import print_passages
from analysis.read.labels import naming_of
from analysis.read.mlflow import load
from analysis.studies.pareto import pareto, pareto_passage


def declare(parser: argparse.ArgumentParser) -> None:
    add_experiment(parser)
    parser.add_argument("--metric", default="seg/miou", help="the score (default: %(default)s)")


def run(options: argparse.Namespace) -> int:
    """Print cost and score of every variant."""
    trials = load(options.experiment, tracking=options.tracking, labels=options.labels)
    found = pareto(trials, metric=options.metric)
    print_passages([pareto_passage(found, naming_of(trials))])
    return 0
