"""Panels of the small data set, looked at pixel by pixel."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small import SMALL

from occse.__main__ import main
from occse.artifacts.manifest import artifact_folder
from occse.artifacts.panels import (
    GAP,
    HEADER,
    MAPS_KEY,
    SIDE,
    choose,
    draw_panel,
    overlay,
    write_maps,
)
from occse.data.array_archive import ArrayReader
from occse.data.dataset import load_dataset, read_label_map
from occse.data.layouts.voc import palette
from occse.data.score_archives import CAMS, read_cam
from occse.pipeline import Node


@pytest.fixture
def folders(small_store: Path, small_node: dict[str, Node]) -> dict[str, Path]:
    return {field: artifact_folder(small_store, node) for field, node in small_node.items()}


def cells(panel: Image.Image, number: int) -> list[np.ndarray]:
    """The pictures of a panel of square images whose titles are no wider than they are."""
    array = np.array(panel)
    return [
        array[HEADER : HEADER + SIDE, (lefts := GAP + i * (SIDE + GAP)) : lefts + SIDE]
        for i in range(number)
    ]


def enlarged(pixels: np.ndarray) -> np.ndarray:
    return np.array(Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.NEAREST))


def test_a_training_image_shows_image_maps_labels_and_truth(folders: dict[str, Path]) -> None:
    dataset = load_dataset(folders["data"], data_root=None)
    (name,) = choose(dataset, "train", number=1)
    found = cells(draw_panel(name, folders), number := 4 + len(dataset.labels[name]))
    assert np.array_equal(found[0], enlarged(dataset.image(name)))
    for cell, field in zip(found[-3:-1], ("crf", "pseudo"), strict=True):
        labels = read_label_map(
            folders[field] / "labels" / f"{name}.png", num_classes=len(dataset.classes)
        )
        assert np.array_equal(cell, enlarged(palette()[labels]))
    assert np.array_equal(found[number - 1], enlarged(palette()[dataset.mask(name)]))


def test_an_image_of_val_shows_the_segmentation_beside_the_truth(folders: dict[str, Path]) -> None:
    dataset = load_dataset(folders["data"], data_root=None)
    (name,) = choose(dataset, "val", number=1)
    panel = draw_panel(name, folders)
    assert panel.width == GAP + 3 * (SIDE + GAP)
    labels = read_label_map(
        folders["seg"] / "labels" / f"{name}.png", num_classes=len(dataset.classes)
    )
    assert np.array_equal(cells(panel, 3)[1], enlarged(palette()[labels]))


def test_maps_hold_the_cells_as_they_are_and_say_what_they_show(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    dataset = load_dataset(folders["data"], data_root=None)
    (name,) = choose(dataset, "train", number=1)
    write_maps(name, folders, tmp_path / "maps.png")
    with Image.open(tmp_path / "maps.png") as sheet:
        described = json.loads(sheet.text[MAPS_KEY])
        pixels = np.asarray(sheet)
    by_title = {cell["title"]: cell for cell in described["cells"]}
    crops = {
        title: pixels[:, cell["left"] : cell["left"] + cell["width"]]
        for title, cell in by_title.items()
    }
    assert np.array_equal(crops[name], dataset.image(name))
    assert np.array_equal(crops["truth"], palette()[dataset.mask(name)])
    cams = [title for title, cell in by_title.items() if cell["kind"] == "cam"]
    assert cams == [f"CAM {dataset.classes[index]}" for index in dataset.labels[name]]
    maps, _ = read_cam(ArrayReader(folders["cam"] / CAMS), name, dataset.image(name).shape[:2])
    assert np.array_equal(crops[cams[0]][..., 0], np.rint(255 * maps[0]))
    shown = {dataset.classes[index] for index in dataset.labels[name]}
    assert shown <= described["classes"].keys()
    for index, class_name in enumerate(dataset.classes, start=1):
        if class_name in described["classes"]:
            colour = "#{:02x}{:02x}{:02x}".format(*palette()[index])
            assert described["classes"][class_name] == colour


def test_the_chosen_images_are_fixed_and_show_several_classes_first(
    folders: dict[str, Path],
) -> None:
    dataset = load_dataset(folders["data"], data_root=None)
    chosen = choose(dataset, "train", number=8)
    assert chosen == choose(dataset, "train", number=8)
    assert choose(dataset, "train", number=8, seed=1) != chosen
    several = [len(dataset.labels[name]) > 1 for name in chosen]
    assert several == sorted(several, reverse=True)
    assert len({*chosen}) == 8


def test_a_map_is_brighter_where_it_is_higher() -> None:
    image = np.full((1, 3, 3), 100, np.uint8)
    low, middle, high = (
        overlay(image, np.array([[0, 0.5, 1]], np.float32))[0].astype(int).sum(axis=-1)
    )
    assert low < middle < high


def test_the_command_draws_what_is_there_and_names_what_is_not(
    small_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    knobs = [f"--set={knob}={value}" for knob, value in SMALL.items()]
    command = [
        "panels",
        "--profile",
        "embedded",
        *knobs,
        "--store",
        str(small_store),
        "--out",
        str(tmp_path / "out"),
    ]
    assert main([*command, "--number", "1", "--set=deeplab.seed=99"]) == 0
    out = capsys.readouterr().out
    assert "and so not shown: deeplab, seg" in out
    pictures = sorted((tmp_path / "out").glob("*.png"))
    assert len(pictures) == 2
    for path in pictures:
        with Image.open(path) as picture:
            assert picture.height == HEADER + SIDE + GAP + HEADER, (
                "cells, and a line for the legend"
            )
    assert main([*command, "--images", "nobody"]) == 2
    assert "no image 'nobody'" in capsys.readouterr().err


def test_a_store_without_the_data_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        main(
            [
                "panels",
                "--profile",
                "embedded",
                "--store",
                str(tmp_path),
                "--out",
                str(tmp_path / "out"),
            ]
        )
        == 2
    )
    assert "of 'data': run the trial first" in capsys.readouterr().err


def test_a_large_image_is_reduced_and_its_colours_are_named(folders: dict[str, Path]) -> None:
    dataset = load_dataset(folders["data"], data_root=None)
    (name,) = choose(dataset, "train", number=1)
    small = draw_panel(name, folders, max_side=40)
    usual = draw_panel(name, folders)
    assert small.height < usual.height
    array = np.array(usual)
    legend = array[HEADER + SIDE + GAP :]
    shown = {0, *np.unique(dataset.mask(name)).tolist()}
    for label in shown - {255}:
        assert (legend == palette()[label]).all(-1).any(), label
