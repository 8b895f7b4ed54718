"""Options that several commands share, and the plan that they mean."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from occse.artifacts.source import ChangedCode
from occse.naming.yaml_values import plain_value
from occse.pipeline import DATA, TARGETS, Node, default_pipeline, override, plan
from occse.stages.data import InPlace

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]
else:
    # argparse takes no type arguments at run time.
    Commands = argparse._SubParsersAction

# The start of an argument tells which one is meant.
SHOWN_CHARACTERS = 60


class Finding(Exception):  # noqa: N818 - the command worked, the files are at fault
    """A check found faults; the message names them."""


def add_trial(command: argparse.ArgumentParser) -> None:
    """Declare the options that say which trial is meant."""
    command.add_argument(
        "--profile", help="a named set of knobs, such as embedded (default: the stages' defaults)"
    )
    add_set(command, example="cgnet.lr=0.02")
    command.add_argument(
        "--targets",
        nargs="+",
        default=TARGETS,
        metavar="STAGE",
        help=f"the last stages to reach (default: {' '.join(TARGETS)})",
    )
    add_store(command)
    command.add_argument(
        "--data-root", type=Path, metavar="FOLDER", help="your data set, if the data are not drawn"
    )
    command.add_argument(
        "--weights", type=Path, metavar="FOLDER", help="the weight files that `init` knobs name"
    )


def add_store(command: argparse.ArgumentParser) -> None:
    """Declare `--store`."""
    command.add_argument(
        "--store",
        type=Path,
        default=Path("runs/store"),
        metavar="FOLDER",
        help="the artifacts (default: %(default)s)",
    )


def add_set(command: argparse.ArgumentParser, *, example: str) -> None:
    """Declare `--set KNOB=VALUE`."""
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KNOB=VALUE",
        help=f"change a knob, such as {example}; may be repeated",
    )


def add_changed_code(command: argparse.ArgumentParser) -> None:
    """Declare `--changed-code`."""
    command.add_argument(
        "--changed-code",
        type=ChangedCode,
        choices=list(ChangedCode),
        default=ChangedCode.WARN,
        metavar="{reuse,warn,rerun}",
        help="for artifacts that other code made: use them (reuse), use them and say so "
        "(warn, the default), or make them again (rerun)",
    )


def planned(options: argparse.Namespace) -> dict[str, Node]:
    """Return the artifacts of the trial that the options of `add_trial` mean, upstream first.

    Raises:
        ValueError: a profile, a knob, a value, a target or a file is not as expected.
    """
    pipeline = override(default_pipeline(options.profile), assignments(options))
    if options.data_root is not None and not isinstance(pipeline.data, InPlace):
        raise ValueError(
            f"--data-root is {options.data_root}, but data.kind is {pipeline.data.kind!r}, which "
            f"reads no folder; expected --set data.kind=KIND, one of {', '.join(in_place())}"
        )
    return plan(pipeline.resolve(options.data_root, options.weights), targets=options.targets)


def in_place() -> list[str]:
    """Return the kinds of data that are read in the user's folder."""
    return [kind for kind, layout in DATA.items() if issubclass(layout, InPlace)]


def assignments(options: argparse.Namespace) -> dict[str, Any]:
    """Return the knobs of `--set` and their values.

    Raises:
        ValueError: one of them is not a KNOB=VALUE.
    """
    values: dict[str, Any] = {}
    for text in options.set:
        knob, sign, value = text.partition("=")
        if not sign:
            raise ValueError(f"--set {text!r}: expected KNOB=VALUE, such as cgnet.lr=0.02")
        values[knob] = _value(text, value)
    return values


def _value(text: str, value: str) -> object:
    try:
        node = yaml.compose(value, Loader=yaml.SafeLoader)
        return None if node is None else _of_node(node)
    except (yaml.YAMLError, RecursionError):
        raise ValueError(
            f"--set {text[:SHOWN_CHARACTERS]!r}: expected a value as YAML has it, "
            "such as 0.02, cse or [0.5, 1.0]"
        ) from None
    except ValueError as error:
        raise ValueError(f"--set {text[:SHOWN_CHARACTERS]!r}: {error}") from None


def _of_node(node: yaml.Node) -> object:
    """Return the value of a node, with the types that sweep files give to plain values."""
    if isinstance(node, yaml.MappingNode):
        return {key.value: _of_node(value) for key, value in node.value}
    if isinstance(node, yaml.SequenceNode):
        return [_of_node(item) for item in node.value]
    assert isinstance(node, yaml.ScalarNode)
    # In quotes it is text.
    if node.style is not None:
        return node.value
    try:
        return plain_value(node.value, node.tag)
    except ValueError as error:
        raise ValueError(f"{node.value!r} {error}") from None


def make_folder(out: Path) -> None:
    """Make the folder that `--out` names.

    Raises:
        ValueError: it is a file.
    """
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out is {out}, which is a file; expected a folder to write into")
    out.mkdir(parents=True, exist_ok=True)
