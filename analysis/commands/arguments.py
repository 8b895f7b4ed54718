"""The arguments that several commands share."""

import argparse
from collections.abc import Iterable
from pathlib import Path

import yaml

from analysis.read.source.connect import page_address, server_address
from analysis.read.yaml_file import Where

# The start of an argument tells which one is meant.
SHOWN_CHARACTERS = 60
SCHEMES = ("http://", "https://")
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
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="FILE",
        help="a YAML file with names for people, such as `cgnet.erasing=cse: CSE`; they come "
        "before those of the sweep's file",
    )


def add_mlflow_pages(parser: argparse.ArgumentParser) -> None:
    """Add the address at which the readers of an HTML page see MLflow."""
    parser.add_argument(
        "--tracking-url",
        "--mlflow",
        dest="mlflow",
        metavar="URL",
        default="",
        help="where readers see MLflow's pages, for the links of runs in HTML (default: --tracking "
        "if it is a server, else no links)",
    )


def mlflow_pages(options: argparse.Namespace) -> str:
    """Return the address of MLflow's pages for links; empty where none is known.

    Raises:
        ValueError: `--tracking-url` is not an address of a page.
    """
    if options.mlflow and not options.mlflow.startswith(SCHEMES):
        raise ValueError(f"--tracking-url {options.mlflow}: expected http://... or https://...")
    return page_address(options.mlflow) or server_address(options.tracking)


def where_of(conditions: Iterable[str]) -> Where:
    """Return what `--where KNOB=VALUE ...` says; a value is read as YAML, so it may be a list.

    Raises:
        ValueError: a condition has no `=`, or its value is not YAML.
    """
    where: Where = {}
    for condition in conditions:
        knob, sign, value = condition.partition("=")
        if not sign:
            raise ValueError(
                f"--where {condition!r}: expected KNOB=VALUE, such as cgnet.erasing=cse or "
                "'lambda_start=[1, 3]'"
            )
        try:
            where[knob] = yaml.safe_load(value)
        except (yaml.YAMLError, RecursionError):
            raise ValueError(
                f"--where {condition[:SHOWN_CHARACTERS]!r}: expected a value as YAML has it, such "
                "as 6, cse or [cse, class_agnostic]"
            ) from None
    return where
