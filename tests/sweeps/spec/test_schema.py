"""The JSON schema against the files that the check accepts and refuses."""

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from sweeps.__main__ import main
from sweeps.spec.document import read_document

SPECS = sorted((Path(__file__).parents[3] / "sweeps" / "specs").rglob("*.yaml"))


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        assert main(["schema"]) == 0
    printed: dict[str, Any] = json.loads(output.getvalue())
    jsonschema.Draft202012Validator.check_schema(printed)
    return printed


def faults(schema: dict[str, Any], path: Path) -> list[str]:
    values = read_document(path).values
    errors = jsonschema.Draft202012Validator(schema).iter_errors(values)
    return sorted({error.json_path for error in errors})


def test_every_sweep_that_we_ship_fits_the_schema(schema: dict[str, Any]) -> None:
    assert len(SPECS) > 6
    assert {path.name: faults(schema, path) for path in SPECS} == {path.name: [] for path in SPECS}


HEAD = "name: s\nquestion: q\n"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("grd: {}\n", "$"),
        ("seeds: 0\n", "$.seeds"),
        ("seeds: {oc: -1}\n", "$.seeds"),
        ("grid: {oc.lr: {frm: 1}}\n", "$.grid['oc.lr']"),
        ("gates: [{after: oc, asha: 2}]\n", "$.gates[0].after"),
        ("limits: {gpu_hours: 0}\n", "$.limits.gpu_hours"),
        ("search: {trials: 2, space: {oc.lr: [1]}}\n", "$.search"),
        ("base: {oc.lr: fast}\n", "$.base['oc.lr']"),
        ("grid: {cam.source: [oc, cg]}\n", "$.grid['cam.source']"),
        ("baseline: {cgnet.epochs: 1.5}\n", "$.baseline"),
    ],
)
def test_schema_refuses_what_the_check_refuses(
    schema: dict[str, Any], text: str, place: str, tmp_path: Path
) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(HEAD + text)
    assert faults(schema, path) == [place]


def test_schema_completes_knobs_with_type_default_and_meaning(schema: dict[str, Any]) -> None:
    for section, definition in (("base", "Overrides"), ("grid", "Axes")):
        assert schema["properties"][section]["allOf"] == [{"$ref": f"#/$defs/{definition}"}]
        knobs = schema["$defs"][definition]["properties"]
        assert {"cgnet.lambda_start", "data.num_train"} <= knobs.keys()
        assert knobs["crf.alpha"]["default"] == 10
    alpha = schema["$defs"]["Overrides"]["properties"]["crf.alpha"]
    assert alpha["anyOf"][0] == {"exclusiveMinimum": 0, "type": "number"}
