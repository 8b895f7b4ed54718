"""`python -m occse data relabel` mends the masks that `data check` refuses."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from occse.__main__ import main
from occse.data.dataset import read_label_map
from occse.data.layouts.voc import palette, write_label_map

LABELS = np.zeros((6, 8), np.uint8)
LABELS[1:3, 1:5] = 1
LABELS[4, 2:7] = 2


@pytest.fixture
def masks(tmp_path: Path) -> Path:
    folder = tmp_path / "masks"
    folder.mkdir()
    return folder


def relabelled(masks: Path, *pairs: str) -> np.ndarray:
    out = masks.parent / "mended"
    assert main(["data", "relabel", str(masks), *pairs, "--out", str(out)]) == 0
    return read_label_map(out / "a.png", num_classes=2)


def test_relabel_turns_other_numbers_into_those_of_classes(
    masks: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(np.where(LABELS == 1, 255, LABELS)).save(masks / "a.png")
    np.testing.assert_array_equal(relabelled(masks, "255=1"), LABELS)
    shown = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert shown == [["0", "in", "1", "mask"], ["1", "in", "1", "mask"], ["2", "in", "1", "mask"]]
    # All numbers change at once: exchanged ones do not run into each other.
    write_label_map(masks / "a.png", LABELS)
    np.testing.assert_array_equal(relabelled(masks, "1=2", "2=1"), np.array([0, 2, 1])[LABELS])


def test_relabel_turns_colours_into_numbers(masks: Path) -> None:
    Image.fromarray(palette()[LABELS]).save(masks / "a.png")
    np.testing.assert_array_equal(relabelled(masks), LABELS)
    own = np.array([[0, 0, 0], [255, 0, 0], [255, 255, 255]], np.uint8)
    Image.fromarray(own[LABELS]).save(masks / "a.png")
    np.testing.assert_array_equal(relabelled(masks, "#000000=0", "#FF0000=1", "#ffffff=2"), LABELS)
    # A palette whose indices mean nothing: the colours do.
    Image.fromarray(own[LABELS]).quantize(3).save(masks / "a.png")
    np.testing.assert_array_equal(relabelled(masks, "#000000=0", "#FF0000=1", "#ffffff=2"), LABELS)


def test_relabel_takes_masks_of_16_bits(masks: Path) -> None:
    Image.fromarray(LABELS.astype(np.uint16) * 500).save(masks / "a.png")
    np.testing.assert_array_equal(relabelled(masks, "500=1", "1000=2"), LABELS)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (["255"], "'255' is no OLD=NEW"),
        (["1=256"], "'1=256' is no OLD=NEW"),
        (["1=2", "#000000=0"], "numbers and colours in one command"),
        (["1=2"], r"a.png has colours (mode RGB)"),
        (["#000000=0"], "colours without a number: '#ff0000'"),
    ],
)
def test_relabel_names_pairs_and_masks_that_do_not_fit(
    masks: Path, capsys: pytest.CaptureFixture[str], pairs: list[str], message: str
) -> None:
    colours = np.array([[0, 0, 0], [255, 0, 0], [0, 0, 0]], np.uint8)
    Image.fromarray(colours[LABELS]).save(masks / "a.png")
    assert main(["data", "relabel", str(masks), *pairs, "--out", str(masks.parent / "out")]) == 2
    assert message in capsys.readouterr().err


def test_relabel_overwrites_no_mask(masks: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_label_map(masks / "a.png", LABELS)
    before = (masks / "a.png").read_bytes()
    assert main(["data", "relabel", str(masks), "1=2", "--out", str(masks)]) == 2
    assert "expected another one" in capsys.readouterr().err
    assert (masks / "a.png").read_bytes() == before
