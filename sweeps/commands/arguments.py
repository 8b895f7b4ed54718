"""Arguments that several commands share, and the reading of the sweep that they name."""

import argparse
import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from occse.artifacts.secrets import MASK, masked
from occse.naming.counts import number
from sweeps.tracking.database import place

if TYPE_CHECKING:
    from occse.pipeline import Node
    from sweeps.spec.model import Spec
    from sweeps.spec.trials import Trial

# MLflow's own variable
TRACKING_URI = "MLFLOW_TRACKING_URI"
# argparse's sub-parsers have no public type
Commands = Any


def add_spec(parser: argparse.ArgumentParser, *, optional: bool = False) -> None:
    """Add the sweep's file, and the folders of its data and weights on this machine."""
    parser.add_argument(
        "spec", type=Path, nargs="?" if optional else None, help="the sweep's YAML file"
    )
    parser.add_argument(
        "--data-root",
        type=Path,
        metavar="FOLDER",
        help="your data set, in place of data_root in the sweep's file",
    )
    parser.add_argument(
        "--weights",
        type=Path,
        metavar="FOLDER",
        help="the weight files, in place of weights in the sweep's file",
    )


def add_store(parser: argparse.ArgumentParser) -> None:
    """Add the place of the artifacts."""
    help_ = "the artifacts: a folder, or a URL such as s3://bucket/prefix (default: %(default)s)"
    parser.add_argument("--store", default="runs/store", help=help_)


def add_tracking(parser: argparse.ArgumentParser) -> None:
    """Add the place of MLflow's runs."""
    default = os.environ.get(TRACKING_URI) or "sqlite:///runs/mlflow.db"
    help_ = f"MLflow's tracking URI (default: {masked(default).replace('%', '%%')})"
    parser.add_argument("--tracking", type=tracking_uri, default=default, metavar="URI", help=help_)


def add_place(parser: argparse.ArgumentParser) -> None:
    """Add the choice among sweeps of one name that are recorded at different places."""
    parser.add_argument(
        "--tracking",
        type=place,
        dest="place",
        default="",
        metavar="URI",
        help="MLflow's tracking URI, if sweeps of this name are recorded at several places",
    )


def tracking_uri(text: str) -> str:
    """Return a tracking URI with its password.

    Where `***` stands for it, as in commands that this program prints, the environment must have
    the same URI with its password.
    """
    if text != masked(text) or MASK not in text:
        return text
    whole = os.environ.get(TRACKING_URI, "")
    if masked(whole) != text:
        raise argparse.ArgumentTypeError(
            f"{text}: expected a password instead of {MASK}, or the same URI with its password in "
            f"the environment variable {TRACKING_URI}"
        )
    return whole


def without_password(words: Sequence[str]) -> tuple[list[str], str]:
    """Return a command line with `***` for the password of its tracking URI, and that URI.

    The URI is empty where the command has no such password.
    """
    hidden = list(words)
    for index, word in enumerate(words):
        option, equals, uri = word.partition("=")
        if not equals:
            option = words[index - 1]
            uri = word
        # argparse takes unambiguous beginnings of an option too
        if len(option) > 2 and "--tracking".startswith(option) and masked(uri) != uri:
            hidden[index] = word.replace(uri, masked(uri))
            return hidden, uri
    return hidden, ""


def read_sweep(options: argparse.Namespace) -> "tuple[Spec, list[Trial]]":
    """Read, check and expand the sweep that `add_spec`'s arguments name, once per command.

    Raises:
        ValueError: the file is at fault; one line per fault.
    """
    from sweeps.spec.trials import load_sweep

    return load_sweep(options.spec, data_root=options.data_root, weights=options.weights)


def add_changed_code(parser: argparse.ArgumentParser) -> None:
    """Declare `--changed-code`."""
    parser.add_argument(
        "--changed-code",
        choices=("reuse", "warn", "rerun"),
        default="warn",
        help="for artifacts that other code made: use them (reuse), use them and say so "
        "(warn, the default), or make them again (rerun)",
    )


def of_other_code(reasons: Mapping[str, str], nodes: "Mapping[str, Node]") -> list[str]:
    """Return lines about stored artifacts that other code made: one per stage and reason.

    Args:
        reasons: the reason for each of them, by fingerprint.
        nodes: the artifacts of the sweep, by fingerprint.
    """
    counts = Counter((nodes[fingerprint].field, why) for fingerprint, why in reasons.items())
    lines = [f"  {field}: {count} {why}" for (field, why), count in counts.items()]
    return [f"{number(len(reasons), 'artifact')} in the store made by other code:", *lines]


def python() -> str:
    """Return the path of this Python as a person would type it in this folder.

    A printed command works with it although its environment may not be activated.
    """
    path = Path(sys.executable)
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
