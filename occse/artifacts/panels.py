"""Results of the stages for one image, side by side, from the artifacts alone.

An image of `train_aug` shows its maps (one per present class), the CRF's labels and the pseudo
labels; one of `val` shows the segmentation; both the truth where there is one. Results that an
artifact does not have are left out.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image, ImageDraw, ImageFont

from occse.data.array_archive import ArrayReader
from occse.data.dataset import Dataset, load_dataset, read_label_map
from occse.data.layouts.voc import palette
from occse.pipeline import scored_fields, stage_classes
from occse.stage import LABELS

Rgb = UInt8[np.ndarray, "H W 3"]
# Smaller images are enlarged to this side, in pixels.
SIDE = 200
# Pixels between two cells.
GAP = 6
# Pixels above a cell, for its title.
HEADER = 20
# Height of the titles' letters, in pixels.
FONT_SIZE = 13
# Dark violet over red to pale yellow, as lightness rises: reads in grey and with any colour vision.
HEAT = np.array([[0, 0, 4], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]])
# The grey image stays visible under the heat.
HEAT_SHARE = 0.6


def choose(dataset: Dataset, split: str, *, number: int, seed: int = 0) -> tuple[str, ...]:
    """Return `number` images of `split`, the same for every trial on these data.

    Images of several classes come first: on images of one class, class-specific and class-agnostic
    erasing do the same.
    """
    names = sorted(dataset.splits[split])
    shuffled = np.random.default_rng(seed).permutation(len(names)).tolist()
    ordered = sorted(shuffled, key=lambda index: len(dataset.labels[names[index]]) < 2)
    return tuple(names[index] for index in ordered[:number])


def draw_panel(
    name: str, folders: Mapping[str, Path], *, data_root: Path | None = None
) -> Image.Image:
    """Return the panel of the image `name`.

    Args:
        name: image of the data set.
        folders: folders of the artifacts by pipeline field: "data", and any of "cam", "crf",
            "pseudo", "seg".
        data_root: folder of data that are read in place.

    Raises:
        ValueError: the data set has no such image, or an artifact is damaged.
    """
    dataset = load_dataset(folders["data"], data_root=data_root)
    if name not in dataset.labels:
        raise ValueError(
            f"the data set has no image {name!r}; it has {len(dataset.labels)}, "
            f"such as {_some(dataset)}"
        )
    image = dataset.image(name)
    return _side_by_side([(name, image), *_cells(name, image, dataset, folders)])


def overlay(image: Rgb, cam: Float32[np.ndarray, "H W"]) -> Rgb:
    """Draw a normalized map in [0, 1] over the grey image."""
    positions = np.linspace(0, 1, len(HEAT))
    heat = np.stack([np.interp(cam, positions, HEAT[:, channel]) for channel in range(3)], axis=-1)
    grey = image.mean(axis=-1, keepdims=True)
    mixed: Rgb = np.rint(HEAT_SHARE * heat + (1 - HEAT_SHARE) * grey).astype(np.uint8)
    return mixed


def _cells(
    name: str, image: Rgb, dataset: Dataset, folders: Mapping[str, Path]
) -> Iterator[tuple[str, Rgb]]:
    if "cam" in folders and name in dataset.splits["train_aug"]:
        # Imported here: it needs torch, and callers that draw nothing do not.
        from occse.data.score_archives import CAMS, read_cam

        maps, classes = read_cam(ArrayReader(folders["cam"] / CAMS), name, image.shape[:2])
        for index, cam in zip(classes, maps, strict=True):
            yield f"CAM {dataset.classes[index]}", overlay(image, cam)
    for field in scored_fields():
        if field not in folders:
            continue
        path = folders[field] / LABELS / f"{name}.png"
        # CAMs have no label maps, and the network's are of another split.
        if path.exists():
            labels = read_label_map(path, num_classes=len(dataset.classes))
            yield stage_classes(field)[0].display_name, palette()[labels]
    if dataset.mask_path(name).exists():
        yield "truth", palette()[dataset.mask(name)]


def _side_by_side(cells: list[tuple[str, Rgb]]) -> Image.Image:
    """Draw cells of the same height with a title above each; enlarge small images."""
    height, width = cells[0][1].shape[:2]
    factor = max(1.0, SIDE / max(height, width))
    size = (round(width * factor), round(height * factor))
    columns = [max(size[0], round(_font().getlength(title))) + GAP for title, _ in cells]
    sheet = Image.new("RGB", (sum(columns) + GAP, size[1] + HEADER + GAP), "white")
    pen = ImageDraw.Draw(sheet)
    left = GAP
    for (title, pixels), column in zip(cells, columns, strict=True):
        pen.text((left, 2), title, fill="black", font=_font())
        sheet.paste(Image.fromarray(pixels).resize(size, Image.Resampling.NEAREST), (left, HEADER))
        left += column
    return sheet


def _font() -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size=FONT_SIZE)


def _some(dataset: Dataset) -> str:
    return ", ".join(sorted(dataset.labels)[:3])
