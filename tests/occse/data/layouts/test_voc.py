import json
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from voc_tree import (
    HEIGHT,
    LISTS,
    OBJECTS,
    WIDTH,
    annotation,
    mask_of,
    write_list,
    write_voc,
)

from occse.data.dataset import Dataset, load_dataset, save_index
from occse.data.layouts.voc import VOC_CLASSES, read_voc, write_label_map
from occse.data.tree import faults, split_digest, tree_digest
from occse.stage import Context, Machine
from occse.stages.data import Voc


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_voc(tmp_path / "VOC2012")


@pytest.fixture
def dataset(root: Path) -> Dataset:
    return read_voc(root)


def test_splits_and_labels_are_read_and_parts_of_a_person_are_no_objects(dataset: Dataset) -> None:
    assert dataset.splits == LISTS
    assert dataset.labels == {
        name: tuple(sorted({VOC_CLASSES.index(item) for item in items}))
        for name, items in OBJECTS.items()
    }


def test_both_forms_of_lists_are_read(root: Path, dataset: Dataset) -> None:
    write_list(
        root,
        "train_aug",
        tuple(f"/JPEGImages/{n}.jpg /SegmentationClassAug/{n}.png" for n in ("a_1", "a_2")),
    )
    write_list(root, "val", ("JPEGImages/b_1.jpg SegmentationClass/b_1.png", "", ""))
    assert read_voc(root) == dataset


def test_targets_are_multi_hot(dataset: Dataset) -> None:
    targets = dataset.targets(["b_1", "a_2"])
    assert targets.shape == (2, 20)
    assert [np.flatnonzero(row).tolist() for row in targets] == [[0, 19], [7]]
    assert targets.sum() == 3


def test_a_folder_that_is_not_voc_is_refused_with_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"not a folder in VOC layout: JPEGImages, .*ImageSets/Segmentation"
    ):
        read_voc(tmp_path)


@pytest.mark.parametrize(
    ("split", "lines", "message"),
    [
        ("val", ("b_1", "b_1"), r"val\.txt:2: b_1 is listed twice, first on line 1"),
        ("val", ("../../etc/passwd",), r"val\.txt:1: .* names no image"),
        (
            "val",
            ("/JPEGImages/b_1.jpg /SegmentationClass/a_1.png",),
            r"val\.txt:1: .* names no image",
        ),
        ("val", ("",), r"val\.txt lists no image"),
        ("val", ("b_2",), r"val\.txt names b_2, but .*b_2\.jpg is missing"),
        ("train", ("b_1",), r"train\.txt names b_1 .* expected train to be a subset of train_aug"),
        (
            "val",
            ("b_1", "a_1"),
            r"train_aug\.txt and .*val\.txt share a_1 .*; expected disjoint splits",
        ),
    ],
)
def test_lists_that_make_no_sense_are_refused(
    root: Path, split: str, lines: tuple[str, ...], message: str
) -> None:
    write_list(root, split, lines)
    with pytest.raises(ValueError, match=message):
        read_voc(root)


@pytest.mark.parametrize("name", ["a (1), b", "im 0.v2", "Mädchen", "x.rf.0a1b"])
@pytest.mark.parametrize("suffix", [".jpg", ".JPG", ".png"])
def test_images_may_have_any_name_and_be_png(
    root: Path, dataset: Dataset, name: str, suffix: str
) -> None:
    stored = unicodedata.normalize("NFD", name)
    image = Image.open(root / "JPEGImages" / "b_1.jpg").copy()
    (root / "JPEGImages" / "b_1.jpg").unlink()
    image.save(root / "JPEGImages" / f"{stored}{suffix}")
    for folder, end in (("Annotations", ".xml"), ("SegmentationClass", ".png")):
        (root / folder / f"b_1{end}").rename(root / folder / f"{stored}{end}")
    write_list(root, "val", (name,))
    found = read_voc(root)
    assert found.splits["val"] == (name,)
    assert found.labels[name] == dataset.labels["b_1"]
    assert found.image(name).shape == (HEIGHT, WIDTH, 3)
    np.testing.assert_array_equal(found.mask(name), mask_of("b_1"))
    save_index(found, root)
    assert load_dataset(root, data_root=root).image_path(name) == found.image_path(name)


def without_train_aug(root: Path) -> Path:
    (root / "ImageSets" / "Segmentation" / "train_aug.txt").unlink()
    return root


def test_without_train_aug_the_error_says_what_it_is_and_where_it_belongs(root: Path) -> None:
    with pytest.raises(
        ValueError, match=r"train_aug\.txt is missing; .* 10,582 .*benchmark_RELEASE/dataset"
    ) as error:
        read_voc(without_train_aug(root))
    assert f"in {root.parent} or beside it" in str(error.value)


def write_sbd(folder: Path, **lists: tuple[str, ...]) -> None:
    folder.mkdir(parents=True)
    for split, names in lists.items():
        (folder / f"{split}.txt").write_text("\n".join(names) + "\n")


@pytest.mark.parametrize(
    "place",
    [
        "../benchmark_RELEASE/dataset",
        "../../benchmark_RELEASE/dataset",
        "../SBD/dataset",
        "../../sbd",
        "../SBD",
    ],
)
def test_train_aug_is_voc_train_and_all_of_sbd_without_voc_val(root: Path, place: str) -> None:
    # a_2 is VOC train and not in SBD; b_1 is VOC val and in SBD
    write_sbd(root / place, train=("b_1",), val=("a_1",))
    dataset = read_voc(without_train_aug(root))
    assert dataset.splits == {"train_aug": ("a_1", "a_2"), "train": ("a_2",), "val": ("b_1",)}
    assert set(dataset.labels) == {"a_1", "a_2", "b_1"}
    assert len(dataset.notes) == 1 and "train_aug comes from " in dataset.notes[0]


def test_a_list_of_train_aug_wins_over_sbd_and_keeps_its_order(root: Path) -> None:
    write_sbd(root.parent / "SBD", train=("b_1",), val=("a_1",))
    write_list(root, "train_aug", ("a_2", "a_1"))
    assert read_voc(root).splits["train_aug"] == ("a_2", "a_1")


def test_without_sbd_the_masks_of_train_aug_name_its_images(root: Path) -> None:
    (root / "SegmentationClassAug").mkdir()
    for name in ("a_1", "b_1"):
        (root / "SegmentationClassAug" / f"{name}.png").touch()
    assert read_voc(without_train_aug(root)).splits["train_aug"] == ("a_1", "a_2")


def test_images_of_sbd_that_are_not_there_are_named(root: Path) -> None:
    write_sbd(root.parent / "SBD", train=("a_3", "a_4"), val=("a_1",))
    with pytest.raises(
        ValueError, match=r"SBD names a_3, but .*a_3\.jpg is missing \(and 1 more\)"
    ):
        read_voc(without_train_aug(root))


def save_labels(root: Path, labels: dict[str, tuple[int, ...]]) -> None:
    array = np.empty((), object)
    array[()] = {
        name: np.isin(np.arange(20), present).astype(np.float32) for name, present in labels.items()
    }
    np.save(root / "cls_labels.npy", array)


def test_labels_come_from_cls_labels_where_asked_for(root: Path, dataset: Dataset) -> None:
    shutil.rmtree(root / "Annotations")
    save_labels(root, {"a_1": (3,), "a_2": (7, 11), "b_1": (0,), "unused": ()})
    assert read_voc(root, labels="cls_labels").labels == {"a_1": (3,), "a_2": (7, 11), "b_1": (0,)}
    with pytest.raises(ValueError, match="Annotations missing"):
        read_voc(root)


def test_own_classes_and_labels_of_masks_need_no_annotations(root: Path) -> None:
    shutil.rmtree(root / "Annotations")
    for name, label in (("a_1", 2), ("a_2", 1), ("b_1", 2)):
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        mask[2:6] = label
        write_label_map(root / "SegmentationClass" / f"{name}.png", mask)
    stage = Voc(classes=("cat", "cup"), labels="masks")
    dataset = stage.read(root)
    assert dataset.classes == ("cat", "cup")
    assert dataset.labels == {"a_1": (1,), "a_2": (0,), "b_1": (1,)}
    with pytest.raises(ValueError, match=r"Annotations: image labels; .* data\.labels=masks"):
        read_voc(root)
    with pytest.raises(ValueError, match="classes has a name twice"):
        Voc(classes=("cat", "cat"))
    for name in ("background", "a;b", "cat\n", ""):
        with pytest.raises(ValueError, match="is not a class; expected printable"):
            Voc(classes=(name,))


def test_table_says_splits_and_labels_without_lists_and_annotations(root: Path) -> None:
    for folder in ("Annotations", "ImageSets", "SegmentationClass"):
        shutil.rmtree(root / folder)
    with pytest.raises(ValueError, match=r"lists train\.txt and val\.txt, or labels\.csv"):
        read_voc(root, labels="csv")
    table = "image,split,labels\na_1.jpg,train,dog;person\na_2,train,cat\nb_1,val,sofa\n"
    (root / "labels.csv").write_text(table)
    dataset = read_voc(root, labels="csv")
    assert dataset.splits == {"train_aug": ("a_1", "a_2"), "train": ("a_1", "a_2"), "val": ("b_1",)}
    assert dataset.labels == {"a_1": (11, 14), "a_2": (7,), "b_1": (17,)}
    assert dataset.scored("train") == dataset.scored("val") == ()
    assert any("no folder SegmentationClass: nothing is scored" in note for note in dataset.notes)
    (root / "labels.csv").write_text(table.replace("a_2,", "a_3,"))
    # Such a folder has nothing to do with the layout.
    (root / "images").mkdir()
    with pytest.raises(ValueError, match=r"labels\.csv:3: no image 'a_3' in .*JPEGImages; .*jpg"):
        read_voc(root, labels="csv")
    for edited, message in (
        (table.replace("sofa", "sofia"), r"labels\.csv:4: the class 'sofia'; VOC has aeroplane"),
        (table.replace("val", "train"), r"labels\.csv has no image in the split val; expected at"),
        (table.replace("train", "val"), r"labels\.csv has no image in the split train; expected"),
    ):
        (root / "labels.csv").write_text(edited)
        with pytest.raises(ValueError, match=message):
            read_voc(root, labels="csv")


def test_own_trees_are_scored_where_there_are_masks_and_vocs_lists_promise_them(root: Path) -> None:
    (root / "SegmentationClass" / "a_2.png").unlink()
    own = read_voc(root, trained="train")
    assert own.scored("train") == ()
    assert own.scored("val") == ("b_1",)
    assert "1 image without mask: not scored" in own.notes
    assert list(faults(own)) == []
    (fault,) = faults(read_voc(root))
    assert "a_2.png is missing" in fault


def test_training_on_the_list_train_needs_no_sbd(root: Path) -> None:
    dataset = read_voc(without_train_aug(root), trained="train")
    assert dataset.splits == {"train_aug": ("a_2",), "train": ("a_2",), "val": ("b_1",)}


def test_images_without_entry_or_class_in_cls_labels_are_named(root: Path) -> None:
    save_labels(root, {"a_1": (3,), "b_1": (0,)})
    with pytest.raises(ValueError, match=r"cls_labels\.npy has no entry for a_2"):
        read_voc(root, labels="cls_labels")
    save_labels(root, {"a_1": (3,), "a_2": (), "b_1": (0,)})
    with pytest.raises(ValueError, match=r"cls_labels\.npy has no class for a_2"):
        read_voc(root, labels="cls_labels")


def test_the_digest_covers_what_labels_say_and_not_which_file_says_it(
    root: Path, dataset: Dataset
) -> None:
    save_labels(root, dict(dataset.labels))
    assert tree_digest(read_voc(root, labels="cls_labels")) == tree_digest(dataset)
    save_labels(root, dict(dataset.labels) | {"a_2": (1,)})
    assert tree_digest(read_voc(root, labels="cls_labels")) != tree_digest(dataset)
    assert Voc(labels="cls_labels").resolved(root) == Voc(
        labels="cls_labels", digest=tree_digest(read_voc(root, labels="cls_labels"))
    )


def test_a_list_that_is_not_text_is_named(root: Path) -> None:
    (root / "ImageSets" / "Segmentation" / "val.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"val\.txt is not UTF-8"):
        read_voc(root)


LAUGHS = """<?xml version="1.0"?><!DOCTYPE annotation [<!ENTITY a "ha">
<!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">
<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]>
<annotation><object><name>&c;</name></object></annotation>"""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (LAUGHS.encode(), "declares a document type or an entity"),
        (LAUGHS.encode("utf-16"), "is not UTF-8"),
        # in this code page every byte of the declaration looks like something else
        (b'<?xml version="1.0" encoding="cp037"?>' + LAUGHS[21:].encode("cp037"), "is not"),
        (b"<annotation><object>", "is not XML"),
        (
            annotation(("unicorn",)).encode(),
            "names the unknown class 'unicorn'; the classes are aeroplane, ",
        ),
        (annotation(()).encode(), "has no object, so its image has no label"),
        (b"<annotation>" + b" " * 1_000_001 + b"</annotation>", "has 1000026 bytes"),
    ],
)
def test_hostile_or_useless_annotations_are_refused(
    root: Path, content: bytes, message: str
) -> None:
    (root / "Annotations" / "a_1.xml").write_bytes(content)
    with pytest.raises(ValueError, match=rf"a_1\.xml {message}"):
        read_voc(root)


def test_a_missing_annotation_is_named(root: Path) -> None:
    (root / "Annotations" / "a_1.xml").unlink()
    with pytest.raises(ValueError, match=r"a_1\.xml cannot be read"):
        read_voc(root)


def test_digest_follows_what_is_used_and_nothing_else(root: Path) -> None:
    digests = [tree_digest(read_voc(root))]
    (root / "ImageSets" / "Segmentation" / "trainval.txt").write_text("a_2\nb_1\n")
    (root / "JPEGImages" / "unused.jpg").write_bytes(b"")
    # the same labels
    (root / "Annotations" / "a_1.xml").write_text(annotation(OBJECTS["a_1"][::-1]) + "\n")
    assert tree_digest(read_voc(root)) == digests[0]
    # Those of val are identity of the segmentation alone.
    for folder, name in (("JPEGImages", "b_1.jpg"), ("SegmentationClass", "b_1.png")):
        before = split_digest(read_voc(root), "val")
        with (root / folder / name).open("ab") as file:
            file.write(b"\n")
        assert split_digest(read_voc(root), "val") != before
    assert tree_digest(read_voc(root)) == digests[0]
    for folder, name in (("JPEGImages", "a_1.jpg"), ("SegmentationClass", "a_2.png")):
        with (root / folder / name).open("ab") as file:
            file.write(b"\n")
        digests.append(tree_digest(read_voc(root)))
    (root / "Annotations" / "a_2.xml").write_text(annotation(("dog",)))
    digests.append(tree_digest(read_voc(root)))
    write_list(root, "train", ("a_1",))
    shutil.copy(root / "SegmentationClass" / "a_2.png", root / "SegmentationClass" / "a_1.png")
    digests.append(tree_digest(read_voc(root)))
    assert len(set(digests)) == 5


def test_an_index_beside_its_images_moves_with_them(
    root: Path, dataset: Dataset, tmp_path: Path
) -> None:
    save_index(dataset, tmp_path)
    moved = tmp_path.with_name(f"{tmp_path.name}_moved")
    tmp_path.rename(moved)
    loaded = load_dataset(moved, data_root=None)
    assert loaded == Dataset(
        root=moved / "VOC2012", classes=VOC_CLASSES, splits=dataset.splits, labels=dataset.labels
    )
    np.testing.assert_array_equal(loaded.mask("a_2"), mask_of("a_2"))


def test_an_index_of_images_in_place_needs_the_data_root(
    root: Path, dataset: Dataset, tmp_path: Path
) -> None:
    folder = tmp_path / "artifact"
    folder.mkdir()
    save_index(dataset, folder)
    assert load_dataset(folder, data_root=root) == dataset
    with pytest.raises(ValueError, match="--data-root"):
        load_dataset(folder, data_root=None)


@pytest.mark.parametrize(
    "content", ["", "[]", json.dumps({"root": None, "classes": [], "splits": []})]
)
def test_a_damaged_index_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "index.json").write_text(content)
    with pytest.raises(ValueError, match=r"index\.json is not an index of a data set"):
        load_dataset(tmp_path, data_root=None)


def context(tmp_path: Path, data_root: Path | None) -> Context:
    output = tmp_path / "output"
    output.mkdir(exist_ok=True)
    return Context(output=output, scratch=output, machine=Machine(data_root=data_root))


def test_voc_stage_indexes_the_tree_in_place(root: Path, dataset: Dataset, tmp_path: Path) -> None:
    ctx = context(tmp_path, root)
    metrics = Voc(digest=tree_digest(dataset)).run(ctx)
    assert metrics == {"images": 3, "images/train_aug": 2, "images/train": 1, "images/val": 1}
    assert [path.name for path in ctx.output.iterdir()] == ["index.json"]
    assert load_dataset(ctx.output, data_root=root) == dataset


def test_voc_stage_says_how_to_give_the_tree(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="give --data-root"):
        Voc().run(context(tmp_path, None))
    with pytest.raises(ValueError, match=r"VOC layout.*--data-root is"):
        Voc().run(context(tmp_path, root.parent))


def test_voc_stage_refuses_another_tree_than_the_one_meant(
    root: Path, dataset: Dataset, tmp_path: Path
) -> None:
    with pytest.raises(
        ValueError, match=f"has the digest {tree_digest(dataset)}; data.digest expects 0000"
    ):
        Voc(digest="0" * 64).run(context(tmp_path, root))


@pytest.mark.parametrize("path", ["JPEGImages/a_1.jpg", "SegmentationClass/b_1.png"])
def test_voc_stage_finds_damaged_files_before_training_does(
    root: Path, tmp_path: Path, path: str
) -> None:
    (root / path).write_bytes(b"not an image")
    with pytest.raises(ValueError, match=Path(path).name):
        Voc().run(context(tmp_path, root))
