import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from occse.data.dataset import Dataset, load_dataset, save_index
from occse.data.tree import tree_digest
from occse.data.voc import VOC_CLASSES, palette, read_voc, write_label_map
from occse.stage import Context
from occse.stages.data import Voc

OBJECTS = {"a_1": ("dog", "person", "dog"), "a_2": ("cat",), "b_1": ("tvmonitor", "aeroplane")}
LISTS = {"train_aug": ("a_1", "a_2"), "train": ("a_2",), "val": ("b_1",)}
HEIGHT, WIDTH = 12, 20
PERSON_WITH_HEAD = "<part><name>head</name></part>"


def annotation(objects: tuple[str, ...]) -> str:
    elements = (f"<object><name>{name}</name>{PERSON_WITH_HEAD}</object>" for name in objects)
    return f"<annotation><folder>VOC2012</folder>{''.join(elements)}</annotation>"


def write_list(root: Path, split: str, lines: tuple[str, ...]) -> None:
    (root / "ImageSets" / "Segmentation" / f"{split}.txt").write_text("\n".join(lines) + "\n")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "VOC2012"
    for folder in ("JPEGImages", "Annotations", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, objects in OBJECTS.items():
        pixels = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "JPEGImages" / f"{name}.jpg", quality=95)
        (root / "Annotations" / f"{name}.xml").write_text(annotation(objects))
    for name in ("a_2", "b_1"):
        write_label_map(root / "SegmentationClass" / f"{name}.png", mask_of(name))
    for split, names in LISTS.items():
        write_list(root, split, names)
    return root


def mask_of(name: str) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[2:5], mask[5], mask[6:] = VOC_CLASSES.index(OBJECTS[name][0]) + 1, 255, 20
    return mask


@pytest.fixture
def dataset(root: Path) -> Dataset:
    return read_voc(root)


def test_splits_and_labels_are_read_and_parts_of_a_person_are_no_objects(dataset: Dataset) -> None:
    assert dataset.splits == LISTS
    assert dataset.labels == {
        name: tuple(sorted({VOC_CLASSES.index(item) for item in items})) for name, items in OBJECTS.items()
    }


def test_both_forms_of_lists_are_read(root: Path, dataset: Dataset) -> None:
    write_list(root, "train_aug", tuple(f"/JPEGImages/{n}.jpg /SegmentationClassAug/{n}.png" for n in ("a_1", "a_2")))
    write_list(root, "val", ("JPEGImages/b_1.jpg SegmentationClass/b_1.png", "", ""))
    assert read_voc(root) == dataset


def test_targets_are_multi_hot(dataset: Dataset) -> None:
    targets = dataset.targets(["b_1", "a_2"])
    assert targets.shape == (2, 20)
    assert [np.flatnonzero(row).tolist() for row in targets] == [[0, 19], [7]]
    assert targets.sum() == 3


def test_images_are_rgb_and_masks_are_the_stored_indices(root: Path, dataset: Dataset) -> None:
    with Image.open(root / "JPEGImages" / "a_1.jpg") as image:
        np.testing.assert_array_equal(dataset.image("a_1"), np.asarray(image))
    assert dataset.size("a_1") == (HEIGHT, WIDTH)
    assert dataset.image("a_1").flags.writeable and dataset.mask("a_2").flags.writeable
    np.testing.assert_array_equal(dataset.mask("a_2"), mask_of("a_2"))


def test_grey_images_become_rgb_and_grey_masks_are_indices(root: Path, dataset: Dataset) -> None:
    Image.fromarray(np.full((HEIGHT, WIDTH), 77, np.uint8)).save(root / "JPEGImages" / "a_2.jpg")
    Image.fromarray(mask_of("a_2")).save(root / "SegmentationClass" / "a_2.png")
    np.testing.assert_array_equal(dataset.image("a_2"), np.full((HEIGHT, WIDTH, 3), 77, np.uint8))
    np.testing.assert_array_equal(dataset.mask("a_2"), mask_of("a_2"))


def declare_size(path: Path, height: int, width: int) -> None:
    """Change the size in the header of a JPEG, as a decompression bomb would."""
    content = bytearray(path.read_bytes())
    start = content.index(b"\xff\xc0") + 5
    content[start : start + 4] = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    path.write_bytes(content)


def test_images_that_claim_to_be_huge_are_refused_from_the_header(root: Path, dataset: Dataset) -> None:
    path = root / "JPEGImages" / "a_1.jpg"
    for height, width in ((60000, 60000), (9600, 10500)):  # the second is below the limit of PIL's error
        declare_size(path, height, width)
        for read in (dataset.size, dataset.image):
            with pytest.raises(ValueError, match=rf"a_1\.jpg says that it is {height} x {width}; .* 100 megapixels"):
                read("a_1")


def test_below_the_limit_pil_does_not_warn_of_a_bomb(root: Path, dataset: Dataset) -> None:
    declare_size(root / "JPEGImages" / "a_1.jpg", 9500, 10500)  # warnings are errors here
    assert dataset.size("a_1") == (9500, 10500)


@pytest.mark.parametrize("kept", [0, 5, 200, 500])
def test_images_cut_off_anywhere_are_named(root: Path, dataset: Dataset, kept: int) -> None:
    path = root / "JPEGImages" / "a_1.jpg"
    content = path.read_bytes()
    assert len(content) > 800
    path.write_bytes(content[:kept])
    with pytest.raises(ValueError, match=r"a_1\.jpg"):
        dataset.image("a_1")


@pytest.mark.parametrize("kept", [0, 7, 60, 900])
def test_masks_cut_off_anywhere_are_named(root: Path, dataset: Dataset, kept: int) -> None:
    path = root / "SegmentationClass" / "a_2.png"
    noise = np.random.default_rng(0).integers(0, 21, (HEIGHT, WIDTH), dtype=np.uint8)
    write_label_map(path, noise)
    content = path.read_bytes()
    assert len(content) > 950
    path.write_bytes(content[:kept])
    with pytest.raises(ValueError, match=r"a_2\.png"):
        dataset.mask("a_2")


def test_damaged_files_are_read_or_refused_with_their_name(root: Path, dataset: Dataset) -> None:
    rng = np.random.default_rng(1)
    refused = 0
    for path, read in (
        (dataset.image_path("a_2"), dataset.image),
        (dataset.mask_path("a_2"), dataset.mask),
    ):
        content = np.frombuffer(path.read_bytes(), np.uint8)
        for _ in range(100):
            damaged = content.copy()
            damaged[rng.integers(0, len(content), 8)] = rng.integers(0, 256, 8)
            path.write_bytes(damaged.tobytes())
            try:
                read("a_2")
            except ValueError as error:
                assert path.name in str(error)
                refused += 1
        path.write_bytes(content.tobytes())
    assert refused > 100


def test_missing_images_and_other_formats_are_named(root: Path, dataset: Dataset) -> None:
    (root / "SegmentationClass" / "b_1.png").unlink()
    with pytest.raises(ValueError, match=r"b_1\.png is missing; expected a PNG image"):
        dataset.mask("b_1")
    shutil.copy(root / "SegmentationClass" / "a_2.png", root / "JPEGImages" / "a_1.jpg")
    with pytest.raises(ValueError, match=r"a_1\.jpg cannot be read as a JPEG image"):
        dataset.image("a_1")


def test_masks_of_another_size_or_with_other_labels_or_colours_are_refused(root: Path, dataset: Dataset) -> None:
    path = root / "SegmentationClass" / "a_2.png"
    write_label_map(path, np.zeros((WIDTH, HEIGHT), np.uint8))
    with pytest.raises(ValueError, match=r"a_2\.png is 20 x 12 .* expected the size of its image, 12 x 20"):
        dataset.mask("a_2")
    write_label_map(path, np.arange(HEIGHT * WIDTH, dtype=np.uint8).reshape(HEIGHT, WIDTH) % 23)
    with pytest.raises(ValueError, match=r"a_2\.png holds the labels \[21, 22\]; allowed are 0..20 and 255"):
        dataset.mask("a_2")
    Image.new("RGB", (WIDTH, HEIGHT)).save(path)
    with pytest.raises(ValueError, match=r"a_2\.png is a PNG of mode RGB; expected palette indices"):
        dataset.mask("a_2")


def test_palette_is_that_of_voc() -> None:
    known = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 3: (128, 128, 0), 8: (64, 0, 0), 15: (192, 128, 128)}
    known |= {20: (0, 64, 128), 255: (224, 224, 192)}
    for label, colour in known.items():
        assert tuple(palette()[label]) == colour
    assert len({tuple(colour) for colour in palette().tolist()}) == 256


def test_label_maps_are_palette_files_with_the_same_bytes_each_time(tmp_path: Path) -> None:
    labels = np.arange(256, dtype=np.uint8).reshape(8, 32)
    for name in ("a.png", "b.png"):
        write_label_map(tmp_path / name, labels)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode == "P"
        np.testing.assert_array_equal(np.asarray(image), labels)
        np.testing.assert_array_equal(np.asarray(image.convert("RGB")), palette()[labels])


def test_a_folder_that_is_not_voc_is_refused_with_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"not a folder in VOC layout: JPEGImages, .*ImageSets/Segmentation"):
        read_voc(tmp_path)


@pytest.mark.parametrize(
    ("split", "lines", "message"),
    [
        ("val", ("b_1", "b_1"), r"val\.txt:2: b_1 is listed twice, first on line 1"),
        ("val", ("../../etc/passwd",), r"val\.txt:1: .* names no image"),
        ("val", ("/JPEGImages/b_1.jpg /SegmentationClass/a_1.png",), r"val\.txt:1: .* names no image"),
        ("val", ("",), r"val\.txt lists no image"),
        ("val", ("b_2",), r"val\.txt names b_2, but .*b_2\.jpg is missing"),
        ("train", ("b_1",), r"train\.txt names b_1 .* expected train to be a subset of train_aug"),
        ("val", ("b_1", "a_1"), r"train_aug\.txt and .*val\.txt share a_1 .*; expected disjoint splits"),
    ],
)
def test_lists_that_make_no_sense_are_refused(root: Path, split: str, lines: tuple[str, ...], message: str) -> None:
    write_list(root, split, lines)
    with pytest.raises(ValueError, match=message):
        read_voc(root)


def without_train_aug(root: Path) -> Path:
    (root / "ImageSets" / "Segmentation" / "train_aug.txt").unlink()
    return root


def test_without_train_aug_the_error_says_what_it_is_and_where_it_belongs(root: Path) -> None:
    with pytest.raises(ValueError, match=r"train_aug\.txt is missing; .* 10,582 .*benchmark_RELEASE/dataset") as error:
        read_voc(without_train_aug(root))
    assert f"in {root.parent} or beside it" in str(error.value)


def write_sbd(folder: Path, **lists: tuple[str, ...]) -> None:
    folder.mkdir(parents=True)
    for split, names in lists.items():
        (folder / f"{split}.txt").write_text("\n".join(names) + "\n")


@pytest.mark.parametrize(
    "place",
    ["../benchmark_RELEASE/dataset", "../../benchmark_RELEASE/dataset", "../SBD/dataset", "../../sbd", "../SBD"],
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
    with pytest.raises(ValueError, match=r"SBD names a_3, but .*a_3\.jpg is missing \(and 1 more\)"):
        read_voc(without_train_aug(root))


def save_labels(root: Path, labels: dict[str, tuple[int, ...]]) -> None:
    array = np.empty((), object)
    array[()] = {name: np.isin(np.arange(20), present).astype(np.float32) for name, present in labels.items()}
    np.save(root / "cls_labels.npy", array)


def test_labels_come_from_cls_labels_where_asked_for(root: Path, dataset: Dataset) -> None:
    shutil.rmtree(root / "Annotations")
    save_labels(root, {"a_1": (3,), "a_2": (7, 11), "b_1": (0,), "unused": ()})
    assert read_voc(root, labels="cls_labels").labels == {"a_1": (3,), "a_2": (7, 11), "b_1": (0,)}
    with pytest.raises(ValueError, match="Annotations missing"):
        read_voc(root)


def test_images_without_entry_or_class_in_cls_labels_are_named(root: Path) -> None:
    save_labels(root, {"a_1": (3,), "b_1": (0,)})
    with pytest.raises(ValueError, match=r"cls_labels\.npy has no entry for a_2"):
        read_voc(root, labels="cls_labels")
    save_labels(root, {"a_1": (3,), "a_2": (), "b_1": (0,)})
    with pytest.raises(ValueError, match=r"cls_labels\.npy has no class for a_2"):
        read_voc(root, labels="cls_labels")


def test_the_digest_covers_what_labels_say_and_not_which_file_says_it(root: Path, dataset: Dataset) -> None:
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


LAUGHS = """<?xml version="1.0"?><!DOCTYPE annotation [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">
<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]><annotation><object><name>&c;</name></object></annotation>"""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (LAUGHS.encode(), "declares a document type or an entity"),
        (LAUGHS.encode("utf-16"), "is not UTF-8"),
        # in this code page every byte of the declaration looks like something else
        (b'<?xml version="1.0" encoding="cp037"?>' + LAUGHS[21:].encode("cp037"), "is not"),
        (b"<annotation><object>", "is not XML"),
        (annotation(("unicorn",)).encode(), "names the unknown class 'unicorn'; the classes are aeroplane, "),
        (annotation(()).encode(), "has no object, so its image has no label"),
        (b"<annotation>" + b" " * 1_000_001 + b"</annotation>", "has 1000026 bytes"),
    ],
)
def test_hostile_or_useless_annotations_are_refused(root: Path, content: bytes, message: str) -> None:
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
    (root / "Annotations" / "a_1.xml").write_text(annotation(OBJECTS["a_1"][::-1]) + "\n")  # the same labels
    assert tree_digest(read_voc(root)) == digests[0]
    for folder, name in (("JPEGImages", "a_1.jpg"), ("SegmentationClass", "b_1.png")):
        with (root / folder / name).open("ab") as file:
            file.write(b"\n")
        digests.append(tree_digest(read_voc(root)))
    (root / "Annotations" / "a_2.xml").write_text(annotation(("dog",)))
    digests.append(tree_digest(read_voc(root)))
    write_list(root, "train", ("a_1",))
    shutil.copy(root / "SegmentationClass" / "a_2.png", root / "SegmentationClass" / "a_1.png")
    digests.append(tree_digest(read_voc(root)))
    assert len(set(digests)) == 5


def test_an_index_beside_its_images_moves_with_them(root: Path, dataset: Dataset, tmp_path: Path) -> None:
    save_index(dataset, tmp_path)
    moved = tmp_path.with_name(f"{tmp_path.name}_moved")
    tmp_path.rename(moved)
    loaded = load_dataset(moved, data_root=None)
    assert loaded == Dataset(root=moved / "VOC2012", classes=VOC_CLASSES, splits=dataset.splits, labels=dataset.labels)
    np.testing.assert_array_equal(loaded.mask("a_2"), mask_of("a_2"))


def test_an_index_of_images_in_place_needs_the_data_root(root: Path, dataset: Dataset, tmp_path: Path) -> None:
    folder = tmp_path / "artifact"
    folder.mkdir()
    save_index(dataset, folder)
    assert load_dataset(folder, data_root=root) == dataset
    with pytest.raises(ValueError, match="--data-root"):
        load_dataset(folder, data_root=None)


@pytest.mark.parametrize("content", ["", "[]", json.dumps({"root": None, "classes": [], "splits": []})])
def test_a_damaged_index_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "index.json").write_text(content)
    with pytest.raises(ValueError, match=r"index\.json is no index of a data set"):
        load_dataset(tmp_path, data_root=None)


def context(tmp_path: Path, data_root: Path | None) -> Context:
    output = tmp_path / "output"
    output.mkdir(exist_ok=True)
    return Context(output=output, scratch=output, data_root=data_root)


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


def test_voc_stage_refuses_another_tree_than_the_one_meant(root: Path, dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"has the digest {tree_digest(dataset)}; data.digest expects 0000"):
        Voc(digest="0" * 64).run(context(tmp_path, root))


@pytest.mark.parametrize("path", ["JPEGImages/a_1.jpg", "SegmentationClass/b_1.png"])
def test_voc_stage_finds_damaged_files_before_training_does(root: Path, tmp_path: Path, path: str) -> None:
    (root / path).write_bytes(b"not an image")
    with pytest.raises(ValueError, match=Path(path).name):
        Voc().run(context(tmp_path, root))
