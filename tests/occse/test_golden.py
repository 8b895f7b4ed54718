"""Numbers that must not move by accident: change one on purpose, and raise the stage's `version`
with it.
"""

import json
from pathlib import Path

import pytest

from occse.artifacts.manifest import artifact_folder
from occse.pipeline import Node, Pipeline, override, plan, profile

GOLDEN = json.loads((Path(__file__).parent / "golden.json").read_text())


@pytest.mark.parametrize("name", ["default", "embedded", "reference"])
def test_fingerprints_of_the_defaults(name: str) -> None:
    pipeline = override(Pipeline(), profile(name)) if name != "default" else Pipeline()
    found = {field: node.fingerprint for field, node in plan(pipeline).items()}
    assert found == GOLDEN["fingerprints"][name], (
        "a default, a knob or a version changed: is that meant?"
    )


@pytest.mark.parametrize("field", ["pretrain", "oc", "cgnet", "affinity", "deeplab"])
def test_losses_of_the_first_epoch(
    field: str, small_store: Path, small_node: dict[str, Node]
) -> None:
    curves = json.loads(
        (artifact_folder(small_store, small_node[field]) / "curves.json").read_text()
    )
    # other processors round differently; a change of the method is far larger
    assert curves[0]["loss"] == pytest.approx(GOLDEN["losses"][field], rel=1e-3)
