"""Pictures of what the stages made of an image, side by side, from the artifacts alone.

An image of `train_aug` shows its maps (one per present class), the CRF's labels and the pseudo
labels; one of `val` shows the segmentation; both the truth where there is one. What an artifact
does not have is left out."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image, ImageDraw, ImageFont

from occse.data.array_archive import ArrayReader
from occse.data.dataset import Dataset, load_dataset, read_label_map
from occse.data.layouts.voc import palette
from occse.stages.cam import CAMS, read_cam
from occse.stages.crf import LABELS

Rgb = UInt8[np.ndarray, "H W 3"]
LABEL_MAPS = {"crf": "CRF", "pseudo": "pseudo label", "seg": "segmentation"}
SIDE = 200
GAP = 6
HEADER = 20
# Dark violet over red to pale yellow, as lightness rises: reads in grey and with any colour vision.
HEAT = np.array([[0, 0, 4], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]])
HEAT_SHARE = 0.6


def choose(dataset: Dataset, split: str, *, number: int, seed: int = 0) -> tuple[str, ...]:
    """`number` images of `split`, the same for every trial on these data; those of several classes
    come first.

    On images of one class, class-specific and class-agnostic erasing do the same.
    """
    names = sorted(dataset.splits[split])
    shuffled = np.random.default_rng(seed).permutation(len(names)).tolist()
    ordered = sorted(shuffled, key=lambda index: len(dataset.labels[names[index]]) < 2)
    return tuple(names[index] for index in ordered[:number])


def draw_panel(
    name: str, folders: Mapping[str, Path], *, data_root: Path | None = None
) -> Image.Image:
    """The panel of the image `name`.

    Args:
        name: image of the data set. folders: of the artifacts by pipeline field: "data", and any of
        "cam", "crf", "pseudo", "seg". data_root: where data that are read in place lie.

    Raises:
        ValueError: the data set has no such image, or an artifact is damaged.
    """
    dataset = load_dataset(folders["data"], data_root=data_root)
    if name not in dataset.labels:
        raise ValueError(
            f"the data set has no image {name!r}; it has {len(dataset.labels)}, such as {_some(dataset)}"
        )
    image = dataset.image(name)
    return _side_by_side([(name, image), *_cells(name, image, dataset, folders)])


def overlay(image: Rgb, cam: Float32[np.ndarray, "H W"]) -> Rgb:
    """A normalized map in [0, 1] over the grey image."""
    positions = np.linspace(0, 1, len(HEAT))
    heat = np.stack([np.interp(cam, positions, HEAT[:, channel]) for channel in range(3)], axis=-1)
    grey = image.mean(axis=-1, keepdims=True)
    mixed: Rgb = np.rint(HEAT_SHARE * heat + (1 - HEAT_SHARE) * grey).astype(np.uint8)
    return mixed


def _cells(
    name: str, image: Rgb, dataset: Dataset, folders: Mapping[str, Path]
) -> Iterator[tuple[str, Rgb]]:
    if "cam" in folders and name in dataset.splits["train_aug"]:
        cam, classes = read_cam(ArrayReader(folders["cam"] / CAMS), name, image.shape[:2])
        yield from (
            (f"CAM {dataset.classes[c]}", overlay(image, each))
            for c, each in zip(classes, cam, strict=True)
        )
    for field, title in LABEL_MAPS.items():
        path = folders[field] / LABELS / f"{name}.png" if field in folders else None
        if path is not None and path.exists():
            yield title, palette()[read_label_map(path, num_classes=len(dataset.classes))]
    if dataset.mask_path(name).exists():
        yield "truth", palette()[dataset.mask(name)]


def _side_by_side(cells: list[tuple[str, Rgb]]) -> Image.Image:
    """Cells of the same height with a title above each; small images are enlarged to be seen."""
    height, width = cells[0][1].shape[:2]
    factor = max(1.0, SIDE / max(height, width))
    size = round(width * factor), round(height * factor)
    columns = [max(size[0], round(_font().getlength(title))) + GAP for title, _ in cells]
    sheet = Image.new("RGB", (sum(columns) + GAP, size[1] + HEADER + GAP), "white")
    pen, left = ImageDraw.Draw(sheet), GAP
    for (title, pixels), column in zip(cells, columns, strict=True):
        pen.text((left, 2), title, fill="black", font=_font())
        sheet.paste(Image.fromarray(pixels).resize(size, Image.Resampling.NEAREST), (left, HEADER))
        left += column
    return sheet


def _font() -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size=13)


def _some(dataset: Dataset) -> str:
    return ", ".join(sorted(dataset.labels)[:3])
