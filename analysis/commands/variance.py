"""`python -m analysis variance EXPERIMENT`: how much of a score's spread comes from the seed of
which stage.
"""

import argparse

from analysis.commands.arguments import Commands, add_command
from analysis.read.mlflow import load
from analysis.studies.variance import variance, variance_passage
from analysis.table.grid import passages_markdown


def add(commands: Commands) -> None:
    """Declare the command."""
    help_ = "how much of a score's spread comes from the seed of which stage"
    parser = add_command(commands, "variance", of_seeds, help_=help_)
    parser.add_argument(
        "--stage", default="seg", help="a scored stage: cam, crf, pseudo, seg (default)"
    )
    parser.add_argument(
        "--no-images", action="store_true", help="leave out what the choice of images adds"
    )


def of_seeds(options: argparse.Namespace) -> int:
    """Print the variance components of a score."""
    trials = load(options.experiment, tracking=options.tracking)
    found = variance(trials, options.stage, tracking=options.tracking, images=not options.no_images)
    print(passages_markdown([variance_passage(found)]))
    return 0
