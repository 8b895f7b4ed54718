"""The knobs of the pipeline by their dotted names: which ones a pattern means, and how a trial
shows them.
"""

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import cache
from typing import Any, get_args

from occse.pipeline import Node, pipeline_class


@cache
def _knobs() -> tuple[str, ...]:
    knobs: dict[str, None] = {}
    for field, info in pipeline_class().model_fields.items():
        for stage in get_args(info.annotation) or (info.annotation,):
            knobs |= dict.fromkeys(f"{field}.{knob}" for knob in stage.model_fields)
    return tuple(knobs)


@cache
def matching(pattern: str) -> tuple[str, ...]:
    """The knobs that an override's key means, `*` standing for any text; of every kind of data."""
    return tuple(knob for knob in _knobs() if fnmatchcase(knob, pattern))


def spelled_out(keys: Iterable[str], *, without: Iterable[str]) -> list[str]:
    """The knobs that `keys` mean, each once, except those that `without` mean."""
    covered = {knob for key in without for knob in matching(key)}
    knobs = dict.fromkeys(knob for key in keys for knob in matching(key))
    return [knob for knob in knobs if knob not in covered]


def active(nodes: Mapping[str, Node], keys: Sequence[str]) -> dict[str, Any]:
    """Values of those `keys` that can change a result: their stage is planned and does not call
    them inactive.
    """
    values: dict[str, Any] = {}
    for key in keys:
        for knob in matching(key):
            field, name = knob.split(".")
            stage = nodes[field].stage if field in nodes else None
            if (
                stage is not None
                and name in type(stage).model_fields
                and name not in stage.inactive()
            ):
                values.setdefault(key, getattr(stage, name))
    return values


def label(values: Mapping[str, Any], keys: Sequence[str]) -> str:
    """`values` for people: a knob stands without its stage where it is the only one of that name
    among `keys`.
    """
    last = [key.rsplit(".", 1)[-1] for key in keys]
    short = {
        key: name if last.count(name) == 1 else key for key, name in zip(keys, last, strict=True)
    }
    return ", ".join(f"{short[key]}={show(value)}" for key, value in values.items())


def show(value: object) -> str:
    """A value for people."""
    if isinstance(value, list | tuple):
        return "(" + " ".join(show(item) for item in value) + ")"
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)
