"""MS COCO 2014 on disk, in its own format: sparse category ids, polygons, run lengths, crowds,
empty images.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from occse.data.dataset import load_dataset
from occse.data.layouts.coco import read_coco
from occse.data.layouts.coco_outlines import RunLengths, inside
from occse.data.tree import split_digest, tree_digest
from occse.stage import Context, Machine
from occse.stages.data import Coco

HEIGHT, WIDTH = 24, 32
CATEGORIES = [
    {"supercategory": "x", "id": i, "name": name}
    for i, name in ((90, "toothbrush"), (1, "person"), (17, "cat"))
]
SQUARE = [[2.0, 3.0, 12.5, 3.0, 12.5, 15.0, 2.0, 15.0]]
TWO_PARTS = [[20.0, 1.0, 30.0, 1.0, 25.0, 9.5], [0.0, 20.0, 6.0, 20.0, 6.0, 24.0, 0.0, 24.0]]
OVER = [[5.0, 5.0, 25.0, 5.0, 25.0, 12.0, 5.0, 12.0]]
RUNS = {"size": [HEIGHT, WIDTH], "counts": [30, 50, HEIGHT * WIDTH - 80]}


def name_of(year: str, number: int) -> str:
    return f"COCO_{year}_{number:012d}"


def instances(year: str, objects: dict[int, list[tuple[int, Any, int]]]) -> dict[str, Any]:
    images = [
        {
            "id": i,
            "file_name": f"{name_of(year, i)}.jpg",
            "height": HEIGHT,
            "width": WIDTH,
            "license": 3,
        }
        for i in objects
    ]
    annotations = [
        {
            "id": 1000 * i + place,
            "image_id": i,
            "category_id": category,
            "segmentation": segmentation,
            "iscrowd": crowd,
            "area": 1.0,
            "bbox": [0.0, 0.0, 1.0, 1.0],
        }
        for i, listed in objects.items()
        for place, (category, segmentation, crowd) in enumerate(listed)
    ]
    return {
        "info": {"year": 2014},
        "images": images,
        "annotations": annotations,
        "categories": CATEGORIES,
    }


TRAIN = {
    9: [(17, SQUARE, 0), (1, OVER, 0), (90, RUNS, 1)],
    25: [(90, RUNS, 0)],
    7: [(1, TWO_PARTS, 0), (1, SQUARE, 0)],
    30: [],
    31: [(1, RUNS, 1)],
}
VAL = {42: [(90, SQUARE, 0), (17, OVER, 0)], 41: []}


def write(root: Path, split: str, content: dict[str, Any]) -> None:
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    (root / "annotations" / f"instances_{split}2014.json").write_text(json.dumps(content))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "coco"
    rng = np.random.default_rng(0)
    for year, objects in (("train2014", TRAIN), ("val2014", VAL)):
        write(root, year.removesuffix("2014"), instances(year, objects))
        (root / year).mkdir()
        for number in objects:
            pixels = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / year / f"{name_of(year, number)}.jpg")
    return root


def train(*numbers: int) -> tuple[str, ...]:
    return tuple(name_of("train2014", number) for number in numbers)


def val(*numbers: int) -> tuple[str, ...]:
    return tuple(name_of("val2014", number) for number in numbers)


def test_sparse_ids_become_consecutive_and_crowds_give_no_label(root: Path) -> None:
    dataset = read_coco(root)
    assert dataset.classes == ("person", "cat", "toothbrush")
    assert dataset.labels == {
        **dict(zip(train(7, 9, 25), [(0,), (0, 1), (2,)], strict=True)),
        **dict(zip(val(42), [(1, 2)], strict=True)),
    }


def test_annotated_lists_images_with_objects_by_ascending_id(root: Path) -> None:
    assert read_coco(root).splits == {
        "train_aug": train(7, 9, 25),
        "train": train(7, 9, 25),
        "val": val(42),
    }


def test_all_scores_images_without_objects_and_trains_on_none_of_them(root: Path) -> None:
    dataset = read_coco(root, images="all")
    assert dataset.splits == {
        "train_aug": train(7, 9, 25),
        "train": train(7, 9, 25),
        "val": val(41, 42),
    }
    assert dataset.labels[val(41)[0]] == ()
    assert not dataset.mask(val(41)[0]).any()
    assert dataset.notes == ("2 images of train2014 have no object and are not trained on",)


@pytest.mark.parametrize(
    ("number", "scored"),
    [(1, train(7)), (2, train(7, 9)), (3, train(7, 9, 25)), (9, train(7, 9, 25))],
)
def test_scored_images_are_spread_over_the_ids(
    root: Path, number: int, scored: tuple[str, ...]
) -> None:
    assert read_coco(root, num_scored=number).splits["train"] == scored


# of pycocotools itself
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_masks_are_those_of_pycocotools_later_annotations_on_top(root: Path) -> None:
    dataset = read_coco(root)
    for split, number, name in (
        ("train", 9, train(9)[0]),
        ("train", 7, train(7)[0]),
        ("val", 42, val(42)[0]),
    ):
        official = COCO(str(root / "annotations" / f"instances_{split}2014.json"))
        expected = np.zeros((HEIGHT, WIDTH), np.uint8)
        for annotation in official.loadAnns(official.getAnnIds(imgIds=number, iscrowd=False)):
            label = {1: 1, 17: 2, 90: 3}[annotation["category_id"]]
            expected[official.annToMask(annotation) == 1] = label
        np.testing.assert_array_equal(dataset.mask(name), expected)
        assert set(np.unique(expected)) == {0, *(index + 1 for index in dataset.labels[name])}
    np.testing.assert_array_equal(
        dataset.mask(train(25)[0]).T.ravel().nonzero()[0], np.arange(30, 80)
    )


def test_images_may_lie_below_images(root: Path) -> None:
    expected = read_coco(root)
    (root / "images").mkdir()
    for year in ("train2014", "val2014"):
        (root / year).rename(root / "images" / year)
    dataset = read_coco(root)
    assert dataset.splits == expected.splits
    assert dataset.image(val(42)[0]).shape == (HEIGHT, WIDTH, 3)


def test_all_that_is_missing_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError,
        match=r"objects of train in annotations/instances_train2014\.json or .*but it is missing",
    ):
        read_coco(tmp_path)


def test_missing_images_are_named_with_their_list(root: Path) -> None:
    for name in train(7, 9):
        (root / "train2014" / f"{name}.jpg").unlink()
    with pytest.raises(
        ValueError,
        match=rf"instances_train2014\.json names {train(7)[0]}, .* is missing \(and 1 more\)",
    ):
        read_coco(root)


def test_images_of_another_size_than_declared_are_named(root: Path) -> None:
    Image.new("RGB", (HEIGHT, WIDTH)).save(root / "val2014" / f"{val(42)[0]}.jpg")
    with pytest.raises(ValueError, match=rf"{val(42)[0]}\.jpg is 32 x 24 .* says 24 x 32"):
        read_coco(root).mask(val(42)[0])


@pytest.mark.parametrize(
    "segmentation",
    [
        [[0.0, 0.0, 5.0, 0.0, 5.0]],
        [[0.0, 0.0, 5.0, 0.0, 5.0, 1e300]],
        [[0.0, 0.0, 5.0, float("nan"), 5.0, 5.0]],
        [[0.0, 0.0, 9e5, 9e5, 0.0, 0.0] * 50],
        RunLengths(size=(HEIGHT, WIDTH), counts=[HEIGHT * WIDTH, 1]),
        RunLengths(size=(HEIGHT, WIDTH), counts=[-1, HEIGHT * WIDTH + 1]),
        RunLengths(size=(HEIGHT, WIDTH), counts=[]),
        RunLengths(size=(HEIGHT * 100, WIDTH * 100), counts=[HEIGHT * WIDTH]),
        RunLengths(size=(HEIGHT, WIDTH), counts=[1 << 40, HEIGHT * WIDTH]),
    ],
)
def test_hostile_outlines_are_refused_before_they_are_decoded(segmentation: Any) -> None:
    with pytest.raises(ValueError, match=r"has (a polygon|runs)"):
        inside(segmentation, height=HEIGHT, width=WIDTH)


@pytest.mark.parametrize(
    "segmentation", [[], [[1.0, 1.0, 5.0, 5.0]], [[-9.0, -9.0, -5.0, -9.0, -5.0, -5.0]]]
)
def test_outlines_around_nothing_cover_nothing(segmentation: Any) -> None:
    covered = inside(segmentation, height=HEIGHT, width=WIDTH)
    assert covered.shape == (HEIGHT, WIDTH) and not covered.any()


def changed(**changes: Any) -> dict[str, Any]:
    return instances("val2014", VAL) | changes


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is not an instances file of MS COCO"),
        ("[" * 100_000, "is not an instances file of MS COCO"),
        (changed(images=3), "is not an instances file of MS COCO: images"),
        (changed(categories=CATEGORIES[:2]), "have different categories"),
        (
            changed(
                annotations=[
                    {
                        "image_id": 42,
                        "category_id": 1,
                        "segmentation": {"size": [1, 1], "counts": 1.5},
                    }
                ]
            ),
            "segm",
        ),
        (
            changed(annotations=[{"image_id": 5, "category_id": 1, "segmentation": []}]),
            "an object of image 5",
        ),
        (
            changed(annotations=[{"image_id": 42, "category_id": 2, "segmentation": []}]),
            "category 2, one of which it",
        ),
        (changed(annotations=[]), "has no image with an object that is not a crowd"),
        (
            changed(images=[{"id": 1, "file_name": "../x.jpg", "height": 1, "width": 1}]),
            "names the image '../x.jpg'",
        ),
        (
            changed(images=[{"id": 1, "file_name": "x.jpg", "height": 60000, "width": 60000}]),
            "x is 60000 x 60000",
        ),
        (
            changed(images=[{"id": 1, "file_name": "x.jpg", "height": -1, "width": -1}]),
            "x is -1 x -1",
        ),
        (
            changed(
                images=[{"id": 1, "file_name": f"{n}.jpg", "height": 1, "width": 1} for n in "xy"]
            ),
            "id 1 twice",
        ),
        (
            changed(
                images=[{"id": i, "file_name": "x.jpg", "height": 1, "width": 1} for i in (1, 2)]
            ),
            "an image twice",
        ),
        (instances("train2014", TRAIN), "share COCO_train2014_000000000007"),
    ],
)
def test_instances_files_that_make_no_sense_are_refused(
    root: Path, content: Any, message: str
) -> None:
    text = content if isinstance(content, str) else json.dumps(content)
    (root / "annotations" / "instances_val2014.json").write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        read_coco(root)
    assert "instances_" in str(error.value)


def test_the_digest_follows_annotations_images_and_the_choice_of_them(root: Path) -> None:
    digests = [tree_digest(read_coco(root)), tree_digest(read_coco(root, images="all"))]
    digests.append(tree_digest(read_coco(root, num_scored=1)))
    moved = [[x + 1 for x in SQUARE[0]]]  # the labels stay, and so does the length of the text
    write(root, "val", instances("val2014", VAL | {42: [(90, moved, 0), (17, OVER, 0)]}))
    digests.append(tree_digest(read_coco(root)))
    with (root / "train2014" / f"{train(7)[0]}.jpg").open("ab") as file:
        file.write(b"\n")
    digests.append(tree_digest(read_coco(root)))
    assert len(set(digests)) == 5


def test_stage_draws_the_scored_masks_once_and_reads_images_in_place(
    root: Path,
) -> None:
    # A store below the data set, as with `--data-root .`.
    output = root / "runs" / "artifact"
    output.mkdir(parents=True)
    stage = Coco(images="all", num_scored=2).resolved(root)
    metrics = stage.run(Context(output=output, scratch=output, machine=Machine(data_root=root)))
    assert metrics == {"images": 5, "images/train_aug": 3, "images/train": 2, "images/val": 2}
    moved = output.rename(root / "runs" / "moved")
    dataset, direct = (
        load_dataset(moved, data_root=root),
        read_coco(root, images="all", num_scored=2),
    )
    assert {path.stem for path in (moved / "masks").iterdir()} == {
        *direct.splits["train"],
        *direct.splits["val"],
    }
    assert (dataset.splits, dataset.labels) == (direct.splits, direct.labels)
    assert split_digest(dataset, "val") == split_digest(direct, "val")
    for name in (*direct.splits["train"], *direct.splits["val"]):
        np.testing.assert_array_equal(dataset.mask(name), direct.mask(name))
        np.testing.assert_array_equal(dataset.image(name), direct.image(name))


def test_without_pycocotools_lists_are_read_and_masks_say_what_is_missing(root: Path) -> None:
    code = (
        "import sys; sys.modules['pycocotools'] = None\nfrom pathlib import Path\n"
        "from occse.data.layouts.coco import read_coco\n"
        "dataset = read_coco(Path(sys.argv[1]))\ndataset.mask(dataset.splits['val'][0])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code, str(root)], capture_output=True, text=True, check=False
    )
    assert "ValueError" in answer.stderr and "install occse[coco]" in answer.stderr
