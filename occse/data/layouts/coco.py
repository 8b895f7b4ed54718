"""The layout of MS COCO: images, and instances files with objects. Masks are drawn from them."""

import codecs
import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import UInt8
from pydantic import TypeAdapter, ValidationError

from occse.data.dataset import MAX_PIXELS, VOID, Dataset
from occse.data.layouts.coco_lists import read_ids
from occse.data.layouts.coco_outlines import Segmentation, inside
from occse.data.reading import check_root, find_files, read_bytes

# Years whose files are found without being named.
YEARS = ("2014", "2017")
SPLITS = ("train", "val")
# Names of a category that stands for the background, in lower case.
BACKGROUND = frozenset({"background", "_background_", "__background__"})
# instances_train2014.json has 330 MB.
MAX_JSON_BYTES = 2_000_000_000
# A file name without a folder. Artifacts are named after it.
IMAGE_NAME = re.compile(r"(?!\.)([^/\\\x00-\x1f]+)\.(?:jpe?g|png)", re.IGNORECASE)

Convention: TypeAlias = Literal[
    "annotated",  # images with an object: 82,081 for training, 40,137 for val
    "all",  # all images: 82,783 and 40,504
]


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
    iscrowd: bool | None = None


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
            ValueError: the image has another size than declared, or an outline is not a polygon or
                run-length code of that size.
        """
        height, width = self.sizes[name]
        found = self._full_size(name)
        if found != (height, width):
            raise ValueError(
                f"{self.image_path(name)} is {found[0]} x {found[1]} (height x width); "
                f"its annotation says {height} x {width}{self.turned_image(name)}"
            )
        labels = np.zeros((height, width), np.uint8)
        for index, segmentation in self.objects[name]:
            try:
                labels[inside(segmentation, height=height, width=width)] = index + 1
            except ValueError as error:
                split = "val" if name in self.splits["val"] else "train"
                source = dict(zip(SPLITS, self.sources, strict=True))[split]
                raise ValueError(
                    f"{source}: an object of class {self.classes[index]} in the image {name} "
                    f"{error}"
                ) from None
        return self.bounded_mask(labels)


def read_coco(
    root: Path,
    *,
    images: Convention = "annotated",
    num_scored: int | None = None,
    train: str = "",
    val: str = "",
    lists: Mapping[str, str] | None = None,
) -> CocoDataset:
    """Read the data set below `root`.

    `annotations` holds an instances file for each split. The images of `instances_NAME.json` lie in
    `NAME` or `images/NAME`, or in `images`. Classes are the categories by ascending id, in COCO 80
    of 90 ids; a category that is called background is left out, and one of id 0 without object.
    Crowds give neither label nor mask.

    An image without an object has no class to erase and no CAM, so no training split has it. The
    convention "all" scores those of `val`, as background.

    Args:
        root: the folder.
        images: the list convention.
        num_scored: number of images of `train`, evenly spread over the ids of `train_aug`; None:
            all of them.
        train: name of the instances file of the training images, without its folder; "":
            `instances_train2014.json` or `instances_train2017.json`.
        val: name of that of the validation images.
        lists: text files of image ids by split, as paths below `root`; only these images are used.

    Raises:
        ValueError: files are missing; or the JSON is damaged, contradicts itself, or names files
            that are not there.
    """
    check_root(root)
    paths = _instances_files(root, {"train": train, "val": val})
    folders = {split: _image_folder(root, path) for split, path in paths.items()}
    found = {split: _read_instances(path) for split, path in paths.items()}
    classes = _classes(found, paths)
    backgrounds = _backgrounds(found)
    position = {category: index for index, (category, _) in enumerate(classes)}
    names = {split: _names(instances, paths[split]) for split, instances in found.items()}
    if shared := set(names["train"].values()) & set(names["val"].values()):
        raise ValueError(
            f"{paths['train']} and {paths['val']} share {min(shared)}; expected disjoint splits"
        )
    objects: dict[str, list[tuple[int, Segmentation]]] = {}
    for split, instances in found.items():
        objects |= _objects(instances, names[split], position, paths[split], backgrounds)
    kept = {split: _kept(root, (lists or {}).get(split, ""), names[split]) for split in SPLITS}
    listed = {
        split: [
            name
            # By id: copies of a file differ in order, and the order decides what a seed draws.
            for _, name in sorted(by_id.items())
            if objects[name] or (images, split) == ("all", "val")
        ]
        for split, by_id in kept.items()
    }
    files: dict[str, str] = {}
    for split, instances in found.items():
        files |= {names[split][image.id]: image.file_name for image in instances.images}
    for split in SPLITS:
        if not any(objects[name] for name in listed[split]):
            raise ValueError(f"{paths[split]} has no image with an object that is not a crowd")
        wanted = [files[name] for name in listed[split]]
        stored = find_files(root / folders[split], wanted, source=paths[split])
        files |= {name: stored[files[name]] for name in listed[split]}
    without = sum(not objects[name] for name in names["train"].values())
    notes = []
    if without:
        listed_in = paths["train"].stem.removeprefix("instances_")
        notes.append(f"{without} images of {listed_in} have no object and are not trained on")
    for category, name in backgrounds.items():
        notes.append(f"category {category}, {name!r}, is taken for the background")
    paths_below: dict[str, str] = {}
    sizes: dict[str, tuple[int, int]] = {}
    for split in SPLITS:
        folder = folders[split]
        paths_below |= {name: (folder / files[name]).as_posix() for name in listed[split]}
        by_id = names[split]
        sizes |= {by_id[image.id]: (image.height, image.width) for image in found[split].images}
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
            for name in (*listed["train"], *listed["val"])
        },
        files=paths_below,
        masks_drawn=True,
        sources=tuple(paths.values()),
        notes=tuple(notes),
        objects=objects,
        sizes=sizes,
    )


def _instances_files(root: Path, named: Mapping[str, str]) -> dict[str, Path]:
    """Return the instances file of each split.

    Raises:
        ValueError: a file is missing, or there are files of two years and none is named.
    """
    folder = root / "annotations"
    present = sorted(path.name for path in folder.glob("*.json")) if folder.is_dir() else []
    paths = {}
    for split in SPLITS:
        defaults = [f"instances_{split}{year}.json" for year in YEARS]
        wanted = [named[split]] if named[split] else defaults
        found = [name for name in wanted if name in present]
        if len(found) != 1:
            problem = f"{' and '.join(found)} are there" if found else "it is missing"
            raise ValueError(
                f"{root} is not a folder in the layout of MS COCO: expected the objects of "
                f"{split} in annotations/{' or '.join(wanted)}, but {problem} (annotations has "
                f"{', '.join(present[:10]) or 'no .json file'}); data.{split}_file names one"
            )
        paths[split] = folder / found[0]
    return paths


def _image_folder(root: Path, instances: Path) -> Path:
    """Return the folder of the images of an instances file, relative to `root`.

    Raises:
        ValueError: there is none.
    """
    name = instances.stem.removeprefix("instances_")
    folders = [Path(name), Path("images", name), Path("images")]
    for folder in folders:
        if (root / folder).is_dir():
            return folder
    raise ValueError(
        f"{root} is not a folder in the layout of MS COCO: {name} missing; expected the images of "
        f"{instances.name} in {', '.join(folder.as_posix() for folder in folders)}"
    )


def _read_instances(path: Path) -> _Instances:
    content = read_bytes(path, limit=MAX_JSON_BYTES, expected="the objects of MS COCO")
    try:
        # Some programs begin UTF-8 files with a byte order mark.
        return TypeAdapter(_Instances).validate_json(content.removeprefix(codecs.BOM_UTF8))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = [".".join(str(part) for part in first["loc"])] if first["loc"] else []
        problem = ": ".join([*where, first["msg"]])
        raise ValueError(
            f"{path} is not an instances file of MS COCO: {problem}"[:400]
            + "; expected UTF-8 JSON with images, annotations (with segmentation) and categories"
        ) from None


def _backgrounds(found: Mapping[str, _Instances]) -> dict[int, str]:
    """Return the names of the categories that stand for the background, by id.

    They are those that are called so, and one of id 0 without any object: Roboflow writes it for
    the group of all classes.
    """
    annotations = itertools.chain.from_iterable(
        instances.annotations for instances in found.values()
    )
    used = any(annotation.category_id == 0 for annotation in annotations)
    return {
        category.id: category.name
        for category in found["train"].categories
        if category.name.lower() in BACKGROUND or (category.id == 0 and not used)
    }


def _classes(found: Mapping[str, _Instances], paths: Mapping[str, Path]) -> list[tuple[int, str]]:
    skipped = _backgrounds(found)
    train, val = (
        sorted(
            (category.id, category.name)
            for category in found[split].categories
            if category.id not in skipped
        )
        for split in SPLITS
    )
    if train != val:
        raise ValueError(f"{paths['train']} and {paths['val']} have different categories")
    if unclear := [name for _, name in train if not name.strip() or not name.isprintable()]:
        raise ValueError(
            f"{paths['train']} has a category of the name {unclear[0][:100]!r}; "
            "expected printable characters"
        )
    # The ids, then the names.
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
                f"{path} names the image {image.file_name[:100]!r}; "
                "expected a JPEG or PNG file without a folder"
            )
        if not (min(image.height, image.width) >= 1 and image.height * image.width <= MAX_PIXELS):
            raise ValueError(
                f"{path}: {match[1]} is {image.height} x {image.width}; "
                f"expected 1 to {MAX_PIXELS} pixels"
            )
        if image.id in names:
            raise ValueError(f"{path} has the image id {image.id} twice")
        names[image.id] = match[1]
    # `a.jpg` and `a.png` are one name, and artifacts are named after it.
    if len(set(names.values())) != len(names):
        raise ValueError(f"{path} names an image twice")
    return names


def _objects(
    instances: _Instances,
    names: Mapping[int, str],
    position: Mapping[int, int],
    path: Path,
    backgrounds: Mapping[int, str],
) -> dict[str, list[tuple[int, Segmentation]]]:
    objects: dict[str, list[tuple[int, Segmentation]]] = {name: [] for name in names.values()}
    for annotation in instances.annotations:
        if annotation.category_id in backgrounds:
            continue
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


def _kept(root: Path, path: str, names: Mapping[int, str]) -> Mapping[int, str]:
    """Return the image names by id that a list keeps; all of them where there is no list."""
    if not path:
        return names
    ids = read_ids(root / path, names)
    return {image: name for image, name in names.items() if image in ids}


def _spread(names: list[str], number: int | None) -> list[str]:
    """Return `number` of `names` at equal steps, or all of them if there are no more."""
    number = len(names) if number is None else min(number, len(names))
    return [names[step * len(names) // number] for step in range(number)]
