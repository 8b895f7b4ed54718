"""The arguments that several commands share."""

import argparse

EXPERIMENT = "name of a sweep, or a file that `export` wrote"


def add_experiment(parser: argparse.ArgumentParser) -> None:
    """Add the experiment that a command reads, and where MLflow keeps it."""
    parser.add_argument("experiment", metavar="EXPERIMENT", help=EXPERIMENT)
    _add_tracking(parser)


def add_experiments(parser: argparse.ArgumentParser) -> None:
    """Add the experiments that a command reads together, and where MLflow keeps them."""
    parser.add_argument("experiments", nargs="+", metavar="EXPERIMENT", help=EXPERIMENT)
    _add_tracking(parser)


def _add_tracking(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--tracking",
        metavar="URI",
        help="default: MLFLOW_TRACKING_URI, else sqlite:///runs/mlflow.db",
    )
