"""`python -m analysis compare EXPERIMENT`: differences with interval and p-value."""

import argparse

from analysis.commands.arguments import add_experiment, where_of
from analysis.commands.output import print_passages
from analysis.read.artifacts import SUBSETS
from analysis.read.labels import naming_of, variant_called
from analysis.read.mlflow import load
from analysis.studies.compare import (
    DELTA,
    classes_passage,
    compare,
    compare_classes,
    comparison_passage,
)
from analysis.studies.contrasts import Side, contrast, contrast_passage


def declare(parser: argparse.ArgumentParser) -> None:
    add_experiment(parser)
    parser.add_argument(
        "variants",
        nargs="*",
        metavar="VARIANT",
        help="directly behind EXPERIMENT: one variant against the baseline, or two against each "
        "other, as a table names them",
    )
    parser.add_argument(
        "--where", nargs="+", metavar="KNOB=VALUE", help="the variants with these knobs ..."
    )
    parser.add_argument(
        "--against",
        nargs="+",
        metavar="KNOB=VALUE",
        help="... against those with these, matched over the other knobs (default: the baseline)",
    )
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
    # Not `<= 0`, which is false for NaN too.
    if not options.delta > 0:
        raise ValueError(f"--delta is {options.delta}; expected a difference above 0, in points")
    trials = load(options.experiment, tracking=options.tracking, labels=options.labels)
    naming = naming_of(trials)
    sides = _sides(options)
    if sides:
        found = contrast(
            trials,
            options.stage,
            *sides,
            tracking=options.tracking,
            subset=options.subset,
        )
        passage = contrast_passage(found, options.stage, *sides, naming, subset=options.subset)
    elif options.variant is not None:
        variant = variant_called(options.variant, trials)
        classes = compare_classes(
            trials,
            options.stage,
            variant,
            tracking=options.tracking,
            subset=options.subset,
        )
        passage = classes_passage(classes, options.stage, variant, naming, subset=options.subset)
    else:
        comparisons = compare(
            trials,
            options.stage,
            tracking=options.tracking,
            subset=options.subset,
            # Points on the command line, a fraction inside.
            delta=options.delta / 100,
        )
        passage = comparison_passage(comparisons, options.stage, naming, subset=options.subset)
    print_passages([passage])
    return 0


def _sides(options: argparse.Namespace) -> tuple[Side, Side | None] | None:
    """Return the two sides that the command line names, or None for all variants."""
    if len(options.variants) > 2 or (options.variants and (options.where or options.against)):
        raise ValueError("expected two VARIANTs, or --where with --against, and not both")
    if options.against and not options.where:
        raise ValueError("--against needs --where: which variants are compared with these?")
    if options.variants:
        first, *others = options.variants
        return first, others[0] if others else None
    if options.where:
        return where_of(options.where), where_of(options.against) if options.against else None
    return None
