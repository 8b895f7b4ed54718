"""`data check` decodes every file and compares masks with image labels."""

import shutil
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from occse.__main__ import main
from occse.data import inspect as module
from occse.data.dataset import Dataset, load_dataset, save_index
from occse.data.inspect import Findings, inspect
from occse.data.layouts.folder import read_folder
from occse.stage import Context, Machine
from occse.stages.data import Folder

CLASSES = ("car", "sign")
LABELS = {"im0": "car", "im1": "car;sign", "im2": "car", "im3": "car;sign"}
SPLITS = {"im0": "train", "im1": "train", "im2": "train", "im3": "val"}
HEIGHT, WIDTH = 32, 48


def mask_of(labels: str) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[6:26, 4:20] = 1
    if "sign" in labels:
        mask[4:14, 28:40] = 2
    return mask


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A sound tree, which the tests vary."""
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    rng = np.random.default_rng(0)
    rows = ["image,split,labels"]
    for name, labels in LABELS.items():
        pixels = rng.integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{name}.jpg")
        Image.fromarray(mask_of(labels)).save(tmp_path / "masks" / f"{name}.png")
        rows.append(f"{name}.jpg,{SPLITS[name]},{labels}")
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    return tmp_path


def notes_on_masks(found: Findings) -> list[str]:
    """Return the notes but that on the class of every image, which the sound tree has."""
    return [note for note in found.notes if not note.startswith("every training image has")]


def change_masks(root: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    for path in (root / "masks").iterdir():
        Image.fromarray(change(np.array(Image.open(path)))).save(path)


def test_inspect_counts_pixels_and_masks_of_a_sound_tree(root: Path) -> None:
    seen: list[tuple[int, int]] = []
    found = inspect(read_folder(root), report=lambda done, total: seen.append((done, total)))
    assert (found.faults, found.contradictions, notes_on_masks(found)) == ([], [], [])
    assert found.images == {0: 4, 1: 4, 2: 2}
    assert found.pixels[1] == 4 * 320
    assert found.pixels[2] == 2 * 120
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_inspect_finds_an_image_that_is_cut_off(root: Path) -> None:
    path = root / "images" / "im3.jpg"
    path.write_bytes(path.read_bytes()[:-200])
    read_folder(root).size("im3")
    (fault,) = inspect(read_folder(root)).faults
    assert f"{path} is damaged or cut off" in fault


def test_inspect_names_a_class_that_only_the_mask_shows(root: Path) -> None:
    Image.fromarray(mask_of("car;sign")).save(root / "masks" / "im0.png")
    (line,) = inspect(read_folder(root)).contradictions
    assert line.startswith("1 mask, im0 (sign), has a class that the image labels do not name")


def test_inspect_notes_a_class_that_only_the_labels_name(root: Path) -> None:
    Image.fromarray(mask_of("car")).save(root / "masks" / "im1.png")
    found = inspect(read_folder(root))
    assert found.contradictions == []
    (line,) = notes_on_masks(found)
    assert line.startswith("1 mask, im1 (sign), has no pixel of a class")


def test_inspect_recognizes_masks_of_0_and_255(root: Path) -> None:
    change_masks(root, lambda mask: np.where(mask > 0, 255, 0).astype(np.uint8))
    (line,) = inspect(read_folder(root)).contradictions
    assert f"data relabel {root / 'masks'} --out FOLDER 255=1`" in line
    Image.fromarray(mask_of("car")).save(root / "masks" / "im0.png")
    (line,) = inspect(read_folder(root)).contradictions
    assert line.startswith("3 masks, the first im1, have background (0) and void (255) only")


def test_inspect_tells_masks_that_are_void_everywhere(root: Path) -> None:
    Image.fromarray(np.full((HEIGHT, WIDTH), 255, np.uint8)).save(root / "masks" / "im0.png")
    found = inspect(read_folder(root))
    assert found.contradictions == []
    assert any(note.startswith("1 mask, im0, has void (255) every") for note in found.notes)
    change_masks(root, lambda mask: np.full_like(mask, 255))
    (line,) = inspect(read_folder(root)).contradictions
    assert line.startswith("4 masks, the first im0, have void (255) everywhere")


def test_inspect_tells_a_class_without_a_training_image(root: Path) -> None:
    table = (root / "labels.csv").read_text()
    (root / "labels.csv").write_text(table.replace("train,car;sign", "train,car"))
    assert any(
        "no training image has the class sign" in n for n in inspect(read_folder(root)).notes
    )


@pytest.mark.parametrize(("orientation", "shown"), [(6, (WIDTH, HEIGHT)), (3, (HEIGHT, WIDTH))])
def test_mask_is_turned_as_its_exif_data_say(
    root: Path, orientation: int, shown: tuple[int, int]
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    photograph = Image.open(root / "images" / "im0.jpg")
    photograph.save(root / "images" / "im0.jpg", exif=exif)
    mask = Image.fromarray(mask_of("car"))
    mask.save(root / "masks" / "im0.png", exif=exif)
    dataset = read_folder(root)
    assert dataset.mask("im0").shape == dataset.image("im0").shape[:2] == shown
    assert (dataset.mask("im0") == 1).sum() == 320
    mask.save(root / "masks" / "im0.png")
    faults = inspect(dataset).faults
    if orientation == 6:
        assert "48 x 32 as it is shown: its EXIF orientation is 6; turn the mask so" in faults[0]
    else:
        assert faults == []


def test_mask_may_have_one_bit_and_a_suffix_in_upper_case(root: Path) -> None:
    expected = read_folder(root).mask("im0")
    (root / "masks" / "im0.png").unlink()
    Image.fromarray(mask_of("car") > 0).save(root / "masks" / "im0.PNG")
    dataset = read_folder(root)
    assert "im0" in dataset.scored("train")
    np.testing.assert_array_equal(dataset.mask("im0"), expected)


def test_inspect_says_of_a_mask_that_it_is_a_jpeg(root: Path) -> None:
    Image.fromarray(mask_of("car")).save(root / "masks" / "im0.png", format="JPEG")
    (fault,) = inspect(read_folder(root)).faults
    assert "it is a JPEG, whose compression changes the numbers" in fault


def test_folder_says_that_a_format_is_not_read_and_that_a_folder_is_missing(root: Path) -> None:
    Image.open(root / "images" / "im0.jpg").save(root / "images" / "im0.webp")
    table = (root / "labels.csv").read_text()
    (root / "labels.csv").write_text(table.replace("im0.jpg", "im0.webp"))
    with pytest.raises(ValueError, match=r"labels\.csv:2: .*the file is there: convert it"):
        read_folder(root)
    with pytest.raises(ValueError, match=r"nowhere is missing; expected the folder of a data set"):
        read_folder(root / "nowhere")
    with pytest.raises(ValueError, match=r"labels\.csv is no folder; expected the folder"):
        read_folder(root / "labels.csv")


def test_inspect_recognizes_shifted_labels(root: Path) -> None:
    (root / "classes.txt").write_text("sign\ncar\n")
    lines = inspect(read_folder(root)).contradictions
    assert len(lines) == 1, "images of both classes agree in either order"
    for name in ("im1", "im3"):
        (root / "masks" / f"{name}.png").unlink()
    (root / "labels.csv").write_text(
        "image,split,labels\nim0,train,car\nim2,val,car\nim1,train,sign\n"
    )
    lines = inspect(read_folder(root)).contradictions
    assert any("every mask disagrees with its labels" in line for line in lines)


def test_inspect_finds_masks_that_are_drawn_in_colours(root: Path) -> None:
    path = root / "masks" / "im0.png"
    Image.fromarray(np.stack([mask_of("car") * 100] * 3, axis=-1)).save(path)
    (fault,) = inspect(read_folder(root)).faults
    assert "PNG of mode RGB; expected palette indices" in fault
    assert f"data relabel {root / 'masks'} --out FOLDER" in fault


def test_inspect_in_processes_finds_the_same(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = root / "images" / "im3.jpg"
    path.write_bytes(path.read_bytes()[:-200])
    alone = inspect(read_folder(root))
    monkeypatch.setattr(module, "FEW", 1)
    assert inspect(read_folder(root), workers=2) == alone


def test_class_list_must_not_name_the_background(root: Path) -> None:
    (root / "classes.txt").write_text("_background_\ncar\nsign\n")
    with pytest.raises(
        ValueError, match=r"classes\.txt:1: '_background_'.* without the background"
    ):
        read_folder(root)


def load_saved(dataset: Dataset, root: Path) -> Dataset:
    save_index(dataset, root)
    return load_dataset(root, data_root=root)


def test_folder_takes_labels_from_masks(root: Path) -> None:
    named = read_folder(root)
    (root / "labels.csv").write_text(
        "image,split\n" + "".join(f"{name}.jpg,{split}\n" for name, split in SPLITS.items())
    )
    assert read_folder(root, labels="masks").labels == named.labels
    (root / "masks" / "im3.png").unlink()
    assert read_folder(root, labels="masks").labels["im3"] == ()
    (root / "masks" / "im1.png").unlink()
    with pytest.raises(ValueError, match=r"im1\.png is missing; data\.labels=masks takes"):
        read_folder(root, labels="masks")
    Image.fromarray(np.zeros((HEIGHT, WIDTH), np.uint8)).save(root / "masks" / "im1.png")
    with pytest.raises(ValueError, match=r"im1\.png shows no class"):
        read_folder(root, labels="masks")


def test_check_fails_where_masks_contradict_labels(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["data", "check", "--kind", "folder", "--data-root", str(root)]
    assert main(arguments) == 0
    Image.fromarray(mask_of("car;sign")).save(root / "masks" / "im0.png")
    assert main(arguments) == 1
    assert "contradiction: 1 mask, im0 (sign), has a class" in capsys.readouterr().err


def test_folder_without_masks_is_read_and_nothing_is_scored(root: Path) -> None:
    shutil.rmtree(root / "masks")
    dataset = read_folder(root)
    assert dataset.splits == {"train_aug": ("im0", "im1", "im2"), "train": (), "val": ("im3",)}
    assert dataset.scored("val") == ()
    assert replace(load_saved(dataset, root), notes=()) == replace(dataset, notes=())
    assert any("CAMs and pseudo labels are not scored" in note for note in dataset.notes)
    assert any("1 image of val without mask" in note for note in dataset.notes)
    found = inspect(dataset)
    assert (found.faults, found.contradictions) == ([], [])


@pytest.mark.parametrize("name", ["a (1)", "a,b", "Straße 5 + x", "İstanbul", "a.b.rf.0a1b2c"])
def test_folder_takes_names_as_people_give_them(root: Path, name: str) -> None:
    for folder, suffix in (("images", "jpg"), ("masks", "png")):
        (root / folder / f"im0.{suffix}").rename(root / folder / f"{name}.{suffix}")
    table = (root / "labels.csv").read_text()
    (root / "labels.csv").write_text(table.replace("im0.jpg,", f'"{name}.jpg",'))
    dataset = read_folder(root)
    assert name in dataset.splits["train"]
    assert dataset.mask(name).max() == 1


def test_folder_joins_composed_and_decomposed_names(root: Path) -> None:
    decomposed = unicodedata.normalize("NFD", "Mädchen")
    for folder, suffix in (("images", "jpg"), ("masks", "png")):
        (root / folder / f"im0.{suffix}").rename(root / folder / f"{decomposed}.{suffix}")
    table = (root / "labels.csv").read_text()
    (root / "labels.csv").write_text(table.replace("im0.jpg", "Mädchen.jpg"))
    dataset = read_folder(root)
    assert "Mädchen" in dataset.splits["train"]
    assert dataset.image("Mädchen").shape == (HEIGHT, WIDTH, 3)
    assert dataset.mask("Mädchen").shape == (HEIGHT, WIDTH)


def test_png_that_is_called_jpg_is_read_by_its_content(root: Path) -> None:
    path = root / "images" / "im0.jpg"
    pixels = np.array(Image.open(path))
    Image.fromarray(pixels).save(path, format="PNG")
    np.testing.assert_array_equal(read_folder(root).image("im0"), pixels)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_image_is_turned_as_its_exif_orientation_says(root: Path, orientation: int) -> None:
    """Every program that draws a mask shows the photograph so."""
    stored = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    stored[: HEIGHT // 2, : WIDTH // 4] = 250
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = root / "images" / "im0.png"
    (root / "images" / "im0.jpg").unlink()
    Image.fromarray(stored).save(path, exif=exif)
    (root / "labels.csv").write_text(
        (root / "labels.csv").read_text().replace("im0.jpg", "im0.png")
    )
    dataset = read_folder(root)
    shown = dataset.image("im0")
    assert dataset.size("im0") == shown.shape[:2]
    assert shown.shape[:2] == ((WIDTH, HEIGHT) if orientation >= 5 else (HEIGHT, WIDTH))
    # The bright corner by orientation: EXIF 2.3, figure "relationship between image data and
    # orientation": row 0 is visually top, top, bottom, bottom, left, right, right, left.
    corners = {1: "tl", 2: "tr", 3: "br", 4: "bl", 5: "tl", 6: "tr", 7: "br", 8: "bl"}
    row = 0 if corners[orientation][0] == "t" else -1
    column = 0 if corners[orientation][1] == "l" else -1
    assert shown[row, column, 0] == 250
    assert (shown[..., 0] == 250).sum() == HEIGHT // 2 * (WIDTH // 4)


@pytest.mark.parametrize("max_side", [0, 48, 24])
def test_max_side_bounds_images_and_masks_alike(root: Path, max_side: int) -> None:
    dataset = replace(read_folder(root), max_side=max_side)
    expected = (16, 24) if max_side == 24 else (HEIGHT, WIDTH)
    assert dataset.size("im1") == expected
    assert dataset.image("im1").shape == (*expected, 3)
    mask = dataset.mask("im1")
    assert mask.shape == expected
    assert set(np.unique(mask)) == {0, 1, 2}
    save_index(dataset, root)
    loaded = load_dataset(root, data_root=root)
    assert loaded.max_side == max_side
    np.testing.assert_array_equal(loaded.mask("im1"), mask)


def test_stage_writes_max_side_into_the_index(root: Path, tmp_path: Path) -> None:
    output = tmp_path / "artifact"
    output.mkdir()
    context = Context(output=output, scratch=output, machine=Machine(data_root=root))
    Folder(max_side=36).run(context)
    assert load_dataset(output, data_root=root).image("im0").shape == (24, 36, 3)
    with pytest.raises(ValueError, match=r"max_side is 31; expected 0 \(no bound\) or at least 32"):
        Folder(max_side=31)
