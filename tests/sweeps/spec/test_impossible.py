"""Sweeps whose stages cannot run, or whose results are worth nothing, are refused or doubted."""

from pathlib import Path
from typing import Any

import pytest

from sweeps.__main__ import main
from sweeps.spec.model import Spec
from sweeps.spec.trials import trials


def make(**keys: Any) -> Spec:
    return Spec.model_validate({"name": "s", "question": "why?", "baseline": {}} | keys)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"profile": "modern", "base": {"*.init": "random", "*.crop": 64}},
            "affinity: crop is 64, which is 8 cells at stride 8 of resnet50; radius 5 needs 9",
        ),
        (
            {"profile": "embedded", "base": {"oc.batch_size": 301}},
            "oc: batch_size is 301, but train_aug has 300 images",
        ),
        (
            {"profile": "embedded", "variants": {"tiny scale": {"cam.scales": [0.001]}}},
            "cam: scales has 0.001, which leaves no pixel",
        ),
        ({"profile": "embedded", "seeds": [2**64]}, "less than 18446744073709551616"),
    ],
)
def test_a_sweep_that_cannot_run_is_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        trials(make(**keys))


SPEC = """\
name: rand
question: Does a random start with frozen batch norms train?
profile: modern
base: {data.kind: folder, "*.init": random}
baseline: {cgnet.erasing: cse}
targets: [cam]
"""


def test_plan_doubts_frozen_batch_norms_of_a_random_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rand.yaml").write_text(SPEC)
    arguments = ["plan", str(tmp_path / "rand.yaml"), "--store", str(tmp_path / "store")]
    assert main([*arguments, "--gpus", "1"]) == 0
    printed = capsys.readouterr().out
    doubted = [line for line in printed.splitlines() if line.startswith("warning: ")]
    assert [line.split(":")[1].strip() for line in doubted if "freeze_bn" in line] == [
        "oc",
        "cgnet",
    ]
