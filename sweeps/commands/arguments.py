"""The arguments that several commands share, and how the sweep that they mean is read."""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from sweeps.spec.model import Spec
from sweeps.spec.trials import Trial, load_spec, trials

Commands = Any  # argparse's sub-parsers have no public type


def add_spec(parser: argparse.ArgumentParser, *, optional: bool = False) -> None:
    """The sweep's file, and where its data and weights lie on this machine."""
    parser.add_argument(
        "spec", type=Path, nargs="?" if optional else None, help="the sweep's YAML file"
    )
    parser.add_argument(
        "--data-root", type=Path, help="the user's data set, instead of the spec's data_root"
    )
    parser.add_argument(
        "--weights", type=Path, help="folder of the weight files, instead of the spec's weights"
    )


def add_store(parser: argparse.ArgumentParser) -> None:
    """Where the artifacts lie."""
    help_ = "folder or URL (such as s3://bucket/prefix) of the artifacts (runs/store)"
    parser.add_argument("--store", default="runs/store", help=help_)


def add_tracking(parser: argparse.ArgumentParser) -> None:
    """Where MLflow keeps its runs."""
    default = os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///runs/mlflow.db"
    parser.add_argument("--tracking", default=default, help=f"MLflow's tracking URI ({default})")


def read_sweep(options: argparse.Namespace) -> tuple[Spec, list[Trial]]:
    """The sweep that `add_spec`'s arguments mean, and its trials.

    Raises:
        ValueError: the file is at fault; one line per fault.
    """
    spec = load_spec(options.spec)
    if options.data_root is not None:
        spec = spec.model_copy(update={"data_root": options.data_root})
    if options.weights is not None:
        spec = spec.model_copy(update={"weights": options.weights})
    return spec, trials(spec)


def positive(text: str) -> int:
    """A count of at least 1."""
    return _count(text, least=1)


def natural(text: str) -> int:
    """A count of at least 0."""
    return _count(text, least=0)


def _count(text: str, *, least: int) -> int:
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"expected a count of at least {least}, got {text!r}")
    return int(text)


def python() -> str:
    """This Python as a person would type it here; its environment need not be activated."""
    path, here = Path(sys.executable), Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
