"""PASCAL VOC on disk: split lists, image labels from the annotations, label maps as palette PNG."""

import hashlib
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from occse.data.dataset import Dataset

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
SPLITS = ("train_aug", "train", "val")
MASKED_SPLITS = ("train", "val")
# Images alone, for the evaluation server; read where its list is.
TEST_SPLIT = "test"
FOLDERS = ("JPEGImages", "Annotations", "SegmentationClass", "ImageSets/Segmentation")
MAX_XML_BYTES = 1_000_000
# a bare id, or the line of a segmentation list: image path and mask path
LINE = re.compile(r"(?:/?JPEGImages/)?([\w-]+)(?:\.jpg(?:\s+/?SegmentationClass\w*/\1\.png)?)?")


def read_voc(root: Path, *, classes: Sequence[str] = VOC_CLASSES, splits: Sequence[str] = SPLITS) -> Dataset:
    """The data set below `root`, its splits as listed in ImageSets/Segmentation, its image labels from Annotations.

    A list `test` is read if it is there; its images have no labels.

    Raises:
        ValueError: `root` is not in VOC layout; a list is missing, names an image twice or one that is not there;
            `train` is no subset of `train_aug`, or other splits overlap; an annotation is unreadable or hostile, names
            an unknown class, or no object at all.
    """
    missing = [folder for folder in FOLDERS if not (root / folder).is_dir()]
    if missing:
        raise ValueError(
            f"{root} is not a folder in VOC layout: {', '.join(missing)} missing; "
            f"expected {', '.join(FOLDERS)} (as in VOCdevkit/VOC2012)"
        )
    present = (*splits, TEST_SPLIT) if _list_path(root, TEST_SPLIT).is_file() else splits
    lists = {split: _read_list(_list_path(root, split)) for split in present}
    _check_overlap(root, lists)
    names = sorted({name for split in splits for name in lists[split]})
    _check_images(root, lists)
    labels = {name: _read_labels(_annotation_path(root, name), classes) for name in names}
    return Dataset(root=root, classes=tuple(classes), splits=lists, labels=labels)


def tree_digest(dataset: Dataset) -> str:
    """SHA-256 (hex) of the files behind a data set.

    It covers the splits, the bytes of the annotations, and the sizes in bytes of the images and of the masks of `train`
    and `val`. Images are not read, so that it takes seconds for all of VOC.

    Raises:
        ValueError: one of those files is missing.
    """
    digest = hashlib.sha256()
    for split, names in sorted(dataset.splits.items()):
        digest.update(f"{split} {' '.join(names)}\n".encode())
    masked = {name for split in MASKED_SPLITS for name in dataset.splits.get(split, ())}
    for name in sorted(dataset.labels):
        annotation = _read_bytes(_annotation_path(dataset.root, name))
        sizes = [_num_bytes(dataset.image_path(name))]
        if name in masked:
            sizes.append(_num_bytes(dataset.mask_path(name)))
        digest.update(f"{name} {sizes} {len(annotation)}\n".encode())
        digest.update(annotation)
    for name in dataset.splits.get(TEST_SPLIT, ()):
        digest.update(f"{name} {_num_bytes(dataset.image_path(name))}\n".encode())
    return digest.hexdigest()


def palette() -> UInt8[np.ndarray, "256 3"]:
    """The palette of VOC's masks: bit b of a label is bit 7 - b // 3 of red, green or blue, for b % 3 = 0, 1 or 2."""
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


def _list_path(root: Path, split: str) -> Path:
    return root / "ImageSets" / "Segmentation" / f"{split}.txt"


def _annotation_path(root: Path, name: str) -> Path:
    return root / "Annotations" / f"{name}.xml"


def _read_list(path: Path) -> tuple[str, ...]:
    names: dict[str, int] = {}
    for number, line in _lines(path):
        match = LINE.fullmatch(line)
        if match is None:
            raise ValueError(
                f"{path}:{number}: {line[:200]!r} names no image; expected an id such as 2007_000032 "
                "or '/JPEGImages/2007_000032.jpg /SegmentationClass/2007_000032.png'"
            )
        name = match[1]
        if name in names:
            raise ValueError(f"{path}:{number}: {name} is listed twice, first on line {names[name]}")
        names[name] = number
    if not names:
        raise ValueError(f"{path} lists no image; expected one id per line")
    return tuple(names)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    if not path.is_file():
        hint = ""
        if path.stem == "train_aug":
            hint = (
                "; it is the 10,582 training images of VOC and SBD that are not in VOC's val, and VOC does not bring it"
            )
        raise ValueError(f"{path} is missing; expected the list of a split, one image id per line{hint}")
    for number, line in enumerate(_decode(path, _read_bytes(path)).splitlines(), start=1):
        if line.strip():
            yield number, line.strip()


def _check_overlap(root: Path, lists: Mapping[str, Sequence[str]]) -> None:
    """`train` lies in `train_aug`; any other two splits are disjoint."""
    for first, second in combinations(lists, 2):
        shared = set(lists[first]) & set(lists[second])
        if {first, second} == {"train", "train_aug"}:
            outside = sorted(set(lists["train"]) - shared)
            if outside:
                raise ValueError(
                    f"{_list_path(root, 'train')} names {outside[0]} (and {len(outside) - 1} more) that train_aug.txt "
                    "lacks; expected train to be a subset of train_aug"
                )
        elif shared:
            raise ValueError(
                f"{_list_path(root, first)} and {_list_path(root, second)} share {min(shared)} "
                f"(and {len(shared) - 1} more); expected disjoint splits"
            )


def _check_images(root: Path, lists: Mapping[str, Sequence[str]]) -> None:
    # one listing: asking for each of 12 thousand files is slow on a network drive
    present = {path.name for path in (root / "JPEGImages").iterdir()}
    for split, names in lists.items():
        for name in names:
            if f"{name}.jpg" not in present:
                raise ValueError(f"{_list_path(root, split)} names {name}, but {root}/JPEGImages/{name}.jpg is missing")


def _read_labels(path: Path, classes: Sequence[str]) -> tuple[int, ...]:
    names = [(element.text or "").strip() for element in _parse_xml(path).iterfind("object/name")]
    unknown = sorted(set(names) - set(classes))
    if unknown:
        raise ValueError(f"{path} names the unknown class {unknown[0]!r}; the classes are {', '.join(classes)}")
    if not names:
        raise ValueError(f"{path} has no object, so its image has no label; expected at least one object/name")
    return tuple(sorted({list(classes).index(name) for name in names}))


def _parse_xml(path: Path) -> ET.Element:
    """Parse an annotation that declares nothing: without DOCTYPE there are no entities that could expand."""
    content = _read_bytes(path)
    if len(content) > MAX_XML_BYTES:
        raise ValueError(f"{path} has {len(content)} bytes; expected an annotation of at most {MAX_XML_BYTES}")
    # decoded here: in another encoding a declaration would pass the search, and for a str expat takes no other
    text = _decode(path, content)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ValueError(f"{path} declares a document type or an entity; expected a plain VOC annotation")
    try:
        return ET.fromstring(text)
    except ET.ParseError as error:
        raise ValueError(f"{path} is not XML: {error}; expected a VOC annotation") from None


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}); expected the file of a VOC tree") from None


def _num_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}); expected the file of a VOC tree") from None


def _decode(path: Path, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text: {error}") from None
