"""The specs of the paper plan as they say, on a machine that has neither data nor weights."""

import re
from collections import Counter
from pathlib import Path

import pytest

from occse.pipeline import Pipeline
from sweeps.spec.trials import load_spec, trials

FOLDER = Path(__file__).parents[3] / "sweeps" / "specs" / "paper"
SPECS = sorted(FOLDER.glob("*.yaml"))
KINDS = {type(Pipeline().stage(field)).__name__: field for field in reversed(Pipeline.model_fields)}


def distinct(path: Path) -> dict[str, int]:
    """Distinct artifacts by the first pipeline field of their class."""
    nodes = {
        node.fingerprint: node for trial in trials(load_spec(path)) for node in trial.nodes.values()
    }
    counts = Counter(KINDS.get(node.kind, node.field) for node in nodes.values())
    return dict(counts)


def comment(path: Path, key: str) -> str:
    """The text of the opening comment under `key`, its lines joined."""
    opening = path.read_text().split("\n\n")[0].replace("\n#  ", "").splitlines()
    (found,) = [line.removeprefix(f"# {key}") for line in opening if line.startswith(f"# {key}")]
    return found


def test_all_questions_of_the_paper_have_a_file() -> None:
    assert [path.stem for path in SPECS] == [
        "alpha",
        "backbones",
        "coco",
        "erasing",
        "lambda",
        "voc",
    ]


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_a_spec_opens_with_question_expectation_cost_and_command(path: Path) -> None:
    for key in ("Question", "Expected", "Cost", "Run"):
        assert comment(path, key).strip(" :")
    assert "GPU hours" in comment(path, "Cost")
    assert f"sweeps/specs/paper/{path.name}" in comment(path, "Run")


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_a_spec_plans_the_stages_that_it_says(path: Path) -> None:
    said = re.findall(r"(\w+) (\d+)", comment(path, "Distinct stages:"))
    assert distinct(path) == {field: int(number) for field, number in said}
