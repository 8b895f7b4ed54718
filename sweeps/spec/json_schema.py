"""The JSON schema of a sweep file, for editors."""

from typing import Any

from occse.pipeline import Pipeline, default_pipeline, stage_classes
from sweeps.spec.gates import gate_fields
from sweeps.spec.knobs import matching, schemas_of
from sweeps.spec.model import Spec

DIALECT = "https://json-schema.org/draft/2020-12/schema"
DERIVED = {"type": "string", "pattern": "^=", "description": "An expression over other knobs."}


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of a sweep file.

    Editors complete keys and knobs by it, show type, default and meaning of each, and underline
    what is refused.
    """
    schema = Spec.model_json_schema()
    sections = schema["properties"]
    overrides: dict[str, Any] = {}
    axes: dict[str, Any] = {}
    defaults = default_pipeline()
    for knob in matching("*"):
        value = {"anyOf": _forms(knob)}
        values = {"type": "array", "minItems": 1, "items": value}
        facts = _facts(defaults, knob)
        overrides[knob] = facts | value
        axes[knob] = facts | {"anyOf": [values, {"$ref": "#/$defs/Axis"}]}
    (variant,) = sections["variants"]["patternProperties"].values()
    for section in (sections["base"], sections["baseline"]["anyOf"][0], variant):
        section["allOf"] = [{"$ref": "#/$defs/Overrides"}]
    for section in (sections["grid"], schema["$defs"]["SearchSpec"]["properties"]["space"]):
        section["allOf"] = [{"$ref": "#/$defs/Axes"}]
    schema["$defs"] |= {"Overrides": {"properties": overrides}, "Axes": {"properties": axes}}
    schema["$defs"]["Gate"]["properties"]["after"]["enum"] = list(gate_fields())
    return schema | {"$schema": DIALECT}


def _facts(defaults: Pipeline, knob: str) -> dict[str, Any]:
    """Return default and meaning of a knob; the default is the pipeline's, not the class's."""
    field, name = knob.split(".")
    stage = defaults.stage(field)
    if name not in type(stage).model_fields:  # a knob of another kind of data
        stage = next(kind() for kind in stage_classes(field) if name in kind.model_fields)
    facts = {"default": stage.model_dump(mode="json")[name]}
    if description := type(stage).model_fields[name].description:
        facts["description"] = description
    return facts


def _forms(knob: str) -> list[dict[str, Any]]:
    """Return the forms of a value; kinds of data may give one name several types."""
    forms: list[dict[str, Any]] = []
    for form in schemas_of(knob):
        if form not in forms:
            forms.append(form)
    return [*forms, DERIVED]
