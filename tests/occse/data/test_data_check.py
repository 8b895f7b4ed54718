"""`python -m occse data check`, and what all data that are read in place have in common."""

import os
from pathlib import Path
from typing import Any

import pytest
import test_coco
import test_folder
import test_voc

from occse.__main__ import main
from occse.data.tree import tree_digest
from occse.pipeline import DATA, Pipeline, override, plan
from occse.stage import Context, Machine
from occse.stages.data import InPlace

# the trees that the readers' own tests write
voc = pytest.fixture(test_voc.root.__wrapped__, name="voc")
coco = pytest.fixture(test_coco.root.__wrapped__, name="coco")
folder = pytest.fixture(test_folder.root.__wrapped__, name="folder")
KINDS = ("voc", "coco", "folder")


@pytest.fixture
def tree(request: pytest.FixtureRequest) -> tuple[str, Path]:
    return request.param, request.getfixturevalue(request.param)


every_kind = pytest.mark.parametrize("tree", KINDS, indirect=True)


def listing(root: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in root.rglob("*")}


def stage_of(kind: str) -> InPlace:
    stage = override(Pipeline(), {"data.kind": kind}).data
    assert isinstance(stage, InPlace)
    return stage


@every_kind
def test_a_sound_tree_is_counted_and_nothing_is_written(
    tree: tuple[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    kind, root = tree
    monkeypatch.chdir(tmp_path)
    before = listing(tmp_path)
    assert main(["data", "check", "--kind", kind, "--data-root", str(root)]) == 0
    assert listing(tmp_path) == before
    printed, errors = capsys.readouterr()
    dataset = stage_of(kind).read(root)
    assert errors == ""
    for split, names in dataset.splits.items():
        assert f"{len(names)} images" in next(
            line for line in printed.splitlines() if line.startswith(f"{split} ")
        )
    assert printed.splitlines()[-1].endswith(f"digest {tree_digest(dataset)}")


def test_the_table_shows_splits_numbers_of_classes_and_classes(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "check", "--kind", "folder", "--data-root", str(folder)]) == 0
    shown = capsys.readouterr().out.splitlines()
    lines = [line.split() for line in shown if not line.startswith("note: ")]
    assert lines[:3] == [
        ["train_aug", "3", "images"],
        ["train", "1", "images"],
        ["val", "2", "images"],
    ]
    assert lines[4:6] == [["1", "2", "66.7", "%"], ["2", "1", "33.3", "%"]]
    assert lines[6] == ["images", "by", "class", "train_aug", "train", "val"]
    assert lines[7:10] == [
        ["beetle", "1", "0", "1"],
        ["leaf", "miner", "1", "1", "0"],
        ["rust", "2", "0", "0"],
    ]


def test_published_numbers_stand_beside_other_ones(
    voc: Path, coco: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["data", "check", "--data-root", str(voc)])
    main(["data", "check", "--kind", "coco", "--data-root", str(coco), "--set", "data.images=all"])
    printed = capsys.readouterr().out
    for number in ("10,582", "1,464", "1,449", "82,081", "40,504"):
        assert f"(published: {number})" in printed
    assert "note: 2 images of train2014 have no object" in printed


@pytest.mark.parametrize(
    ("kind", "damaged", "missing"),
    [
        ("voc", "JPEGImages/a_1.jpg", "SegmentationClass/b_1.png"),
        ("coco", "train2014/COCO_train2014_000000000007.jpg", ""),
        ("folder", "images/c.jpg", "images/b.png"),
    ],
)
def test_every_fault_is_listed_and_the_exit_code_is_2(
    kind: str,
    damaged: str,
    missing: str,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = request.getfixturevalue(kind)
    (root / damaged).write_bytes(b"nothing")
    if missing == "images/b.png":
        (root / missing).write_bytes(b"")
    elif missing:
        (root / missing).unlink()
    assert main(["data", "check", "--kind", kind, "--data-root", str(root)]) == 1
    errors = capsys.readouterr().err
    assert "in the files:" in errors and damaged in errors and missing in errors


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_folder_is_explained(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "check", "--kind", kind, "--data-root", str(tmp_path)]) == 2
    errors = capsys.readouterr().err
    assert str(tmp_path) in errors and "expected" in errors


@every_kind
def test_the_identity_is_that_of_the_files_and_not_of_the_path(tree: tuple[str, Path]) -> None:
    kind, root = tree
    pipeline = override(Pipeline(), {"data.kind": kind})
    resolved = pipeline.resolve(root)
    # these trees are too small for the other stages
    with_files, without = (plan(each, targets=("data",))["data"] for each in (resolved, pipeline))
    assert with_files.fingerprint != without.fingerprint
    moved = root.rename(root.with_name("moved"))
    assert pipeline.resolve(moved) == resolved == resolved.resolve(Path(os.devnull))


@every_kind
def test_another_tree_than_the_one_meant_is_refused(tree: tuple[str, Path], tmp_path: Path) -> None:
    kind, root = tree
    stage = stage_of(kind).model_copy(update={"digest": "0" * 64})
    with pytest.raises(ValueError, match=r"has the digest [0-9a-f]{64}; data\.digest expects 0000"):
        stage.run(Context(output=tmp_path, scratch=tmp_path, machine=Machine(data_root=root)))


@every_kind
def test_every_knob_of_data_in_place_is_read(tree: tuple[str, Path], tmp_path: Path) -> None:
    kind, root = tree
    seen: set[str] = set()
    knobs = set(DATA[kind].model_fields)

    class Recording(DATA[kind]):  # type: ignore[misc]
        def __getattribute__(self, name: str) -> Any:
            seen.add(name)
            return super().__getattribute__(name)

    stage = Recording()
    seen.clear()
    output = tmp_path / "artifact"
    output.mkdir()
    stage.run(Context(output=output, scratch=output, machine=Machine(data_root=root)))
    assert seen | {"kind"} >= knobs
