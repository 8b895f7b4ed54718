"""The layout of PASCAL VOC: image labels from annotations, masks or one file, masks as PNG."""

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from occse.data.dataset import MASK_SUFFIXES, Dataset
from occse.data.layouts.folder import SUFFIXES, image_files, read_table
from occse.data.layouts.labels_of_masks import with_labels_of_masks
from occse.data.layouts.voc_lists import TrainedList, list_path, read_lists
from occse.data.npy_dicts.cls_labels import read_cls_labels
from occse.data.reading import as_stored, check_root, composed, find_files, read_text
from occse.data.tree import TEST_SPLIT
from occse.naming.counts import number

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
IMAGES = "JPEGImages"
MASKS = "SegmentationClass"
LISTS = "ImageSets/Segmentation"
FOLDERS = (IMAGES, "Annotations", MASKS, LISTS)
# VOC's largest annotation has 16 kB.
MAX_XML_BYTES = 1_000_000
# The file of image labels that jiwoon-ahn/psa and jiwoon-ahn/irn bring, below the root.
LABELS = "cls_labels.npy"
# A table of image labels and splits, as the layout of a user's own folder has it.
TABLE = "labels.csv"
LabelSource = Literal[
    "annotations",  # object/name in Annotations/NAME.xml
    "cls_labels",  # cls_labels.npy
    "masks",  # the classes that the masks in SegmentationClass show
    "csv",  # the column `labels` of labels.csv
]


def read_voc(
    root: Path,
    *,
    classes: Sequence[str] = VOC_CLASSES,
    splits: Sequence[str] = SPLITS,
    labels: LabelSource = "annotations",
    trained: TrainedList = "train_aug",
) -> Dataset:
    """Read the data set below `root`, with the splits that `read_lists` finds.

    A list `test` is read if it is there; its images have no labels. Without any list the splits are
    those of the column `split` of labels.csv, whose `train` is trained on. Without the folder
    SegmentationClass nothing is scored. In a tree of the user's own (without lists, or with
    `trained` "train") images without a mask are not scored; VOC's lists promise a mask for each.

    Args:
        root: the folder VOC2012, or one in its layout.
        classes: names of the foreground classes, in the order of the labels in masks.
        splits: names of the split lists.
        labels: the source of the image labels.
        trained: the list of the training images.

    Raises:
        ValueError: `root` is not in VOC layout; a list is damaged or names a missing image; an
            annotation or `cls_labels.npy` is damaged, names an unknown class, or no class at all.
    """
    check_root(root)
    _check_folders(root, labels)
    has_lists = (root / LISTS).is_dir()
    if has_lists:
        present = (*splits, TEST_SPLIT) if list_path(root, TEST_SPLIT).is_file() else tuple(splits)
        lists, sources = read_lists(root, present, trained=trained)
    else:
        by_split, _ = _read_table(root, classes, with_labels=False)
        # All of the table's `train` is trained on; there is no larger list.
        lists = {"train_aug": by_split["train"], **by_split}
        sources = dict.fromkeys(lists, root / TABLE)
    files: dict[str, str] = {}
    for split, listed in lists.items():
        usual = [f"{name}.jpg" for name in listed]
        found = find_files(root / IMAGES, usual, source=sources[split], suffixes=SUFFIXES)
        for name, file in zip(listed, usual, strict=True):
            if found[file] != file:
                files[name] = f"{IMAGES}/{found[file]}"
    names = sorted(set[str]().union(*(lists[split] for split in splits)))
    notes = [
        f"{split} comes from {path}" for split, path in sources.items() if path.suffix != ".txt"
    ]
    unmasked: frozenset[str] = frozenset()
    if not (root / MASKS).is_dir():
        unmasked = frozenset(names)
        notes.append(f"there is no folder {MASKS}: nothing is scored")
    elif trained == "train" or not has_lists:
        paths = (root / MASKS).iterdir()
        masked = {composed(path.stem) for path in paths if path.suffix in MASK_SUFFIXES}
        unmasked = frozenset(names).difference(masked)
        if unmasked:
            notes.append(f"{number(len(unmasked), 'image')} without mask: not scored")
    dataset = Dataset(
        root=root,
        classes=tuple(classes),
        splits=lists,
        labels={} if labels == "masks" else _labels(root, names, classes, labels),
        files=files,
        unmasked=unmasked,
        notes=tuple(notes),
    )
    return with_labels_of_masks(dataset) if labels == "masks" else dataset


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


def _check_folders(root: Path, labels: LabelSource) -> None:
    """Raise ValueError unless the folders and files are there that lists and labels come from."""
    ways_out = {
        IMAGES: "",
        LISTS: f"the lists train.txt and val.txt, or {TABLE} with the columns image,split,labels",
        "Annotations": "image labels; they can come from elsewhere with data.labels=masks, csv "
        "or cls_labels",
        MASKS: "the masks that data.labels=masks reads",
    }
    needed = [IMAGES]
    if not (root / TABLE).is_file():
        needed.append(LISTS)
    if labels == "annotations":
        needed.append("Annotations")
    if labels == "masks":
        needed.append(MASKS)
    missing = [folder for folder in needed if not (root / folder).is_dir()]
    if missing:
        told = "".join(f"; {folder}: {ways_out[folder]}" for folder in missing if ways_out[folder])
        raise ValueError(
            f"{root} is not a folder in VOC layout: {', '.join(missing)} missing; "
            f"expected {', '.join(needed)} (as in VOCdevkit/VOC2012){told}"
        )


def _read_table(
    root: Path, classes: Sequence[str], *, with_labels: bool
) -> tuple[dict[str, tuple[str, ...]], dict[str, tuple[int, ...]]]:
    folder = root / IMAGES
    return read_table(
        root / TABLE,
        classes=classes,
        named_by="VOC" if tuple(classes) == VOC_CLASSES else "data.classes",
        files=image_files(folder),
        folder=folder,
        suffixes=SUFFIXES,
        with_labels=with_labels,
    )


def _labels(
    root: Path, names: Sequence[str], classes: Sequence[str], source: LabelSource
) -> dict[str, tuple[int, ...]]:
    if source == "annotations":
        folder = root / "Annotations"
        return {name: _read_labels(as_stored(folder / f"{name}.xml"), classes) for name in names}
    if source == "csv":
        path = root / TABLE
        _, found = _read_table(root, classes, with_labels=True)
    else:
        path = root / LABELS
        found = read_cls_labels(path, num_classes=len(classes))
    for name in names:
        if not found.get(name):
            reason = "no class for" if name in found else "no entry for"
            raise ValueError(
                f"{path} has {reason} {name}; expected at least one class for every listed image"
            )
    return {name: found[name] for name in names}


def _read_labels(path: Path, classes: Sequence[str]) -> tuple[int, ...]:
    names = [(element.text or "").strip() for element in _parse_xml(path).iterfind("object/name")]
    unknown = sorted(set(names) - set(classes))
    if unknown:
        raise ValueError(
            f"{path} names the unknown class {unknown[0]!r}; the classes are {', '.join(classes)} "
            "(data.classes gives others)"
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
