"""`python -m analysis variance EXPERIMENT`: the spread of a score by the seed of each stage."""

import argparse

from analysis.commands.arguments import add_experiment
from analysis.commands.output import print_passages
from analysis.read.labels import labels_of
from analysis.read.mlflow import load
from analysis.studies.variance import variance, variance_passage


def declare(parser: argparse.ArgumentParser) -> None:
    add_experiment(parser)
    parser.add_argument("--stage", default="seg", help="a scored stage (default: %(default)s)")
    parser.add_argument(
        "--no-images", action="store_true", help="leave out what the choice of images adds"
    )


def run(options: argparse.Namespace) -> int:
    """Print the variance components of a score."""
    trials = load(options.experiment, tracking=options.tracking, labels=options.labels)
    found = variance(trials, options.stage, tracking=options.tracking, images=not options.no_images)
    print_passages([variance_passage(found, labels_of(trials))])
    return 0
