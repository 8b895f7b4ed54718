"""Results as files that other programs read, and predictions of new images."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small import SMALL

from occse.__main__ import main
from occse.artifacts.manifest import artifact_folder
from occse.data.dataset import load_dataset, read_label_map
from occse.data.layouts.voc import palette
from occse.data.npy_dicts.class_maps import read_class_maps
from occse.networks.checkpoint import read_metadata
from occse.pipeline import Node


def trial(store: Path) -> list[str]:
    options = ["--profile", "embedded", "--store", str(store)]
    for knob, value in SMALL.items():
        options += ["--set", f"{knob}={value}"]
    return options


@pytest.mark.parametrize("field", ["crf", "pseudo", "seg"])
def test_export_of_label_maps_keeps_labels_and_palette(
    field: str, small_store: Path, small_node: dict[str, Node], tmp_path: Path
) -> None:
    assert main(["export", field, *trial(small_store), "--out", str(tmp_path / "out")]) == 0
    folder = artifact_folder(small_store, small_node[field]) / "labels"
    exported = sorted(path.name for path in (tmp_path / "out").glob("*.png"))
    assert exported == sorted(path.name for path in folder.glob("*.png"))
    with Image.open(tmp_path / "out" / exported[0]) as image:
        assert image.mode == "P"
        assert np.array_equal(np.array(image), read_label_map(folder / exported[0], num_classes=20))
        assert image.getpalette()[:63] == palette()[:21].flatten().tolist()
    readme = (tmp_path / "out" / "README.txt").read_text()
    assert small_node[field].fingerprint in readme
    assert f"Made by the stage {field}" in readme
    assert "    1 " in readme


def test_export_by_fingerprint_gives_the_same_files(
    small_store: Path, small_node: dict[str, Node], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    fingerprint = small_node["pseudo"].fingerprint
    command = ["export", "pseudo", "--store", str(small_store), "--fingerprint", fingerprint]
    assert main([*command, "--out", str(out)]) == 0
    folder = artifact_folder(small_store, small_node["pseudo"]) / "labels"
    for path in folder.glob("*.png"):
        assert (out / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("form", ["psa", "irn"])
def test_export_of_cams_is_what_other_codes_read(
    form: str, small_store: Path, small_node: dict[str, Node], tmp_path: Path
) -> None:
    command = ["export", "cam", *trial(small_store), "--format", form, "--out", str(tmp_path)]
    assert main(command) == 0
    dataset = load_dataset(artifact_folder(small_store, small_node["data"]), data_root=None)
    name = dataset.splits["train_aug"][0]
    size = dataset.image(name).shape[:2]
    if form == "psa":
        maps, classes = read_class_maps(tmp_path / f"{name}.npy", num_classes=len(dataset.classes))
    else:
        # The reader of irn's own code; the file is one that this test wrote.
        saved = np.load(tmp_path / f"{name}.npy", allow_pickle=True).item()
        maps, classes = saved["high_res"], saved["keys"]
        assert saved["cam"].shape[0] == len(classes)
    assert tuple(classes) == dataset.labels[name]
    assert maps.shape == (len(classes), *size)
    assert maps.dtype == np.float32


def test_export_of_cams_as_pictures_names_the_classes(
    small_store: Path, small_node: dict[str, Node], tmp_path: Path
) -> None:
    assert main(["export", "cam", *trial(small_store), "--out", str(tmp_path)]) == 0
    dataset = load_dataset(artifact_folder(small_store, small_node["data"]), data_root=None)
    name = dataset.splits["train_aug"][0]
    names = {f"{name}_{dataset.classes[index]}.png" for index in dataset.labels[name]}
    assert {path.name for path in tmp_path.glob(f"{name}_*.png")} == names


def test_export_refuses_what_there_is_not(
    small_store: Path,
    small_node: dict[str, Node],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = ["--out", str(tmp_path / "out")]
    assert main(["export", "sag", *trial(small_store), *out]) == 2
    assert "there is no stage 'sag'; there are data, pretrain" in capsys.readouterr().err
    assert main(["export", "oc", *trial(small_store), *out]) == 2
    assert "has no label maps" in capsys.readouterr().err
    fingerprint = small_node["pseudo"].fingerprint
    of_pseudo = ["--store", str(small_store), "--fingerprint", fingerprint]
    assert main(["export", "seg", *of_pseudo, *out]) == 2
    expected = "was made by MakePseudoLabels; expected an artifact of seg, Segment"
    assert expected in capsys.readouterr().err
    assert main(["export", "nothing", *of_pseudo, *out]) == 2
    assert "there is no stage 'nothing'; there are data, pretrain" in capsys.readouterr().err
    assert main(["export", "seg", *trial(tmp_path / "empty"), *out]) == 2
    assert "run the trial first" in capsys.readouterr().err


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, size in {"wide.jpg": (50, 90), "tall.PNG": (70, 41)}.items():
        pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    return folder


@pytest.mark.parametrize("field", ["seg", "deeplab"])
def test_prediction_of_new_images_of_any_size(
    field: str, small_store: Path, small_node: dict[str, Node], photos: Path, tmp_path: Path
) -> None:
    command = ["predict", "--from", small_node[field].fingerprint, "--store", str(small_store)]
    assert main([*command, str(photos), "--out", str(tmp_path / "out")]) == 0
    for name, size in {"wide": (50, 90), "tall": (70, 41)}.items():
        labels = read_label_map(tmp_path / "out" / f"{name}.png", num_classes=20)
        assert labels.shape == size
    assert "    1 " in (tmp_path / "out" / "README.txt").read_text()


def test_prediction_of_an_image_of_val_is_the_segmentation_of_the_trial(
    small_store: Path, small_node: dict[str, Node], tmp_path: Path
) -> None:
    dataset = load_dataset(artifact_folder(small_store, small_node["data"]), data_root=None)
    name = dataset.splits["val"][0]
    folder = artifact_folder(small_store, small_node["seg"])
    image = str(dataset.image_path(name))
    command = ["predict", "--from", str(folder), "--store", str(small_store), "--device", "cpu"]
    assert main([*command, image, "--out", str(tmp_path)]) == 0
    ours = read_label_map(tmp_path / f"{name}.png", num_classes=20)
    assert np.array_equal(ours, read_label_map(folder / "labels" / f"{name}.png", num_classes=20))


def test_prediction_of_a_classifier_shows_the_maps_of_the_classes_it_sees(
    small_store: Path, small_node: dict[str, Node], photos: Path, tmp_path: Path
) -> None:
    command = ["predict", "--from", small_node["cam"].fingerprint, "--store", str(small_store)]
    assert main([*command, str(photos / "wide.jpg"), "--out", str(tmp_path / "out")]) == 0
    model = artifact_folder(small_store, small_node["cgnet"]) / "model.safetensors"
    classes = read_metadata(model)["classes"]
    dataset = load_dataset(artifact_folder(small_store, small_node["data"]), data_root=None)
    assert classes == dataset.classes
    shown = [path.stem.removeprefix("wide_") for path in (tmp_path / "out").glob("*.png")]
    assert shown
    assert set(shown) <= set(classes)


def test_predictions_that_would_overwrite_each_other_are_refused(
    small_store: Path,
    small_node: dict[str, Node],
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (photos / "wide.png").write_bytes((photos / "wide.jpg").read_bytes())
    command = ["predict", "--from", small_node["seg"].fingerprint, "--store", str(small_store)]
    assert main([*command, str(photos), "--out", str(tmp_path / "out")]) == 2
    assert "would both become wide.png" in capsys.readouterr().err
    assert main([*command, str(tmp_path / "none.jpg"), "--out", str(tmp_path / "out")]) == 2
    assert "no such image" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--scales", "0.001"], "wide.jpg is 50 x 90 (height x width), and the scale 0.001 leaves"),
        (["--device", "cuda:99"], "--device cuda:99: expected one of the"),
        (["--out", "FILE"], "which is a file; expected a folder"),
    ],
)
def test_prediction_names_the_option_that_cannot_be(
    options: list[str],
    message: str,
    small_store: Path,
    small_node: dict[str, Node],
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = photos / "wide.jpg"
    given = [str(file) if option == "FILE" else option for option in options]
    command = ["predict", "--from", small_node["seg"].fingerprint, "--store", str(small_store)]
    assert main([*command, str(file), "--out", str(tmp_path / "out"), *given]) == 2
    assert message in capsys.readouterr().err


def test_export_refuses_a_format_of_label_maps(
    small_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--format", "psa", "--out", str(tmp_path / "out")]
    assert main(["export", "crf", *trial(small_store), *out]) == 2
    assert "--format is psa, but crf has label maps" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
