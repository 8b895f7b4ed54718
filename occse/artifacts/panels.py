"""Results of the stages for one image, side by side, from the artifacts alone.

An image of `train_aug` shows its maps (one per present class), the CRF's labels and the pseudo
labels; one of `val` shows the segmentation; both the truth where there is one. Results that an
artifact does not have are left out.

A panel is for the eye: enlarged, with titles and a legend of the classes. A sheet of maps has the
same cells for programs: no titles, CAMs as plain grey values, and a description in the PNG's text.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from occse.data.array_archive import ArrayReader
from occse.data.dataset import Dataset, load_dataset, read_label_map
from occse.data.layouts.voc import palette
from occse.pipeline import scored_fields, stage_classes
from occse.stage import LABELS

Rgb = UInt8[np.ndarray, "H W 3"]
# Smaller images are enlarged to this side, in pixels.
SIDE = 200
# Larger images are reduced to this side, in pixels: a photograph of VOC keeps its size.
MAX_SIDE = 500
# Pixels between two cells.
GAP = 6
# Pixels above a cell, for its title.
HEADER = 20
# Height of the titles' letters, in pixels.
FONT_SIZE = 13
# Dark violet over red to pale yellow, as lightness rises: reads in grey and with any colour vision.
HEAT = np.array([[0, 0, 4], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]])
# Larger images are reduced to this side on a sheet of maps, which pages show small.
MAP_SIDE = 320
# The key of the text in a sheet of maps that describes its cells.
MAPS_KEY = "occse.maps"
# The grey image stays visible under the heat.
HEAT_SHARE = 0.6


@dataclass(frozen=True)
class Cell:
    """One result for one image.

    Attributes:
        title: above it on a panel.
        kind: `image`, the input; `cam`, one map; `labels`, a label map in the classes' colours.
        pixels: as a panel shows them.
        plain: (H, W) grey values of a CAM, 255 for 1; None for other kinds.
    """

    title: str
    kind: Literal["image", "cam", "labels"]
    pixels: Rgb
    plain: UInt8[np.ndarray, "H W"] | None = None


def choose(dataset: Dataset, split: str, *, number: int, seed: int = 0) -> tuple[str, ...]:
    """Return `number` images of `split`, the same for every trial on these data.

    Images of several classes come first: on images of one class, class-specific and class-agnostic
    erasing do the same. Where no image of `train` has a mask, those of `train_aug` stand for it.
    """
    names = sorted(dataset.splits[split])
    if split == "train" and not names:
        names = sorted(dataset.splits["train_aug"])
    shuffled = np.random.default_rng(seed).permutation(len(names)).tolist()
    # False comes first, and sorting is stable: in both halves the shuffled order stays.
    ordered = sorted(shuffled, key=lambda index: len(dataset.labels[names[index]]) < 2)
    return tuple(names[index] for index in ordered[:number])


def draw_panel(
    name: str,
    folders: Mapping[str, Path],
    *,
    data_root: Path | None = None,
    max_side: int = MAX_SIDE,
) -> Image.Image:
    """Return the panel of the image `name`, with a legend of the classes that it shows.

    Args:
        name: image of the data set.
        folders: folders of the artifacts by pipeline field: "data", and any of "cam", "crf",
            "pseudo", "seg".
        data_root: folder of data that are read in place.
        max_side: larger images are reduced to this side, in pixels.

    Raises:
        ValueError: the data set has no such image, or an artifact is damaged.
    """
    dataset = _dataset_with(name, folders, data_root)
    cells = list(_cells(name, dataset, folders))
    return _with_legend(_side_by_side(cells, max_side=max_side), _colours(cells, dataset))


def write_maps(
    name: str, folders: Mapping[str, Path], path: Path, *, data_root: Path | None = None
) -> None:
    """Write the cells of the image `name` side by side to the PNG file `path`, for programs.

    The text `occse.maps` of the file describes them as JSON: `cells`, each with its title, kind,
    `left` and `width` in pixels, and `classes`, the colour of each class that the label maps show.

    Args and errors: as for `draw_panel`.
    """
    dataset = _dataset_with(name, folders, data_root)
    cells = list(_cells(name, dataset, folders))
    height, width = cells[0].pixels.shape[:2]
    factor = min(1.0, MAP_SIDE / max(height, width))
    size = (round(width * factor), round(height * factor))
    sheet = Image.new("RGB", (size[0] * len(cells), size[1]))
    described = []
    for index, cell in enumerate(cells):
        left = index * size[0]
        # between two labels lies no third one, so label maps are not interpolated
        how = Image.Resampling.NEAREST if cell.kind == "labels" else Image.Resampling.BILINEAR
        pixels = Image.fromarray(cell.pixels if cell.plain is None else cell.plain)
        sheet.paste(pixels.resize(size, how).convert("RGB"), (left, 0))
        about = {"title": cell.title, "kind": cell.kind, "left": left, "width": size[0]}
        described.append(about)
    text = PngInfo()
    classes = _colours(cells, dataset)
    text.add_text(MAPS_KEY, json.dumps({"cells": described, "classes": classes}))
    sheet.save(path, format="PNG", pnginfo=text, optimize=True)


def overlay(image: Rgb, cam: Float32[np.ndarray, "H W"]) -> Rgb:
    """Draw a normalized map in [0, 1] over the grey image."""
    positions = np.linspace(0, 1, len(HEAT))
    heat = np.stack([np.interp(cam, positions, HEAT[:, channel]) for channel in range(3)], axis=-1)
    grey = image.mean(axis=-1, keepdims=True)
    mixed: Rgb = np.rint(HEAT_SHARE * heat + (1 - HEAT_SHARE) * grey).astype(np.uint8)
    return mixed


def _dataset_with(name: str, folders: Mapping[str, Path], data_root: Path | None) -> Dataset:
    dataset = load_dataset(folders["data"], data_root=data_root)
    if name not in dataset.labels:
        raise ValueError(
            f"the data set has no image {name!r}; it has {len(dataset.labels)}, "
            f"such as {_some(dataset)}"
        )
    return dataset


def _cells(name: str, dataset: Dataset, folders: Mapping[str, Path]) -> Iterator[Cell]:
    image = dataset.image(name)
    yield Cell(name, "image", image)
    if "cam" in folders and name in dataset.splits["train_aug"]:
        # Imported here: it needs torch, and callers that draw nothing do not.
        from occse.data.score_archives import CAMS, read_cam

        maps, classes = read_cam(ArrayReader(folders["cam"] / CAMS), name, image.shape[:2])
        for index, cam in zip(classes, maps, strict=True):
            title = f"CAM {dataset.classes[index]}"
            plain = np.rint(255 * cam).astype(np.uint8)
            yield Cell(title, "cam", overlay(image, cam), plain)
    for field in scored_fields():
        if field not in folders:
            continue
        path = folders[field] / LABELS / f"{name}.png"
        # CAMs have no label maps, and the network's are of another split.
        if path.exists():
            labels = read_label_map(path, num_classes=len(dataset.classes))
            # From (H, W) labels to (H, W, 3) colours.
            yield Cell(stage_classes(field)[0].display_name, "labels", palette()[labels])
    if name not in dataset.unmasked and dataset.mask_path(name).exists():
        yield Cell("truth", "labels", palette()[dataset.mask(name)])


def _colours(cells: Sequence[Cell], dataset: Dataset) -> dict[str, str]:
    """Return the classes that the label maps show, background aside, with their colours."""
    shown: set[tuple[int, ...]] = set()
    for cell in cells:
        if cell.kind == "labels":
            colours = np.unique(cell.pixels.reshape(-1, 3), axis=0)
            shown |= {tuple(map(int, colour)) for colour in colours}
    found = {}
    for index, name in enumerate(dataset.classes, start=1):
        colour = tuple(map(int, palette()[index]))
        if colour in shown:
            found[name] = "#{:02x}{:02x}{:02x}".format(*colour)
    return found


def _with_legend(sheet: Image.Image, colours: Mapping[str, str]) -> Image.Image:
    """Add a line below the cells that names the colour of each class."""
    if not colours:
        return sheet
    whole = Image.new("RGB", (sheet.width, sheet.height + HEADER), "white")
    whole.paste(sheet, (0, 0))
    pen = ImageDraw.Draw(whole)
    left = GAP
    top = sheet.height
    for name, colour in colours.items():
        pen.rectangle((left, top + 2, left + FONT_SIZE, top + 2 + FONT_SIZE), fill=colour)
        pen.text((left + FONT_SIZE + GAP, top + 2), name, fill="black", font=_font())
        left += FONT_SIZE + round(_font().getlength(name)) + 4 * GAP
    return whole


def _side_by_side(cells: Sequence[Cell], *, max_side: int) -> Image.Image:
    """Draw cells of the same height with a title above each; enlarge small images."""
    height, width = cells[0].pixels.shape[:2]
    longest = max(height, width)
    factor = min(max(1.0, SIDE / longest), max_side / longest)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    columns = [max(size[0], round(_font().getlength(cell.title))) + GAP for cell in cells]
    sheet = Image.new("RGB", (sum(columns) + GAP, size[1] + HEADER + GAP), "white")
    pen = ImageDraw.Draw(sheet)
    left = GAP
    for cell, column in zip(cells, columns, strict=True):
        pen.text((left, 2), cell.title, fill="black", font=_font())
        # The colours of labels must not mix, and enlarged pixels should be seen as they are.
        is_exact = cell.kind == "labels" or factor >= 1
        how = Image.Resampling.NEAREST if is_exact else Image.Resampling.BOX
        sheet.paste(Image.fromarray(cell.pixels).resize(size, how), (left, HEADER))
        left += column
    return sheet


def _font() -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size=FONT_SIZE)


def _some(dataset: Dataset) -> str:
    return ", ".join(sorted(dataset.labels)[:3])
