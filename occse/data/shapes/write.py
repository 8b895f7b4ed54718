"""The embedded data set `shapes`: drawn in code, written to disk in PASCAL VOC layout."""

import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from occse.data.layouts.voc import FOLDERS, write_label_map
from occse.data.shapes.drawing import OBJECT_CENTRIC, SCENE, Drawing, draw
from occse.data.shapes.objects import SHAPES_CLASSES

SHAPES_SPLITS = ("train_aug", "train", "val", "object_centric")
# The scene of each kind of image. The position of a kind is part of its random state.
KINDS = {"train": SCENE, "val": SCENE, "object": OBJECT_CENTRIC}


def shape(kind: str, index: int, *, drawing: int) -> Drawing:
    """Draw image `index` of a kind.

    It depends on the arguments alone, so a larger data set has the images of a smaller one.

    Args:
        kind: "train", "val", or "object": the object-centric images, smaller and of one class.
        index: from 0 on.
        drawing: number of the drawing of the whole data set, from 0 to 2^32 - 1.
    """
    return draw(np.random.default_rng([drawing, list(KINDS).index(kind), index]), KINDS[kind])


def write_shapes(
    root: Path,
    *,
    drawing: int,
    num_train: int,
    num_scored: int,
    num_val: int,
    num_object_centric: int,
) -> None:
    """Draw the data set into `root`.

    Args:
        root: the folder to write.
        drawing: number of the drawing of the whole data set.
        num_train: images of `train_aug`, with image labels only.
        num_scored: images of `train`, the first ones of `train_aug`, which have masks.
        num_val: images of `val`, with masks.
        num_object_centric: images of one class, in place of ImageNet.
    """
    for folder in FOLDERS:
        (root / folder).mkdir(parents=True, exist_ok=True)
    numbers = {
        "train": (num_train, num_scored),
        "val": (num_val, num_val),
        "object": (num_object_centric, 0),
    }
    names: dict[str, list[str]] = {}
    for kind, (num, num_masks) in numbers.items():
        names[kind] = [f"{kind}_{index:06d}" for index in range(num)]
        for index, name in enumerate(names[kind]):
            _write(root, name, shape(kind, index, drawing=drawing), with_mask=index < num_masks)
    lists = (names["train"], names["train"][:num_scored], names["val"], names["object"])
    for split, listed in zip(SHAPES_SPLITS, lists, strict=True):
        path = root / "ImageSets" / "Segmentation" / f"{split}.txt"
        path.write_text("".join(f"{name}\n" for name in listed))


def _write(root: Path, name: str, drawing: Drawing, *, with_mask: bool) -> None:
    path = root / "JPEGImages" / f"{name}.jpg"
    # The textures are a few pixels wide, so quality is high and chroma is not subsampled.
    Image.fromarray(drawing.image).save(path, format="JPEG", quality=95, subsampling="4:4:4")
    annotation = _annotation(path.name, drawing, with_mask=with_mask)
    (root / "Annotations" / f"{name}.xml").write_bytes(annotation)
    if with_mask:
        write_label_map(root / "SegmentationClass" / f"{name}.png", drawing.labels)


def _annotation(filename: str, drawing: Drawing, *, with_mask: bool) -> bytes:
    """The annotation of an image as VOC writes it; pixel coordinates start at 1."""
    annotation = ET.Element("annotation")
    ET.SubElement(annotation, "folder").text = "VOC2012"
    ET.SubElement(annotation, "filename").text = filename
    height, width, depth = drawing.image.shape
    _add(ET.SubElement(annotation, "size"), width=width, height=height, depth=depth)
    ET.SubElement(annotation, "segmented").text = str(int(with_mask))
    for index in drawing.present:
        element = ET.SubElement(annotation, "object")
        ET.SubElement(element, "name").text = SHAPES_CLASSES[index]
        xmin, ymin, xmax, ymax = _box(drawing.labels, index + 1)
        _add(ET.SubElement(element, "bndbox"), xmin=xmin, ymin=ymin, xmax=xmax, ymax=ymax)
    ET.indent(annotation, "\t")
    return ET.tostring(annotation)


def _add(parent: ET.Element, **numbers: int) -> None:
    for tag, number in numbers.items():
        ET.SubElement(parent, tag).text = str(number)


def _box(labels: UInt8[np.ndarray, "H W"], label: int) -> tuple[int, int, int, int]:
    rows, columns = (labels == label).nonzero()
    return int(columns.min()) + 1, int(rows.min()) + 1, int(columns.max()) + 1, int(rows.max()) + 1
