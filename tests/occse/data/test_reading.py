"""Images and masks of a data set, as they are, damaged, or hostile."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from voc_tree import HEIGHT, WIDTH, mask_of, write_voc

from occse.data.dataset import Dataset
from occse.data.layouts.voc import palette, read_voc, write_label_map


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_voc(tmp_path / "VOC2012")


@pytest.fixture
def dataset(root: Path) -> Dataset:
    return read_voc(root)


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


def test_images_that_claim_to_be_huge_are_refused_from_the_header(
    root: Path, dataset: Dataset
) -> None:
    path = root / "JPEGImages" / "a_1.jpg"
    # the second is below the limit of PIL's error
    for height, width in ((60000, 60000), (9600, 10500)):
        declare_size(path, height, width)
        for read in (dataset.size, dataset.image):
            with pytest.raises(
                ValueError, match=rf"a_1\.jpg says that it is {height} x {width}; .* 100 megapixels"
            ):
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
    # A bitmap is refused whatever its name; a PNG called .jpg is read (test_inspect).
    Image.new("RGB", (WIDTH, HEIGHT)).save(root / "JPEGImages" / "a_1.jpg", format="BMP")
    with pytest.raises(ValueError, match=r"a_1\.jpg cannot be read as a JPEG image"):
        dataset.image("a_1")


def test_masks_of_another_size_or_with_other_labels_or_colours_are_refused(
    root: Path, dataset: Dataset
) -> None:
    path = root / "SegmentationClass" / "a_2.png"
    write_label_map(path, np.zeros((WIDTH, HEIGHT), np.uint8))
    with pytest.raises(
        ValueError, match=r"a_2\.png is 20 x 12 .* expected the size of its image, 12 x 20"
    ):
        dataset.mask("a_2")
    write_label_map(path, np.arange(HEIGHT * WIDTH, dtype=np.uint8).reshape(HEIGHT, WIDTH) % 23)
    with pytest.raises(
        ValueError, match=r"a_2\.png holds the labels \[21, 22\]; allowed are 0..20 and 255"
    ):
        dataset.mask("a_2")
    Image.new("RGB", (WIDTH, HEIGHT)).save(path)
    with pytest.raises(
        ValueError, match=r"a_2\.png is a PNG of mode RGB; expected palette indices"
    ):
        dataset.mask("a_2")


def test_palette_is_that_of_voc() -> None:
    known = {
        0: (0, 0, 0),
        1: (128, 0, 0),
        2: (0, 128, 0),
        3: (128, 128, 0),
        8: (64, 0, 0),
        15: (192, 128, 128),
    }
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
