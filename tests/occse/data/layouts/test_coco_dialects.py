"""Dialects of MS COCO: other years, names and encodings, compressed runs, backgrounds."""

import json
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import test_coco
from pycocotools.coco import COCO
from pycocotools.mask import encode
from test_coco import CATEGORIES, HEIGHT, TRAIN, VAL, WIDTH, instances, name_of, train, val, write

from occse.data.layouts.coco import read_coco
from occse.data.layouts.coco_outlines import RunLengths, inside

root = pytest.fixture(test_coco.root.__wrapped__, name="root")


def rename(root: Path, old: str, new: str) -> None:
    for split in ("train", "val"):
        annotations = root / "annotations"
        (annotations / f"instances_{split}{old}.json").rename(
            annotations / f"{new.format(split)}.json"
        )
        (root / f"{split}{old}").rename(root / new.format(split).removeprefix("instances_"))


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_coco_2017_is_found_and_other_files_are_named(root: Path) -> None:
    expected = read_coco(root)
    rename(root, "2014", "instances_{}2017")
    assert read_coco(root).splits == expected.splits
    rename(root, "2017", "my_{}")
    with pytest.raises(
        ValueError, match=r"annotations has my_train\.json, my_val\.json\); data\.train"
    ):
        read_coco(root)
    dataset = read_coco(root, train="my_train.json", val="my_val.json")
    assert dataset.splits == expected.splits
    np.testing.assert_array_equal(dataset.mask(val(42)[0]), expected_mask(root, dataset))


def expected_mask(root: Path, dataset: Any) -> np.ndarray:
    official = COCO(root / "annotations" / "my_val.json")
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    for label, (category, outline, _) in ((3, VAL[42][0]), (2, VAL[42][1])):
        annotation = {"image_id": 42, "category_id": category, "segmentation": outline}
        mask[official.annToMask(annotation) == 1] = label
    return mask


def test_two_years_side_by_side_must_be_told_apart(root: Path) -> None:
    write(root, "train", instances("train2014", TRAIN))
    path = root / "annotations" / "instances_train2014.json"
    (root / "annotations" / "instances_train2017.json").write_text(path.read_text())
    with pytest.raises(ValueError, match=r"2014\.json and instances_train2017\.json are there"):
        read_coco(root)


def test_crowd_null_and_a_byte_order_mark_are_read(root: Path) -> None:
    content = instances("train2014", TRAIN)
    expected = read_coco(root)
    for annotation in content["annotations"]:
        annotation["iscrowd"] = annotation["iscrowd"] or None
    path = root / "annotations" / "instances_train2014.json"
    path.write_text(json.dumps(content), encoding="utf-8-sig")
    assert read_coco(root).labels == expected.labels


def test_compressed_runs_are_those_of_pycocotools() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        height, width = rng.integers(1, 40, 2).tolist()
        pixels = (rng.random((height, width)) < rng.random()).astype(np.uint8)
        text = encode(np.asfortranarray(pixels))["counts"].decode()
        runs = RunLengths((height, width), text)
        np.testing.assert_array_equal(inside(runs, height=height, width=width), pixels == 1)


@pytest.mark.parametrize(
    "text", ["", "\x7f", "oooooooooooooo", "0" * 5000, "V4d0<", "o", "~~~", "P", "1-1"]
)
def test_hostile_compressed_runs_are_refused_before_they_are_decoded(text: str) -> None:
    with pytest.raises(ValueError, match=r"has (compressed )?runs"):
        inside(RunLengths((HEIGHT, WIDTH), text), height=HEIGHT, width=WIDTH)


@pytest.mark.parametrize("file", ["im_jpg.rf.0a1b.jpg", "a (1), b.JPG", "x.PNG", "ü.jpeg"])
def test_images_may_have_any_name_without_a_folder(root: Path, file: str) -> None:
    content = instances("val2014", VAL)
    content["images"][0]["file_name"] = file
    write(root, "val", content)
    (root / "val2014" / f"{name_of('val2014', 42)}.jpg").rename(root / "val2014" / file)
    dataset = read_coco(root)
    (name,) = dataset.splits["val"]
    assert dataset.image_path(name) == root / "val2014" / file
    assert dataset.mask(name).any()


def test_fault_of_an_outline_names_its_file_and_image(root: Path) -> None:
    for split, name in (("train", train(9)[0]), ("val", val(42)[0])):
        year = f"{split}2014"
        content = instances(year, TRAIN if split == "train" else VAL)
        content["annotations"][0]["segmentation"] = [[0.0, 0.0, 5.0, 0.0, 5.0]]
        write(root, split, content)
        with pytest.raises(
            ValueError, match=rf"instances_{year}\.json: .* in the image {name} has"
        ):
            read_coco(root).mask(name)


def test_images_are_found_by_their_decomposed_name(root: Path) -> None:
    content = instances("val2014", VAL)
    content["images"][0]["file_name"] = "bü.jpg"
    write(root, "val", content)
    stored = root / "val2014" / unicodedata.normalize("NFD", "bü.JPG")
    (root / "val2014" / f"{name_of('val2014', 42)}.jpg").rename(stored)
    dataset = read_coco(root)
    assert dataset.splits["val"] == ("bü",)
    assert dataset.image_path("bü") == stored
    assert dataset.mask("bü").any()


def test_category_called_background_is_no_class_whatever_its_id(root: Path) -> None:
    for split, year, objects in (("train", "train2014", TRAIN), ("val", "val2014", VAL)):
        content = instances(year, objects)
        content["categories"] = [*CATEGORIES, {"id": 5, "name": "Background"}]
        content["annotations"].append(content["annotations"][0] | {"id": 5, "category_id": 5})
        write(root, split, content)
    dataset = read_coco(root)
    assert "Background" not in dataset.classes
    assert "category 5, 'Background', is taken for the background" in dataset.notes
    assert dataset.labels[name_of("train2014", 9)] == (0, 1)


@pytest.mark.parametrize(
    ("category", "dropped"), [("_background_", True), ("all", True), ("x", False)]
)
def test_category_0_is_the_background_or_a_group_unless_it_has_objects(
    root: Path, category: str, dropped: bool
) -> None:
    for split, year, objects in (("train", "train2014", TRAIN), ("val", "val2014", VAL)):
        content = instances(year, objects)
        content["categories"] = [*CATEGORIES, {"id": 0, "name": category}]
        if not dropped:
            content["annotations"][0]["category_id"] = 0
        write(root, split, content)
    dataset = read_coco(root)
    assert (category in dataset.classes) != dropped
    assert any("taken for the background" in note for note in dataset.notes) == dropped
