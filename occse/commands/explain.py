"""`occse explain`: the knobs in which two profiles differ."""

import argparse
import json
from collections.abc import Iterator, Mapping
from textwrap import wrap

from occse.commands.options import Commands
from occse.method.crf import alpha_text
from occse.pipeline import default_pipeline, pipeline_class, plan

DEFAULT = "default"
# Columns of a wide terminal; the longest knob and its two values stay on one line.
WIDTH = 120


def add(commands: Commands) -> None:
    command = commands.add_parser("explain", help="list the knobs in which two profiles differ")
    command.set_defaults(command=print_differences)
    command.add_argument("profile", help="such as reference, paper, modern, embedded")
    command.add_argument(
        "other", nargs="?", default=DEFAULT, help="another profile (default: the stages' defaults)"
    )


def print_differences(options: argparse.Namespace) -> None:
    """Print the knobs in which two profiles differ."""
    print("\n".join(explain(options.profile, options.other)))


def explain(first: str, second: str = DEFAULT) -> Iterator[str]:
    """Yield a table of the knobs that two profiles set to different values.

    The knobs with an effect in one of them only follow. A knob has no effect where other knobs say
    so, or where its stage is not planned. The name "default" is not a profile.

    Raises:
        ValueError: there is no profile of one of these names.
    """
    ours = _values(first)
    theirs = _values(second)
    different = [knob for knob in ours if knob in theirs and ours[knob] != theirs[knob]]
    table = [("knob", first, second), *((knob, ours[knob], theirs[knob]) for knob in different)]
    knob_width = max(len(knob) for knob, _, _ in table)
    value_width = max(len(value) for _, value, _ in table)
    for knob, one, other in table:
        yield f"{knob:<{knob_width}}  {one:<{value_width}}  {other}"
    yield from _only(first, ours, beside=theirs)
    yield from _only(second, theirs, beside=ours)


def _only(name: str, values: Mapping[str, str], *, beside: Mapping[str, str]) -> Iterator[str]:
    listed = [f"{knob}={value}" for knob, value in values.items() if knob not in beside]
    if listed:
        yield f"with an effect in {name} only:"
        yield from wrap(
            ", ".join(listed),
            WIDTH,
            initial_indent="  ",
            subsequent_indent="  ",
            break_on_hyphens=False,
        )


def _values(name: str) -> dict[str, str]:
    """Return the active knobs of a profile's planned stages, in the order of the pipeline."""
    nodes = plan(default_pipeline(None if name == DEFAULT else name))
    values: dict[str, str] = {}
    for field in pipeline_class().model_fields:
        if field in nodes:
            for knob, value in nodes[field].stage.config().items():
                values[f"{field}.{knob}"] = _text(knob, value)
    return values


def _text(knob: str, value: object) -> str:
    """Return the value as text, and beside an alpha the threshold that it implies."""
    if knob.startswith("alpha") and isinstance(value, float):
        return alpha_text(value)
    return value if isinstance(value, str) else json.dumps(value)
