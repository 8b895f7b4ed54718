"""`python -m analysis compare EXPERIMENT`: differences from the baseline, with interval and
p-value.
"""

import argparse

from analysis.commands.arguments import Commands, add_command
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


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = add_command(
        commands,
        "compare",
        differences,
        help_="differences from the baseline, with interval and p-value",
    )
    parser.add_argument(
        "--stage", default="cam", help="a scored stage: cam (default), crf, pseudo, seg"
    )
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


def differences(options: argparse.Namespace) -> int:
    """Print every variant's difference from the baseline with its uncertainty, or one's by class."""
    if not options.delta > 0:
        raise ValueError(f"--delta is {options.delta}; expected a difference above 0, in points")
    trials, tracking, subset = (
        load(options.experiment, tracking=options.tracking),
        options.tracking,
        options.subset,
    )
    if options.variant is not None:
        classes = compare_classes(
            trials, options.stage, options.variant, tracking=tracking, subset=subset
        )
        passage = classes_passage(classes, options.stage, options.variant, subset=subset)
        print(passages_markdown([passage]))
        return 0
    found = compare(
        trials, options.stage, tracking=tracking, subset=subset, delta=options.delta / 100
    )
    print(passages_markdown([comparison_passage(found, options.stage, subset=subset)]))
    return 0
