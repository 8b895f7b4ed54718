"""The layout of MS COCO: images, and instances files with objects. Masks are drawn from them."""

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import UInt8
from pydantic import TypeAdapter, ValidationError

from occse.data.dataset import MAX_PIXELS, VOID, Dataset
from occse.data.reading import check_present, read_bytes

# The name of each split in files and folders.
YEARS = {"train": "train2014", "val": "val2014"}
# instances_train2014.json has 330 MB.
MAX_JSON_BYTES = 2_000_000_000
# pycocotools computes with 32-bit integers and takes memory by the perimeter of a polygon.
MAX_COORDINATE = 1e6
MAX_PERIMETER = 1e6
IMAGE_NAME = re.compile(r"([\w-]+)\.jpg")

Convention: TypeAlias = Literal[
    "annotated",  # images with an object: 82,081 for training, 40,137 for val
    "all",  # all images: 82,783 and 40,504
]
Polygons: TypeAlias = list[list[float]]


@dataclass(frozen=True, slots=True)
class RunLengths:
    """Lengths of runs that are alternately outside and inside an object, column by column."""

    size: tuple[int, int]
    counts: list[int]


Segmentation: TypeAlias = Polygons | RunLengths


@dataclass(frozen=True, slots=True)
class _Image:
    id: int
    file_name: str
    height: int
    width: int


@dataclass(frozen=True, slots=True)
class _Annotation:
    image_id: int
    category_id: int
    segmentation: Segmentation
    iscrowd: bool = False


@dataclass(frozen=True, slots=True)
class _Category:
    id: int
    name: str


@dataclass(frozen=True, slots=True)
class _Instances:
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


@dataclass(frozen=True, kw_only=True, eq=False)
class CocoDataset(Dataset):
    """MS COCO on disk: a data set whose masks are drawn when they are read.

    Attributes:
        objects: class index and outline of each image's objects, in the order of the file and
            without crowds.
        sizes: (height, width) of the images, as the instances files declare them.
    """

    objects: Mapping[str, list[tuple[int, Segmentation]]]
    sizes: Mapping[str, tuple[int, int]]

    def mask(self, name: str) -> UInt8[np.ndarray, "H W"]:
        """Draw the mask of an image: pycocotools' `annToMask` of its objects, later ones on top.

        No pixel is void.

        Raises:
            ValueError: the image has another size than declared, or an outline is no polygon or
                run-length code of that size.
        """
        height, width = self.sizes[name]
        if (found := self.size(name)) != (height, width):
            raise ValueError(
                f"{self.image_path(name)} is {found[0]} x {found[1]} (height x width); "
                f"its annotation says {height} x {width}"
            )
        labels = np.zeros((height, width), np.uint8)
        for index, segmentation in self.objects[name]:
            try:
                labels[inside(segmentation, height=height, width=width)] = index + 1
            except ValueError as error:
                raise ValueError(
                    f"{name}: an object of class {self.classes[index]} {error}"
                ) from None
        return labels


def read_coco(
    root: Path, *, images: Convention = "annotated", num_scored: int | None = None
) -> CocoDataset:
    """Read the data set below `root`.

    It holds `annotations/instances_{train,val}2014.json`, and images in `train2014` and `val2014`
    or in `images/train2014` and `images/val2014`. Classes are the categories by ascending id, in
    COCO 80 of 90 ids. Crowds give neither label nor mask.

    An image without an object has no class to erase and no CAM, so no training split has it. The
    convention "all" scores those of `val`, as background.

    Args:
        root: the folder.
        images: the list convention.
        num_scored: number of images of `train`, evenly spread over the ids of `train_aug`; None:
            all of them.

    Raises:
        ValueError: files are missing; or the JSON is damaged, contradicts itself, or names files
            that are not there.
    """
    _check_layout(root)
    paths = {
        split: root / "annotations" / f"instances_{year}.json" for split, year in YEARS.items()
    }
    found = {split: _read_instances(path) for split, path in paths.items()}
    classes = _classes(found, paths)
    position = {category: index for index, (category, _) in enumerate(classes)}
    names = {split: _names(instances, paths[split]) for split, instances in found.items()}
    if shared := set(names["train"].values()) & set(names["val"].values()):
        raise ValueError(
            f"{paths['train']} and {paths['val']} share {min(shared)}; expected disjoint splits"
        )
    objects = {
        name: outlines
        for split, instances in found.items()
        for name, outlines in _objects(instances, names[split], position, paths[split]).items()
    }
    listed = {
        split: [
            name
            for _, name in sorted(by_id.items())
            if objects[name] or (images, split) == ("all", "val")
        ]
        for split, by_id in names.items()
    }
    for split in YEARS:
        if not any(objects[name] for name in listed[split]):
            raise ValueError(f"{paths[split]} has no image with an object that is no crowd")
    folders = {split: _image_folder(root, year) for split, year in YEARS.items()}
    for split in YEARS:
        check_present(
            root / folders[split], (f"{name}.jpg" for name in listed[split]), source=paths[split]
        )
    without = sum(not objects[name] for name in names["train"].values())
    return CocoDataset(
        root=root,
        classes=tuple(name for _, name in classes),
        splits={
            "train_aug": tuple(listed["train"]),
            "train": tuple(_spread(listed["train"], num_scored)),
            "val": tuple(listed["val"]),
        },
        labels={
            name: tuple(sorted({index for index, _ in objects[name]}))
            for split in YEARS
            for name in listed[split]
        },
        files={name: f"{folders[split]}/{name}.jpg" for split in YEARS for name in listed[split]},
        sources=tuple(paths.values()),
        notes=(f"{without} images of train2014 have no object and are not trained on",)
        if without
        else (),
        objects=objects,
        sizes={
            names[split][image.id]: (image.height, image.width)
            for split, instances in found.items()
            for image in instances.images
        },
    )


def inside(segmentation: Segmentation, *, height: int, width: int) -> np.ndarray:
    """Return the pixels of an object, (height, width) booleans, as pycocotools' `annToMask` does.

    Raises:
        ValueError: the outline is no closed polygon near the image, or the runs do not add up to
            the image.
    """
    tools = _pycocotools()
    if isinstance(segmentation, RunLengths):
        counts = segmentation.counts
        if (
            segmentation.size != (height, width)
            or min(counts, default=-1) < 0
            or sum(counts) != height * width
        ):
            raise ValueError(f"has runs that do not add up to {height} x {width}")
        runs = tools.frPyObjects({"size": [height, width], "counts": counts}, height, width)
    else:
        # Two points enclose nothing, and pycocotools takes four numbers for a box.
        polygons = [_checked(polygon) for polygon in segmentation if len(polygon) > 4]
        if not polygons:
            return np.zeros((height, width), bool)
        runs = tools.merge(tools.frPyObjects(polygons, height, width))
    # pycocotools creates arrays in a way that numpy has deprecated.
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="__array__ implementation", category=DeprecationWarning
        )
        return np.asarray(tools.decode(runs)).astype(bool)


def _checked(polygon: list[float]) -> list[float]:
    points = np.array(polygon)
    if points.size % 2 or not (np.abs(points) <= MAX_COORDINATE).all():
        raise ValueError("has a polygon with half a point, or one far off")
    steps = np.diff(points.reshape(-1, 2), axis=0, append=points[None, :2])
    if np.abs(steps).max(axis=1).sum() > MAX_PERIMETER:
        raise ValueError(f"has a polygon longer than {MAX_PERIMETER:.0f} pixels")
    return polygon


def _pycocotools() -> ModuleType:
    try:
        from pycocotools import mask
    except ImportError:
        raise ValueError(
            "masks of MS COCO need pycocotools, which is not installed; install occse[coco]"
        ) from None
    module: ModuleType = mask
    return module


def _check_layout(root: Path) -> None:
    files = [f"annotations/instances_{year}.json" for year in YEARS.values()]
    missing = [file for file in files if not (root / file).is_file()]
    missing += [
        f"{year} (or images/{year})"
        for year in YEARS.values()
        if not (root / _image_folder(root, year)).is_dir()
    ]
    if missing:
        raise ValueError(
            f"{root} is not a folder in the layout of MS COCO 2014: {', '.join(missing)} missing; "
            f"expected {', '.join((*files, *YEARS.values()))}"
        )


def _image_folder(root: Path, year: str) -> str:
    return f"images/{year}" if (root / "images" / year).is_dir() else year


def _read_instances(path: Path) -> _Instances:
    content = read_bytes(path, limit=MAX_JSON_BYTES, expected="the objects of MS COCO")
    try:
        return TypeAdapter(_Instances).validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ValueError(
            f"{path} is no instances file of MS COCO: {where}: {first['msg']}"[:500]
        ) from None


def _classes(found: Mapping[str, _Instances], paths: Mapping[str, Path]) -> list[tuple[int, str]]:
    train, val = (
        sorted((category.id, category.name) for category in found[split].categories)
        for split in ("train", "val")
    )
    if train != val:
        raise ValueError(f"{paths['train']} and {paths['val']} have different categories")
    for column in zip(*train, strict=True):
        if len(set(column)) != len(column):
            raise ValueError(f"{paths['train']} has a category twice")
    if not 1 <= len(train) < VOID:
        raise ValueError(
            f"{paths['train']} has {len(train)} categories; "
            f"expected 1 to {VOID - 1}, MS COCO has 80"
        )
    return train


def _names(instances: _Instances, path: Path) -> dict[int, str]:
    """Return image names by id."""
    names: dict[int, str] = {}
    for image in instances.images:
        match = IMAGE_NAME.fullmatch(image.file_name)
        if match is None:
            raise ValueError(
                f"{path} names the image {image.file_name[:100]!r}; expected a JPEG without folder"
            )
        if not (min(image.height, image.width) >= 1 and image.height * image.width <= MAX_PIXELS):
            raise ValueError(
                f"{path}: {match[1]} is {image.height} x {image.width}; "
                f"expected 1 to {MAX_PIXELS} pixels"
            )
        if image.id in names:
            raise ValueError(f"{path} has the image id {image.id} twice")
        names[image.id] = match[1]
    if len(set(names.values())) != len(names):
        raise ValueError(f"{path} names an image twice")
    return names


def _objects(
    instances: _Instances, names: Mapping[int, str], position: Mapping[int, int], path: Path
) -> dict[str, list[tuple[int, Segmentation]]]:
    objects: dict[str, list[tuple[int, Segmentation]]] = {name: [] for name in names.values()}
    for annotation in instances.annotations:
        if annotation.image_id not in names or annotation.category_id not in position:
            raise ValueError(
                f"{path} has an object of image {annotation.image_id} "
                f"and category {annotation.category_id}, one of which it does not list"
            )
        if not annotation.iscrowd:
            objects[names[annotation.image_id]].append(
                (position[annotation.category_id], annotation.segmentation)
            )
    return objects


def _spread(names: list[str], number: int | None) -> list[str]:
    """Return `number` of `names` at equal steps, or all of them if there are no more."""
    number = len(names) if number is None else min(number, len(names))
    return [names[step * len(names) // number] for step in range(number)]
