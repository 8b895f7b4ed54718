"""`python -m analysis effects EXPERIMENT`: main effects, interactions, importance of the knobs."""

import argparse

from analysis.commands.arguments import add_experiment
from analysis.commands.output import print_passages
from analysis.read.labels import naming_of
from analysis.read.mlflow import load
from analysis.studies.effects import effects, effects_passages


def declare(parser: argparse.ArgumentParser) -> None:
    add_experiment(parser)
    parser.add_argument("--metric", default="pseudo/miou", help="the score (default: %(default)s)")


def run(options: argparse.Namespace) -> int:
    """Print the effects of the knobs on a score."""
    trials = load(options.experiment, tracking=options.tracking, labels=options.labels)
    found = effects(trials, metric=options.metric)
    print_passages(effects_passages(found, naming_of(trials)))
    return 0
