"""`python -m analysis compare EXPERIMENT`: differences with interval and p-value."""

import argparse

from analysis.commands.arguments import add_experiment
from analysis.read.artifacts import SUBSETS
from analysis.read.mlflow import load
from analysis.studies.compare import (
    DELTA,
    classes_passage,
    compare,
    compare_classes,
    comparison_passage,
)
from analysis.table.grid import passages_markdown


def declare(parser: argparse.ArgumentParser) -> None:
    add_experiment(parser)
    parser.add_argument("--stage", default="cam", help="a scored stage (default: %(default)s)")
    parser.add_argument(
        "--subset", choices=SUBSETS, default="all", help="multi: images with at least two classes"
    )
    parser.add_argument("--variant", help="the differences of this one, class by class")
    parser.add_argument(
        "--delta",
        type=float,
        default=100 * DELTA,
        metavar="POINTS",
        help="say how many seeds a difference of this size would need (default: %(default)s)",
    )


def run(options: argparse.Namespace) -> int:
    """Print every variant's difference from the baseline, or the differences of one by class."""
    if not options.delta > 0:
        raise ValueError(f"--delta is {options.delta}; expected a difference above 0, in points")
    trials = load(options.experiment, tracking=options.tracking)
    if options.variant is not None:
        classes = compare_classes(
            trials,
            options.stage,
            options.variant,
            tracking=options.tracking,
            subset=options.subset,
        )
        passage = classes_passage(classes, options.stage, options.variant, subset=options.subset)
    else:
        found = compare(
            trials,
            options.stage,
            tracking=options.tracking,
            subset=options.subset,
            delta=options.delta / 100,
        )
        passage = comparison_passage(found, options.stage, subset=options.subset)
    print(passages_markdown([passage]))
    return 0
