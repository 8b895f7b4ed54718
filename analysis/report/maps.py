"""The sheets of maps that a trial left in MLflow: results of its stages for a few images.

A sheet is a PNG file, `maps/<image>.png`, of cells side by side. Its text `occse.maps` describes
them as JSON.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from analysis.read.artifacts import names_below, run_file
from analysis.read.json_text import parse_json

KEY = "occse.maps"
FOLDER = "maps"
# A sheet has some ten cells of 320 x 320 pixels; more is not a sheet of ours.
MOST_PIXELS = 20_000_000


@dataclass(frozen=True, kw_only=True)
class MapCell:
    """One result for one image.

    Attributes:
        title: of the cell.
        kind: `image`, `cam` or `labels`.
        pixels: (H, W, 3); of a CAM all channels are its value times 255.
    """

    title: str
    kind: str
    pixels: NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Maps:
    """The cells of an image, and the colours of the classes that its label maps show."""

    cells: tuple[MapCell, ...]
    classes: dict[str, str]


def images_with_maps(run: str, *, tracking: str | None) -> list[str]:
    """Return the names of the images of which a run has maps."""
    files = names_below(run, FOLDER, tracking=tracking)
    return sorted(Path(name).stem for name in files if name.endswith(".png"))


def maps_of(run: str, image: str, *, tracking: str | None) -> Maps:
    """Return the maps of an image by a run.

    Raises:
        ValueError: the run has no such file, or it is damaged.
    """
    with run_file(run, f"{FOLDER}/{image}.png", tracking=tracking) as path:
        try:
            return _read(path)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"run {run}, maps of {image}: damaged: {error}") from None


def _read(path: Path) -> Maps:
    with Image.open(path, formats=["PNG"]) as sheet:
        # Before the pixels are decoded: a small PNG can claim an image that fills the memory.
        if sheet.width * sheet.height > MOST_PIXELS:
            raise ValueError(f"{sheet.width} x {sheet.height} pixels")
        described = parse_json(sheet.info[KEY])
        pixels = np.asarray(sheet.convert("RGB"))
    cells = []
    for cell in described["cells"]:
        left = int(cell["left"])
        own = pixels[:, left : left + int(cell["width"])]
        cells.append(MapCell(title=str(cell["title"]), kind=str(cell["kind"]), pixels=own))
    classes = {str(name): str(colour) for name, colour in described["classes"].items()}
    return Maps(cells=tuple(cells), classes=classes)
