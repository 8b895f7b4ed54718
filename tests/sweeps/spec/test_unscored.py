"""Sweeps on data without masks: what needs a score is refused, all else is planned and told."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from sweeps.__main__ import main
from sweeps.spec.trials import load_sweep

SWEEP: dict[str, Any] = {
    "name": "bare",
    "question": "Does a sweep run without masks?",
    "profile": "embedded",
    "data_root": "photos",
    "base": {"data.kind": "folder", "*.init": "random", "*.batch_size": 2},
}
GRID = {"grid": {"cgnet.erasing": ["cse", "class_agnostic"]}, "baseline": {}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "photos" / "images").mkdir(parents=True)
    rows = ["image,split,labels"]
    for number in range(4):
        pixels = np.full((40, 40, 3), 40 * number, np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / "images" / f"{number}.png")
        rows.append(f"{number},{'val' if number == 3 else 'train'},{'cat' if number else 'cup'}")
    (tmp_path / "photos" / "labels.csv").write_text("\n".join(rows))
    (tmp_path / "photos" / "classes.txt").write_text("cat\ncup\n")
    return tmp_path


def write(folder: Path, keys: dict[str, Any]) -> Path:
    path = folder / "bare.yaml"
    path.write_text(yaml.safe_dump(SWEEP | keys, sort_keys=False))
    return path


@pytest.mark.parametrize(
    ("keys", "location", "split"),
    [
        (GRID | {"gates": [{"after": "cam", "top_k": 1}]}, "gates.0.after", "train"),
        (
            {
                "search": {
                    "trials": 2,
                    "objectives": {"seg/miou": "max"},
                    "space": {"cgnet.lambda_start": [1, 10]},
                }
            },
            "search.objectives.seg/miou",
            "val",
        ),
        (
            GRID
            | {
                "expect": [
                    {"metric": "pseudo/miou", "compare": {"cgnet.erasing": "cse"}, "sign": "+"}
                ]
            },
            "expect.0.metric",
            "train",
        ),
    ],
)
def test_decisions_by_scores_that_there_will_not_be_are_refused(
    keys: dict[str, Any], location: str, split: str, folder: Path
) -> None:
    path = write(folder, keys)
    with pytest.raises(ValueError) as refused:
        load_sweep(path)
    expected = f"no image of {split} has a mask: draw masks for some of them, or remove this key"
    assert f"{location}: expected a score of" in str(refused.value)
    assert expected in str(refused.value)
    assert str(refused.value).startswith(f"{path}:")


def test_plan_says_which_scores_are_left_out(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(folder, GRID)
    assert main(["plan", str(path), "--store", str(folder / "store"), "--gpus", "1"]) == 0
    printed = capsys.readouterr().out
    assert "no image of train has a mask, so cam, crf, pseudo will have no score" in printed
    assert "no image of val has a mask, so seg will have no score" in printed
