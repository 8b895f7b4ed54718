"""The layout of PASCAL VOC: image labels from annotations or one file, masks as palette PNG."""

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from occse.data.dataset import Dataset
from occse.data.layouts.voc_lists import list_path, read_lists
from occse.data.npy_dicts.cls_labels import read_cls_labels
from occse.data.reading import check_present, read_text
from occse.data.tree import TEST_SPLIT

VOC_CLASSES = (
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)
# Split lists that are read, besides an optional `test`.
SPLITS = ("train_aug", "train", "val")
FOLDERS = ("JPEGImages", "Annotations", "SegmentationClass", "ImageSets/Segmentation")
# VOC's largest annotation has 16 kB.
MAX_XML_BYTES = 1_000_000
# The file of image labels that jiwoon-ahn/psa and jiwoon-ahn/irn bring, below the root.
LABELS = "cls_labels.npy"
LabelSource = Literal[
    "annotations",  # object/name in Annotations/NAME.xml
    "cls_labels",  # cls_labels.npy
]


def read_voc(
    root: Path,
    *,
    classes: Sequence[str] = VOC_CLASSES,
    splits: Sequence[str] = SPLITS,
    labels: LabelSource = "annotations",
) -> Dataset:
    """Read the data set below `root`, with the splits that `read_lists` finds.

    A list `test` is read if it is there; its images have no labels.

    Args:
        root: the folder VOC2012, or one in its layout.
        classes: names of the foreground classes, in the order of the labels in masks.
        splits: names of the split lists.
        labels: the source of the image labels.

    Raises:
        ValueError: `root` is not in VOC layout; a list is damaged or names a missing image; an
            annotation or `cls_labels.npy` is damaged, names an unknown class, or no class at all.
    """
    folders = [folder for folder in FOLDERS if folder != "Annotations" or labels == "annotations"]
    missing = [folder for folder in folders if not (root / folder).is_dir()]
    if missing:
        raise ValueError(
            f"{root} is not a folder in VOC layout: {', '.join(missing)} missing; "
            f"expected {', '.join(folders)} (as in VOCdevkit/VOC2012)"
        )
    present = (*splits, TEST_SPLIT) if list_path(root, TEST_SPLIT).is_file() else tuple(splits)
    lists, sources = read_lists(root, present)
    for split, listed in lists.items():
        check_present(
            root / "JPEGImages", (f"{name}.jpg" for name in listed), source=sources[split]
        )
    names = sorted(set[str]().union(*(lists[split] for split in splits)))
    return Dataset(
        root=root,
        classes=tuple(classes),
        splits=lists,
        labels=_labels(root, names, classes, labels),
        notes=tuple(
            f"{split} comes from {path}" for split, path in sources.items() if path.suffix != ".txt"
        ),
    )


def palette() -> UInt8[np.ndarray, "256 3"]:
    """Return the palette of VOC's masks.

    Bit b of a label is bit 7 - b // 3 of red, green or blue, for b % 3 = 0, 1 or 2.
    """
    colours = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        colours[:, bit % 3] |= ((np.arange(256) >> bit & 1) << 7 - bit // 3).astype(np.uint8)
    return colours


def write_label_map(path: Path, labels: UInt8[np.ndarray, "H W"]) -> None:
    """Write a label map as a PNG with VOC's palette; the pixels are the label values themselves."""
    height, width = labels.shape
    image = Image.frombytes("P", (width, height), labels.tobytes())
    image.putpalette(palette().tobytes())
    image.save(path, format="PNG")


def _labels(
    root: Path, names: Sequence[str], classes: Sequence[str], source: LabelSource
) -> dict[str, tuple[int, ...]]:
    if source == "annotations":
        return {name: _read_labels(root / "Annotations" / f"{name}.xml", classes) for name in names}
    found = read_cls_labels(root / LABELS, num_classes=len(classes))
    for name in names:
        if not found.get(name):
            reason = "no class for" if name in found else "no entry for"
            raise ValueError(
                f"{root / LABELS} has {reason} {name}; "
                "expected at least one class for every listed image"
            )
    return {name: found[name] for name in names}


def _read_labels(path: Path, classes: Sequence[str]) -> tuple[int, ...]:
    names = [(element.text or "").strip() for element in _parse_xml(path).iterfind("object/name")]
    unknown = sorted(set(names) - set(classes))
    if unknown:
        raise ValueError(
            f"{path} names the unknown class {unknown[0]!r}; the classes are {', '.join(classes)}"
        )
    if not names:
        raise ValueError(
            f"{path} has no object, so its image has no label; expected at least one object/name"
        )
    return tuple(sorted({list(classes).index(name) for name in names}))


def _parse_xml(path: Path) -> ET.Element:
    """Parse an annotation without a document type, so that no entity can be declared and expand."""
    # Decoded here, because in another encoding a declaration would not be found. expat ignores the
    # encoding that a str declares.
    text = read_text(path, limit=MAX_XML_BYTES, expected="a VOC annotation")
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ValueError(
            f"{path} declares a document type or an entity; expected a plain VOC annotation"
        )
    try:
        return ET.fromstring(text)
    except ET.ParseError as error:
        raise ValueError(f"{path} is not XML: {error}; expected a VOC annotation") from None
