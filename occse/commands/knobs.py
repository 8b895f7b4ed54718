"""`occse knobs`: the knobs of the stages, with types, ranges, defaults and meaning."""

import argparse
from collections.abc import Iterator, Mapping
from textwrap import wrap
from typing import Any

from occse.commands.options import Commands
from occse.pipeline import (
    Pipeline,
    default_pipeline,
    pipeline_class,
    profile_names,
    stage_classes,
)
from occse.stage import Stage

# Columns of a usual terminal.
WIDTH = 100
INDENT = "    "
# JSON schema's words for types and bounds, and ours.
TYPES = {"integer": "whole number", "number": "number", "boolean": "true or false"}
BOUNDS = {
    "minimum": "at least",
    "exclusiveMinimum": "above",
    "maximum": "at most",
    "exclusiveMaximum": "below",
}


def add(commands: Commands) -> None:
    command = commands.add_parser("knobs", help="list the knobs: type, range, defaults, meaning")
    command.set_defaults(command=print_knobs)
    command.add_argument(
        "word", nargs="?", help="a stage, or a part of a knob's name or meaning (default: all)"
    )


def print_knobs(options: argparse.Namespace) -> None:
    """Print the knobs that are meant.

    Raises:
        ValueError: there are none.
    """
    lines = list(knobs(options.word))
    if not lines:
        raise ValueError(
            f"no name or meaning of a knob contains {options.word!r}; "
            f"the stages are {', '.join(pipeline_class().model_fields)}"
        )
    print("\n".join(lines))


def knobs(word: str | None = None) -> Iterator[str]:
    """Yield lines about the knobs of the stage `word`, or about those that have it in their text.

    A knob's lines are its name and type, its defaults, and its meaning.
    """
    pipelines = {name: default_pipeline(name) for name in profile_names()}
    default = default_pipeline()
    for field in pipeline_class().model_fields:
        for stage in stage_classes(field):
            for knob, schema in _properties(stage).items():
                name = f"{field}.{knob}"
                meaning = " ".join(schema.get("description", "").split())
                if _is_meant(word, field, knob, meaning):
                    yield f"{name}  {_type(schema)}"
                    yield INDENT + _defaults(field, knob, stage, default, pipelines)
                    yield from wrap(meaning, WIDTH, initial_indent=INDENT, subsequent_indent=INDENT)


def _is_meant(word: str | None, field: str, knob: str, meaning: str) -> bool:
    if word is None or word in pipeline_class().model_fields:
        return word in (None, field)
    # With its field, as messages name knobs; else every knob of deeplab would have "lab".
    if "." in word and f"{field}.{knob}".startswith(word):
        return True
    return word.lower() in f"{knob} {meaning}".lower()


def _properties(stage: type[Stage]) -> Mapping[str, dict[str, Any]]:
    properties: dict[str, dict[str, Any]] = stage.model_json_schema()["properties"]
    return properties


def _type(schema: Mapping[str, Any]) -> str:
    """Return the type of a knob in words, from its JSON schema."""
    if "anyOf" in schema:
        return " or ".join(_type(choice) for choice in schema["anyOf"])
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if "const" in schema:
        return str(schema["const"])
    kind = schema.get("type", "any")
    if kind == "array":
        return f"list of {_type(schema['items'])}s"
    if kind == "null":
        return "null"
    bounds = [f"{word} {schema[key]}" for key, word in BOUNDS.items() if key in schema]
    return ", ".join([TYPES.get(kind, "text"), *bounds])


def _defaults(
    field: str,
    knob: str,
    stage: type[Stage],
    default: Pipeline,
    pipelines: Mapping[str, Pipeline],
) -> str:
    """Return the default of a knob, and its value in the profiles where it is another."""
    of_default = default.stage(field)
    # The field holds another layout of data by default.
    if not isinstance(of_default, stage):
        of_default = stage()
    usual = _value(getattr(of_default, knob))
    others: dict[str, list[str]] = {}
    for name, pipeline in pipelines.items():
        of_profile = pipeline.stage(field)
        if isinstance(of_profile, stage):
            value = _value(getattr(of_profile, knob))
            if value != usual:
                others.setdefault(value, []).append(name)
    differing = [f"{value} in {', '.join(names)}" for value, names in others.items()]
    return "; ".join([f"default {usual}", *differing])


def _value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, str):
        return value or "''"
    return "null" if value is None else f"{value:g}"
