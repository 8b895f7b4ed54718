"""VOC's test split: read where it is, predicted without masks, packed for the evaluation server."""

import io
import os
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from occse.data.layouts.voc import VOC_CLASSES, palette, read_voc, write_label_map
from occse.data.layouts.voc_submission import FOLDER, write_submission
from occse.data.tree import split_digest
from occse.networks.deeplab import DeepLab, save_deeplab
from occse.stage import Context, Machine
from occse.stages.data import Voc
from occse.stages.seg import ARCHIVE, Segment

LISTS = {"train_aug": ("a_1", "a_2"), "train": ("a_2",), "val": ("b_1",)}
TEST = {"t_2": (24, 31), "t_1": (24, 31), "t_3": (40, 22)}


def write_tree(root: Path, *, test: Sequence[str] = ()) -> Path:
    for folder in ("JPEGImages", "Annotations", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for name, size in {**dict.fromkeys(("a_1", "a_2", "b_1"), (24, 31)), **TEST}.items():
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(
            root / "JPEGImages" / f"{name}.jpg"
        )
    for name in ("a_1", "a_2", "b_1"):
        annotation = "<annotation><object><name>cat</name></object></annotation>"
        (root / "Annotations" / f"{name}.xml").write_text(annotation)
        write_label_map(root / "SegmentationClass" / f"{name}.png", np.full((24, 31), 8, np.uint8))
    for split, names in (LISTS | ({"test": tuple(test)} if test else {})).items():
        (root / "ImageSets" / "Segmentation" / f"{split}.txt").write_text("\n".join(names) + "\n")
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "VOC2012", test=tuple(TEST))


def context(folder: Path, root: Path, **inputs: Path) -> Context:
    for name in ("output", "scratch"):
        (folder / name).mkdir(parents=True)
    return Context(
        inputs=inputs,
        output=folder / "output",
        scratch=folder / "scratch",
        machine=Machine(data_root=root),
    )


def predict(folder: Path, root: Path, stage: Segment) -> tuple[Path, dict[str, float]]:
    """Run the data stage and `stage` with an untrained network, and return the artifact and the
    metrics.
    """
    data = context(folder / "data", root)
    Voc().run(data)
    network = folder / "network"
    network.mkdir()
    save_deeplab(DeepLab("tiny", 20, width=8, dilation=2), network / "model.safetensors")
    seg = context(folder / "seg", root, data=data.output, deeplab=network)
    return seg.output, stage.run(seg)


def test_the_test_split_is_read_without_labels_where_its_list_is(
    root: Path, tmp_path: Path
) -> None:
    dataset = read_voc(root)
    assert dataset.splits == LISTS | {"test": tuple(TEST)}
    assert sorted(dataset.labels) == ["a_1", "a_2", "b_1"]
    assert set(read_voc(write_tree(tmp_path / "plain")).splits) == set(LISTS)


def test_the_digest_follows_the_test_images(root: Path) -> None:
    before = split_digest(read_voc(root), "test")
    with (root / "JPEGImages" / "t_3.jpg").open("ab") as file:
        file.write(b"\n")
    assert split_digest(read_voc(root), "test") != before


@pytest.mark.parametrize("damage", ["missing", "no image", "listed twice"])
def test_test_images_are_checked_before_anything_is_trained(
    root: Path, tmp_path: Path, damage: str
) -> None:
    path = root / "JPEGImages" / "t_2.jpg"
    if damage == "missing":
        path.unlink()
    elif damage == "no image":
        path.write_bytes(b"no image")
    else:
        (root / "ImageSets" / "Segmentation" / "test.txt").write_text("t_2\nb_1\n")
    with pytest.raises(ValueError, match=r"t_2\.jpg" if damage != "listed twice" else r"share b_1"):
        Voc().run(context(tmp_path / "stage", root))


def test_predictions_of_the_test_split_are_packed_and_not_scored(
    root: Path, tmp_path: Path
) -> None:
    output, metrics = predict(tmp_path, root, Segment(split="test", scales=(1.0,)))
    assert metrics == {"images": 3}
    assert sorted(path.name for path in output.iterdir()) == [ARCHIVE, "labels"]
    with tarfile.open(output / ARCHIVE) as archive:
        entries = archive.getmembers()
        assert [entry.name for entry in entries] == [
            f"results/VOC2012/Segmentation/comp6_test_cls/{name}.png" for name in sorted(TEST)
        ]
        for entry in entries:
            assert entry.isfile()
            file = archive.extractfile(entry)
            assert file is not None
            content = file.read()
            name = Path(entry.name).stem
            assert content == (output / "labels" / f"{name}.png").read_bytes()
            with Image.open(io.BytesIO(content)) as image:
                assert image.mode == "P"
                assert (image.height, image.width) == TEST[name]
                assert image.getpalette() == palette().ravel().tolist()
                assert np.array(image).max() <= len(VOC_CLASSES)


def test_the_same_label_maps_give_the_same_archive(tmp_path: Path) -> None:
    labels = np.arange(20, dtype=np.uint8).reshape(4, 5)
    for folder, names in (("first", ("a", "b")), ("second", ("b", "a"))):
        (tmp_path / folder).mkdir()
        for name in names:
            path = tmp_path / folder / f"{name}.png"
            write_label_map(path, labels)
            os.utime(path, (len(folder), len(folder)))
            path.chmod(0o600 if folder == "first" else 0o644)
        write_submission(tmp_path / f"{folder}.tgz", labels=tmp_path / folder, names=names)
    first, second = (tmp_path / f"{folder}.tgz" for folder in ("first", "second"))
    assert first.read_bytes() == second.read_bytes()
    with tarfile.open(first) as archive:
        assert archive.getnames() == [f"{FOLDER}/a.png", f"{FOLDER}/b.png"]


def test_without_a_test_split_the_stage_says_what_it_needs(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError,
        match=r"seg\.split is 'test', but the data has only train.*Segmentation/test\.txt",
    ):
        predict(tmp_path, write_tree(tmp_path / "plain"), Segment(split="test", scales=(1.0,)))


def test_val_of_the_same_tree_is_scored(root: Path, tmp_path: Path) -> None:
    output, metrics = predict(tmp_path, root, Segment(scales=(1.0,)))
    assert 0 <= metrics["miou"] <= 1
    assert not (output / ARCHIVE).exists()
