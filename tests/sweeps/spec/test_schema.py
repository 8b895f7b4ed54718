import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from sweeps.__main__ import main

SPECS = sorted((Path(__file__).parents[3] / "sweeps" / "specs").rglob("*.yaml"))


@pytest.fixture
def schema(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main(["schema"]) == 0
    printed: dict[str, Any] = json.loads(capsys.readouterr().out)
    jsonschema.Draft202012Validator.check_schema(printed)
    return printed


def faults(schema: dict[str, Any], text: str) -> list[str]:
    return [
        error.json_path
        for error in jsonschema.Draft202012Validator(schema).iter_errors(yaml.safe_load(text))
    ]


def test_every_sweep_that_we_ship_fits_the_schema(schema: dict[str, Any]) -> None:
    assert len(SPECS) > 6
    assert {path.name: faults(schema, path.read_text()) for path in SPECS} == {
        path.name: [] for path in SPECS
    }


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
    ],
)
def test_the_schema_refuses_what_we_refuse(schema: dict[str, Any], text: str, place: str) -> None:
    assert faults(schema, HEAD + text) == [place]


def test_editors_can_complete_knobs(schema: dict[str, Any]) -> None:
    for section in ("base", "grid"):
        assert {"cgnet.lambda_start", "data.num_train"} <= schema["properties"][section][
            "properties"
        ].keys()
