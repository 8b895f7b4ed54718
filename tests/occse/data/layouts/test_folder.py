"""A user's own data: images, a table, masks where scores are wanted."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from occse.data.dataset import load_dataset
from occse.data.layouts.folder import read_folder
from occse.data.tree import tree_digest
from occse.pipeline import Pipeline, override, plan
from occse.stage import Context, Machine
from occse.stages.data import Folder

CLASSES = "beetle\nleaf miner\nrust\n"
TABLE = """image,split,labels
a.jpg,train,beetle;rust
b.png,train,leaf miner
c,train,rust
d.JPEG,val,
e 1,val,beetle
"""
FILES = {"a": "a.jpg", "b": "b.png", "c": "c.jpg", "d": "d.JPEG", "e 1": "e 1.png"}
# The labels that each mask shows.
MASKED = {"b": (0, 2, 255), "d": (0, 255), "e 1": (0, 1)}
HEIGHT, WIDTH = 10, 14


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "mine"
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    (root / "classes.txt").write_text(CLASSES)
    (root / "labels.csv").write_text(TABLE)
    rng = np.random.default_rng(0)
    for file in FILES.values():
        Image.fromarray(rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)).save(
            root / "images" / file
        )
    for name, labels in MASKED.items():
        mask = rng.choice(np.array(labels, np.uint8), (HEIGHT, WIDTH))
        Image.fromarray(mask).save(root / "masks" / f"{name}.png")
    return root


def test_splits_labels_and_files_are_read(root: Path) -> None:
    dataset = read_folder(root)
    assert dataset.classes == ("beetle", "leaf miner", "rust")
    assert dataset.splits == {"train_aug": ("a", "b", "c"), "train": ("b",), "val": ("d", "e 1")}
    assert dataset.labels == {"a": (0, 2), "b": (1,), "c": (2,), "d": (), "e 1": (0,)}
    for name, file in FILES.items():
        with Image.open(root / "images" / file) as image:
            np.testing.assert_array_equal(dataset.image(name), np.asarray(image))
        assert dataset.size(name) == (HEIGHT, WIDTH)
    for name in MASKED:
        with Image.open(root / "masks" / f"{name}.png") as image:
            np.testing.assert_array_equal(dataset.mask(name), np.asarray(image))


def test_one_row_per_pair_other_columns_and_a_byte_order_mark_say_the_same(root: Path) -> None:
    expected = read_folder(root)
    (root / "labels.csv").write_text(
        "\ufefflabels, split,comment,image\nrust,train,,a.jpg\n"
        "beetle,train,x,a.jpg\nleaf miner,train,,b\n"
        'rust,train,"y, z",c.jpg\n,val,,d\nbeetle,val,,e 1.png\nbeetle,val,,e 1.png\n'
    )
    assert read_folder(root) == expected


def test_png_with_transparency_or_palette_is_rgb_and_16_bits_are_refused(root: Path) -> None:
    path = root / "images" / "b.png"
    Image.new("RGBA", (WIDTH, HEIGHT), (9, 8, 7, 128)).save(path)
    assert read_folder(root).image("b")[0, 0].tolist() == [9, 8, 7]
    Image.new("RGB", (WIDTH, HEIGHT), (9, 8, 7)).quantize(2).save(path, transparency=b"\x00\x80")
    assert read_folder(root).image("b")[0, 0].tolist() == [9, 8, 7]
    Image.fromarray(np.full((HEIGHT, WIDTH), 40_000, np.uint16)).save(path)
    with pytest.raises(
        ValueError, match=r"b\.png has pixels of mode I;16; expected 8 bits per channel"
    ):
        read_folder(root).image("b")


def test_masks_that_belong_to_nothing_are_noted(root: Path) -> None:
    for name in ("z.png", "a.gif"):
        (root / "masks" / name).touch()
    loose, others, partly = read_folder(root).notes
    assert loose == "1 mask of no image in labels.csv"
    assert others == f"1 file in {root / 'masks'}, the first a.gif, not read: expected NAME.png"
    assert partly == "1 of the 3 images of train have a mask: the others are not scored"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("", "lacks the column image; expected image,split,labels in its first line"),
        ("image,labels\na,rust\n", "lacks the column split"),
        ("image;split;labels\na;train;rust\n", "in its first line, not image;split;labels"),
        (TABLE.replace("a.jpg", "a.JPG"), r"no image 'a\.JPG' in .*images \(there is a\.jpg\)"),
        ("image,split,labels,split\na,train,rust,val\n", "lacks the column split"),
        (TABLE + "f,train,rust\n", r"labels\.csv:7: no image 'f' in .*images"),
        (TABLE + "../images/a.jpg,train,rust\n", r"labels\.csv:7: no image"),
        (TABLE + "a,test,rust\n", r"labels\.csv:7: the split 'test'; expected train or val"),
        (TABLE + "a,val,rust\n", r"labels\.csv:7: a is in train and in val"),
        (
            TABLE + "a,train,moth\n",
            r"labels\.csv:7: the class 'moth'; classes.txt has beetle, leaf miner, rust",
        ),
        (TABLE + "a,train\n", r"labels\.csv:7: expected 3 values"),
        (TABLE + "a,train,rust,beetle\n", r"labels\.csv:7: expected 3 values"),
        (TABLE + 'a,train,"rust\n', "unexpected end of data; expected comma-separated values"),
        (
            TABLE.replace("c,train,rust", "c,train,"),
            r"labels\.csv: c \(and 0 more\) of train has no label",
        ),
        (
            TABLE.replace("val", "train").replace("d.JPEG,train,", "d,train,rust"),
            "has no image in the split val",
        ),
        ("image,split,labels\na,train," + "x" * 200_000 + "\n", "field larger than field limit"),
    ],
)
def test_tables_that_make_no_sense_are_refused(root: Path, table: str, message: str) -> None:
    (root / "labels.csv").write_text(table)
    with pytest.raises(ValueError, match=message):
        read_folder(root)


@pytest.mark.parametrize(
    "classes", ["", "\n", "beetle\nbeetle\n", "background\nbeetle\n", "a;b\n", "x\n" * 300]
)
def test_classes_that_make_no_sense_are_refused(root: Path, classes: str) -> None:
    (root / "classes.txt").write_text(classes)
    with pytest.raises(ValueError, match=r"classes\.txt"):
        read_folder(root)


def test_what_is_missing_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"lacks classes\.txt, labels\.csv, images; expected"):
        read_folder(tmp_path)


def test_two_files_of_one_name_are_refused(root: Path) -> None:
    (root / "images" / "a.png").touch()
    with pytest.raises(ValueError, match=r"has a\.jpg and a\.png; expected one file per name"):
        read_folder(root)


def test_the_digest_follows_labels_images_and_masks(root: Path) -> None:
    digests = [tree_digest(read_folder(root))]
    with (root / "images" / "c.jpg").open("ab") as file:
        file.write(b"\n")
    digests.append(tree_digest(read_folder(root)))
    # The same size, as after an edit of an uncompressed mask.
    mask = root / "masks" / "b.png"
    mask.write_bytes(mask.read_bytes()[:-1] + b"?")
    digests.append(tree_digest(read_folder(root)))
    (root / "labels.csv").write_text(TABLE.replace("c,train,rust", "c,train,beetle"))
    digests.append(tree_digest(read_folder(root)))
    (root / "classes.txt").write_text(CLASSES.replace("rust", "mould"))
    (root / "labels.csv").write_text(TABLE.replace("rust", "mould"))
    digests.append(tree_digest(read_folder(root)))
    assert len(set(digests)) == 5


def test_images_and_masks_of_val_are_identity_of_the_segmentation_alone(root: Path) -> None:
    small = {"data.kind": "folder", "*.batch_size": 1, "*.init": "random"}
    pipeline = override(Pipeline(), small)
    before = plan(pipeline.resolve(root))
    mask = root / "masks" / "e 1.png"
    mask.write_bytes(mask.read_bytes()[:-1] + b"?")
    edited = plan(pipeline.resolve(root))
    changed = [field for field in before if before[field].fingerprint != edited[field].fingerprint]
    assert changed == ["seg"]
    assert before["seg"].stage.config()["digest"] != edited["seg"].stage.config()["digest"]


def test_split_of_another_tree_is_not_taken_for_one_with_the_same_training_images(
    root: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(root, other)
    mask = other / "masks" / "e 1.png"
    mask.write_bytes(mask.read_bytes()[:-1] + b"?")
    here, there = Folder().resolved(root), Folder().resolved(other)
    assert here.digest == there.digest
    assert there.digest_of_split(root, "val") == here.digest_of_split(root, "val")
    assert there.digest_of_split(root, "val") != there.digest_of_split(other, "val")


def test_stage_indexes_the_folder_in_place(root: Path, tmp_path: Path) -> None:
    output = tmp_path / "artifact"
    output.mkdir()
    metrics = (
        Folder()
        .resolved(root)
        .run(Context(output=output, scratch=output, machine=Machine(data_root=root)))
    )
    assert metrics == {"images": 5, "images/train_aug": 3, "images/train": 1, "images/val": 2}
    assert [path.name for path in output.iterdir()] == ["index.json"]
    moved = root.rename(tmp_path / "moved")
    assert load_dataset(output, data_root=moved) == read_folder(moved)


def test_stage_finds_damaged_images_and_masks_before_training_does(
    root: Path, tmp_path: Path
) -> None:
    (root / "masks" / "b.png").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"b\.png cannot be read as a PNG"):
        Folder().run(Context(output=tmp_path, scratch=tmp_path, machine=Machine(data_root=root)))
    with pytest.raises(ValueError, match="but its folder is not given: give --data-root FOLDER"):
        Folder().run(Context(output=tmp_path, scratch=tmp_path))
