"""What sets two profiles apart, knob by knob."""

import json
from collections.abc import Iterator, Mapping
from textwrap import wrap

from occse.method.crf import alpha_text
from occse.pipeline import default_pipeline, pipeline_class, plan

DEFAULT = "default"
WIDTH = 120


def explain(first: str, second: str = DEFAULT) -> Iterator[str]:
    """A table of the knobs that two profiles set to different values, then those with an effect in
    one of them only.

    A knob has no effect where other knobs say so, or where its stage is not planned. The name
    "default" is no profile.

    Raises:
        ValueError: there is no profile of one of these names.
    """
    ours, theirs = _values(first), _values(second)
    different = [knob for knob in ours if knob in theirs and ours[knob] != theirs[knob]]
    table = [("knob", first, second), *((knob, ours[knob], theirs[knob]) for knob in different)]
    widths = [max(len(row[column]) for row in table) for column in range(2)]
    for knob, one, other in table:
        yield f"{knob:<{widths[0]}}  {one:<{widths[1]}}  {other}"
    yield from _only(first, ours, beside=theirs)
    yield from _only(second, theirs, beside=ours)


def _only(name: str, values: Mapping[str, str], *, beside: Mapping[str, str]) -> Iterator[str]:
    if listed := [f"{knob}={value}" for knob, value in values.items() if knob not in beside]:
        yield f"with an effect in {name} only:"
        yield from wrap(
            ", ".join(listed),
            WIDTH,
            initial_indent="  ",
            subsequent_indent="  ",
            break_on_hyphens=False,
        )


def _values(name: str) -> dict[str, str]:
    """The active knobs of a profile's planned stages, in the order of the pipeline, as text."""
    pipeline = default_pipeline(None if name == DEFAULT else name)
    nodes = plan(pipeline)
    configs = {
        field: nodes[field].stage.config()
        for field in pipeline_class().model_fields
        if field in nodes
    }
    return {
        f"{f}.{knob}": _text(knob, value)
        for f, config in configs.items()
        for knob, value in config.items()
    }


def _text(knob: str, value: object) -> str:
    """The value, and beside an alpha the threshold that it implies."""
    if knob.startswith("alpha") and isinstance(value, float):
        return alpha_text(value)
    return value if isinstance(value, str) else json.dumps(value)
