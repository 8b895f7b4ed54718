"""`occse data relabel`: masks with colours or other numbers become masks of class numbers."""

import argparse
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8
from PIL import Image

from occse.commands.options import Commands, make_folder
from occse.data.dataset import MASK_SUFFIXES, VOID, read_png
from occse.data.layouts.voc import palette, write_label_map
from occse.naming.counts import number

PAIR = re.compile(r"(?:(\d{1,5})|#([0-9a-fA-F]{6}))=(\d{1,3})")
# Colours that a message lists: enough to see the kind of a mask.
SHOWN_COLOURS = 8
# Modes of PNG files whose pixels are colours.
COLOURED = ("RGB", "RGBA")


def add(commands: Commands) -> None:
    command = commands.add_parser("relabel", help="write masks anew, with the numbers of classes")
    command.set_defaults(command=relabel)
    command.add_argument("masks", type=Path, help="folder of PNG masks")
    command.add_argument(
        "pairs",
        nargs="*",
        metavar="OLD=NEW",
        help="a number or colour in the masks and the number of its class: 255=1, '#ff0000=2'; "
        "other numbers stay, colours are those of VOC's palette where no pair names one",
    )
    command.add_argument("--out", type=Path, required=True, help="folder to write into")


def relabel(options: argparse.Namespace) -> None:
    """Write each mask with its new numbers, and print the numbers that there are now.

    Raises:
        ValueError: a pair, a folder or a mask is not as expected, or a colour has no number.
    """
    numbers, colours = _pairs(options.pairs)
    if not options.masks.is_dir():
        raise ValueError(f"{options.masks} is not a folder; expected one of PNG masks")
    paths = sorted(path for path in options.masks.iterdir() if path.suffix in MASK_SUFFIXES)
    if not paths:
        raise ValueError(f"{options.masks} has no PNG file; expected masks")
    if options.out.exists() and options.out.samefile(options.masks):
        raise ValueError(f"--out is {options.out}, the folder of the masks; expected another one")
    make_folder(options.out)
    masks_of = np.zeros(VOID + 1, int)
    for path in paths:
        labels = _relabelled(path, numbers, colours)
        write_label_map(options.out / f"{path.stem}.png", labels)
        masks_of[np.unique(labels)] += 1
    print(f"{number(len(paths), 'mask')} written to {options.out}")
    for label in np.flatnonzero(masks_of):
        print(f"{label:>5}  in {number(int(masks_of[label]), 'mask')}")


def _pairs(texts: list[str]) -> tuple[dict[int, int], dict[int, int]]:
    """Return the new label by number, and by colour as 0xRRGGBB."""
    numbers: dict[int, int] = {}
    colours: dict[int, int] = {}
    for text in texts:
        match = PAIR.fullmatch(text)
        if match is None or int(match[3]) > VOID:
            raise ValueError(
                f"{text!r} is no OLD=NEW; expected a number or a colour in the masks, and 0 "
                f"(background), the number of a class or {VOID} (void): 255=1 or '#ff0000=2'"
            )
        if match[1] is not None:
            numbers[int(match[1])] = int(match[3])
        else:
            colours[int(match[2], 16)] = int(match[3])
    if numbers and colours:
        raise ValueError("numbers and colours in one command; expected one of the two kinds")
    return numbers, colours


def _relabelled(
    path: Path, numbers: Mapping[int, int], colours: Mapping[int, int]
) -> UInt8[np.ndarray, "H W"]:
    image = read_png(path)
    if colours or image.mode in COLOURED:
        if numbers:
            raise ValueError(
                f"{path} has colours (mode {image.mode}); expected pairs such as '#ff0000=2'"
            )
        return _of_colours(path, image, colours or _voc_colours())
    pixels: Int64[np.ndarray, "H W"] = np.array(
        image.getchannel(0) if image.mode == "LA" else image
    )
    values = np.unique(pixels)
    new = np.array([numbers.get(int(value), int(value)) for value in values])
    if (new > VOID).any():
        raise ValueError(
            f"{path} has the number {new.max()}; expected at most {VOID}: "
            f"name its class as {new.max()}=NEW"
        )
    return new[np.searchsorted(values, pixels)].astype(np.uint8)


def _of_colours(
    path: Path, image: Image.Image, colours: Mapping[int, int]
) -> UInt8[np.ndarray, "H W"]:
    rgb = np.array(image.convert("RGB")).astype(int)
    codes: Int64[np.ndarray, "H W"] = (rgb[..., 0] << 16) + (rgb[..., 1] << 8) + rgb[..., 2]
    values, counts = np.unique(codes, return_counts=True)
    unknown = [int(value) for value in values[np.argsort(-counts)] if int(value) not in colours]
    if unknown:
        listed = ", ".join(f"'#{value:06x}'" for value in unknown[:SHOWN_COLOURS])
        more = f" and {len(unknown) - SHOWN_COLOURS} more" if len(unknown) > SHOWN_COLOURS else ""
        raise ValueError(
            f"{path} has colours without a number: {listed}{more}; expected a pair such as "
            f"'#{unknown[0]:06x}=1' for each colour of the masks, the background's too (many "
            "colours are the mark of a blurred mask, a JPEG or a resized one)"
        )
    new = np.array([colours[int(value)] for value in values])
    return new[np.searchsorted(values, codes)].astype(np.uint8)


def _voc_colours() -> dict[int, int]:
    return {
        (int(red) << 16) + (int(green) << 8) + int(blue): label
        for label, (red, green, blue) in enumerate(palette())
    }
