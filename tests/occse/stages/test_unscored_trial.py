"""A trial on photographs without a mask: every stage runs, scores are left out, and it is told."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from occse.__main__ import main
from occse.artifacts.manifest import Manifest

KNOBS = {
    "data.kind": "folder",
    "*.init": "random",
    "*.epochs": "1",
    "*.batch_size": "2",
    "cam.source": "oc",
    "cam.scales": "[1.0]",
    "pseudo.source": "cam",
    "seg.scales": "[1.0]",
}


def write_photos(root: Path) -> None:
    (root / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows = ["image,split,labels"]
    for number in range(6):
        split = "val" if number > 3 else "train"
        pixels = rng.integers(0, 256, (48, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "images" / f"{number}.png")
        rows.append(f"{number},{split},{'cat' if number % 2 else 'cup'}")
    (root / "labels.csv").write_text("\n".join(rows))
    (root / "classes.txt").write_text("cat\ncup\n")


def test_trial_without_masks_segments_val_and_has_no_score(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, store = tmp_path / "photos", tmp_path / "store"
    write_photos(root)
    trial = ["--profile", "embedded", "--data-root", str(root), "--store", str(store)]
    for knob, value in KNOBS.items():
        trial += ["--set", f"{knob}={value}"]
    targets = ["--targets", "crf", "seg"]
    assert main(["run", *trial, *targets]) == 0
    printed = capsys.readouterr().out
    assert "no image of train has a mask, so cam, crf, pseudo will have no score" in printed
    assert "no image of val has a mask, so seg will have no score" in printed
    assert not re.search(r"miou \d", printed)
    (folder,) = store.glob("Segment/*")
    manifest = Manifest.model_validate_json((folder / "manifest.json").read_bytes())
    assert manifest.metrics == {}
    assert sorted(path.name for path in (folder / "labels").iterdir()) == ["4.png", "5.png"]
    assert main(["panels", *trial, *targets, "--out", str(tmp_path / "panels")]) == 0
    drawn = {path.name for path in (tmp_path / "panels").iterdir()}
    assert {"4.png", "5.png"} < drawn, "images of train_aug are shown too"
    # By its fingerprint, label maps are exported wherever the photographs lie by now.
    by_itself = ["export", "seg", "--store", str(store), "--fingerprint", folder.name]
    assert main([*by_itself, "--out", str(tmp_path / "exported")]) == 0
    readme = (tmp_path / "exported" / "README.txt").read_text()
    assert "    1 cat\n    2 cup\n" in readme
    erase = ["--targets", "erase_and_infer"]
    assert main(["run", *trial, *erase]) == 2
    assert "no image of train has a mask, and this stage makes" in capsys.readouterr().err
