from pathlib import Path

import yaml

from sweeps.selection.gatekeeper import expected
from sweeps.spec.gates import Gate
from sweeps.spec.trials import load_spec, trials


def ends(folder: Path, *gates: Gate) -> dict[str, str]:
    """The last stage of the first seed of every variant."""
    path = folder / "spec.yaml"
    grid = {"cgnet.erasing": ["class_agnostic", "cse"], "cgnet.lambda_start": [1, 2, 3, 4, 5]}
    values = {
        "name": "s",
        "question": "q",
        "grid": grid,
        "baseline": {"cam.source": "oc"},
        "seeds": 2,
    }
    path.write_text(yaml.safe_dump(values))
    cut = expected(trials(load_spec(path)), gates)
    return {
        trial.variant.replace("erasing=", "").replace("lambda_start=", ""): list(trial.nodes)[-1]
        for trial in cut
    }


def behind(found: dict[str, str], last: str) -> set[str]:
    return {variant for variant, field in found.items() if field == last}


def test_expected_trials_come_to_their_end_without_gates(tmp_path: Path) -> None:
    assert set(ends(tmp_path).values()) == {"seg"}


def test_expected_trials_are_as_many_as_a_gate_lets_and_the_baseline_besides(
    tmp_path: Path,
) -> None:
    found = ends(
        tmp_path, Gate(after="cam", asha=3), Gate(after="pseudo", top_k=1, by="cgnet.erasing")
    )
    assert behind(found, "seg") == {"baseline", "class_agnostic, 1"}
    assert behind(found, "pseudo") == {"class_agnostic, 2", "class_agnostic, 3"}
    assert len(behind(found, "cam")) == 7


def test_expected_groups_have_their_own_places_and_a_margin_lets_all_go_on(tmp_path: Path) -> None:
    found = ends(
        tmp_path, Gate(after="pseudo", top_k=1, by="cgnet.erasing"), Gate(after="cam", margin=0.1)
    )
    assert behind(found, "seg") == {"baseline", "class_agnostic, 1", "cse, 1"}
    assert not behind(found, "cam")
