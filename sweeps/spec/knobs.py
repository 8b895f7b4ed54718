"""Knobs of the pipeline by their dotted names: patterns, types, and how a trial shows them."""

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import cache
from typing import Annotated, Any

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from occse.pipeline import Node, Pipeline, pipeline_class, stage_classes


# By class of the pipeline: a plugin replaces it by one with further fields.
@cache
def _fields_of(pipeline: type[Pipeline]) -> dict[str, list[FieldInfo]]:
    """Return the model fields behind each knob: several where kinds of data share its name."""
    knobs: dict[str, list[FieldInfo]] = {}
    for field in pipeline.model_fields:
        for stage in stage_classes(field):
            for name, info in stage.model_fields.items():
                knobs.setdefault(f"{field}.{name}", []).append(info)
    return knobs


@cache
def _matching(pipeline: type[Pipeline], pattern: str) -> tuple[str, ...]:
    return tuple(knob for knob in _fields_of(pipeline) if fnmatchcase(knob, pattern))


def matching(pattern: str) -> tuple[str, ...]:
    """Return the knobs that an override's key means, `*` standing for any text.

    Those of every kind of data are among them.
    """
    return _matching(pipeline_class(), pattern)


@cache
def _adapters(pipeline: type[Pipeline], knob: str) -> list[TypeAdapter[Any]]:
    adapters = []
    for info in _fields_of(pipeline)[knob]:
        value_type: Any = info.annotation
        # pydantic keeps bounds and validators apart from the type.
        for constraint in info.metadata:
            value_type = Annotated[value_type, constraint]
        adapters.append(TypeAdapter(value_type))
    return adapters


def schemas_of(knob: str) -> list[dict[str, Any]]:
    """Return the JSON schemas of a knob's values, one for each kind of data that has it."""
    return [adapter.json_schema() for adapter in _adapters(pipeline_class(), knob)]


def words_of(knob: str) -> list[str]:
    """Return the values of a knob that takes some words and nothing else; nothing for others."""
    words: list[str] = []
    for schema in schemas_of(knob):
        enumerated = schema.get("enum", [schema["const"]] if "const" in schema else [])
        if not enumerated:
            return []
        words += map(str, enumerated)
    return words


def typed(key: str, value: object) -> object:
    """Return an override's value in the type of its knob, so that `"0.1"` and 0.1 are one value.

    A value that no knob of the key takes stays as it is: the check of the spec refuses it, with
    its place in the file.
    """
    for knob in matching(key):
        for adapter in _adapters(pipeline_class(), knob):
            try:
                return adapter.validate_python(value)
            except ValidationError:
                continue
    return value


def spelled_out(keys: Iterable[str], *, without: Iterable[str]) -> list[str]:
    """Return the knobs that `keys` mean, each once, except those that `without` mean."""
    covered: set[str] = set()
    for key in without:
        covered.update(matching(key))
    knobs: dict[str, None] = {}
    for key in keys:
        knobs |= dict.fromkeys(matching(key))
    return [knob for knob in knobs if knob not in covered]


def active(nodes: Mapping[str, Node], keys: Sequence[str]) -> dict[str, Any]:
    """Return the values of those `keys` that can change a result.

    Their stage is planned, has such a knob, and does not call it inactive.
    """
    values: dict[str, Any] = {}
    for key in keys:
        for knob in matching(key):
            field, name = knob.split(".")
            if field not in nodes:
                continue
            stage = nodes[field].stage
            if name in type(stage).model_fields and name not in stage.inactive():
                values.setdefault(key, getattr(stage, name))
    return values


def label(values: Mapping[str, Any], keys: Sequence[str]) -> str:
    """Return `values` as text.

    A knob stands without its stage where no other of `keys` has its name.
    """
    last = [key.rsplit(".", 1)[-1] for key in keys]
    short = {
        key: name if last.count(name) == 1 else key for key, name in zip(keys, last, strict=True)
    }
    return ", ".join(f"{short[key]}={show(value)}" for key, value in values.items())


def show(value: object) -> str:
    """Return a value as text: lists in parentheses, whole numbers without a point."""
    if isinstance(value, list | tuple):
        return "(" + " ".join(show(item) for item in value) + ")"
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)


def reachable(targets: Iterable[str]) -> set[str]:
    """Return the fields that `targets` may need, whatever the knobs are, without unknown ones."""
    fields = pipeline_class().model_fields
    reached = {target for target in targets if target in fields}
    for field in reversed(fields):
        if field in reached:
            for stage in stage_classes(field):
                reached.update(stage.may_need)
    return reached
