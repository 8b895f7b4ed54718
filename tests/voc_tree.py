"""A data set of three images in VOC's layout, for the tests of everything that reads one."""

from pathlib import Path

import numpy as np
from PIL import Image

from occse.data.layouts.voc import VOC_CLASSES, write_label_map

OBJECTS = {"a_1": ("dog", "person", "dog"), "a_2": ("cat",), "b_1": ("tvmonitor", "aeroplane")}
LISTS = {"train_aug": ("a_1", "a_2"), "train": ("a_2",), "val": ("b_1",)}
HEIGHT, WIDTH = 12, 20
PERSON_WITH_HEAD = "<part><name>head</name></part>"


def annotation(objects: tuple[str, ...]) -> str:
    elements = (f"<object><name>{name}</name>{PERSON_WITH_HEAD}</object>" for name in objects)
    return f"<annotation><folder>VOC2012</folder>{''.join(elements)}</annotation>"


def write_list(root: Path, split: str, lines: tuple[str, ...]) -> None:
    (root / "ImageSets" / "Segmentation" / f"{split}.txt").write_text("\n".join(lines) + "\n")


def write_voc(root: Path) -> Path:
    """Write the tree and return its folder."""
    for folder in ("JPEGImages", "Annotations", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, objects in OBJECTS.items():
        pixels = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "JPEGImages" / f"{name}.jpg", quality=95)
        (root / "Annotations" / f"{name}.xml").write_text(annotation(objects))
    for name in ("a_2", "b_1"):
        write_label_map(root / "SegmentationClass" / f"{name}.png", mask_of(name))
    for split, names in LISTS.items():
        write_list(root, split, names)
    return root


def mask_of(name: str) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    first, last = (VOC_CLASSES.index(OBJECTS[name][place]) + 1 for place in (0, -1))
    mask[2:5], mask[5], mask[6:] = first, 255, last
    return mask
