"""The data stages: images, image labels, splits and masks.

They are drawn here, or read where the user keeps them.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from occse.data.dataset import VOID, Dataset, save_index
from occse.data.layouts.coco import Convention, read_coco
from occse.data.layouts.folder import ClassName, read_folder
from occse.data.layouts.folder import LabelSource as FolderLabels
from occse.data.layouts.voc import VOC_CLASSES, LabelSource, read_voc, write_label_map
from occse.data.layouts.voc_lists import TrainedList
from occse.data.shapes.objects import SHAPES_CLASSES
from occse.data.shapes.write import SHAPES_SPLITS, write_shapes
from occse.data.tree import doubts_of, faults, masked_names, split_digest, tree_digest
from occse.stage import Context, Stage

# The shorter side of a usual photograph of VOC, where the data does not tell.
USUAL_SIDE = 375
# A network of stride 8 has four cells on this side of an image; on fewer it learns nothing.
MIN_SIDE = 32
# Sides of the drawn images; a test compares them with the drawings.
SCENE_SIDE = 80
# Numbers of images, and of those with a mask, by split, of the trees that this process has read,
# by digest: knobs do not have them.
_counts: dict[str, dict[str, tuple[int, int]]] = {}
# Digests of the splits that no training reads, as they were when this process read a tree last, by
# root, data stage and split. The digest of a tree would not do as a key: it covers nothing of them.
_split_digests: dict[tuple[Path, "InPlace", str], str] = {}
SEGMENTED_SPLITS = ("val", "test")
# A text file below the root: no part of its path begins with a dot.
LIST = r"^((?:[\w+-][\w.+-]*/)*[\w+-][\w.+-]*\.txt)?$"
# Reasons for which the trees that this process has read may be useless, by digest.
_doubts: dict[str, tuple[str, ...]] = {}


class DataStage(Stage):
    """A stage that makes the index of a data set, and knows its size before it runs."""

    display_name: ClassVar[str] = "data"

    def num_images(self, split: str) -> int | None:
        """Return the number of images of a split, or None where only reading the data tells."""
        return None

    def num_scored_images(self, split: str) -> int | None:
        """Return the number of images of a split that have a mask, or None as `num_images`."""
        return self.num_images(split)

    def shortest_side(self) -> int | None:
        """Return the shortest side of an image in pixels, or None where only reading tells."""
        return None


class Shapes(DataStage):
    """Draw the embedded data set and read it back as VOC is read."""

    effort: ClassVar[frozenset[str]] = frozenset(
        {"kind", "num_train", "num_scored", "num_val", "num_object_centric"}
    )
    effortless: ClassVar[frozenset[str]] = frozenset({"drawing"})

    kind: Literal["shapes"] = "shapes"
    """Layout of the data set."""
    drawing: int = Field(default=0, ge=0, lt=2**32)
    """Number of the drawing. It is not a seed of a training: a sweep over seeds leaves it alone."""
    num_train: int = Field(default=400, ge=1)
    """Images of `train_aug`, which have image labels only."""
    num_scored: int = Field(default=200, ge=1)
    """Images of `train`, the first of `train_aug`, which have masks too."""
    num_val: int = Field(default=100, ge=1)
    """Images of `val`, with masks."""
    num_object_centric: int = Field(default=1500, ge=1)
    """Images of one class each, which stand in for ImageNet."""

    @model_validator(mode="after")
    def _scored_are_train(self) -> "Shapes":
        if self.num_scored > self.num_train:
            raise ValueError(
                f"num_scored is {self.num_scored}; expected at most num_train, {self.num_train}"
            )
        return self

    def num_images(self, split: str) -> int:
        """Return the number of images of a split; 0 for a split that there is not."""
        numbers = {
            "train_aug": self.num_train,
            "train": self.num_scored,
            "val": self.num_val,
            "object_centric": self.num_object_centric,
        }
        return numbers.get(split, 0)

    def shortest_side(self) -> int:
        """Return the side of the drawn images."""
        return SCENE_SIDE

    def run(self, ctx: Context) -> dict[str, float]:
        """Draw, read back, and leave the index beside the images."""
        root = ctx.output / "VOC2012"
        write_shapes(
            root,
            drawing=self.drawing,
            num_train=self.num_train,
            num_scored=self.num_scored,
            num_val=self.num_val,
            num_object_centric=self.num_object_centric,
        )
        dataset = read_voc(root, classes=SHAPES_CLASSES, splits=SHAPES_SPLITS)
        save_index(dataset, ctx.output)
        return _count(dataset)


class InPlace(DataStage):
    """Data that are read in the user's folder; only the lists and the image labels are copied."""

    effort: ClassVar[frozenset[str]] = frozenset({"kind"})
    example: ClassVar[str]
    """Path that a message shows as an example of a data root."""
    digest: str = Field(default="", pattern="^([0-9a-f]{64})?$")
    """The tree's `tree_digest`, refused when it differs; empty: any tree."""
    max_side: int = Field(default=0, ge=0)
    """Images with a longer side are read at this length of it, with masks; 0: no bound; from 32."""

    @model_validator(mode="after")
    def _images_keep_pixels(self) -> "InPlace":
        if 0 < self.max_side < MIN_SIDE:
            raise ValueError(
                f"max_side is {self.max_side}; expected 0 (no bound) or at least {MIN_SIDE} pixels"
            )
        return self

    def read(self, root: Path) -> Dataset:
        """Return the data set below `root`.

        Raises:
            ValueError: there is none of this kind.
        """
        raise NotImplementedError

    def published(self) -> Mapping[str, int]:
        """Return the published number of images by split; empty where nothing is published."""
        return {}

    def resolved(self, root: Path) -> "InPlace":
        """Return this stage with the digest of the data below `root`, unless it has one.

        Raises:
            ValueError: `root` is not a data set of this kind.
        """
        if self.digest:
            return self
        dataset = self.read(root)
        digest = tree_digest(dataset)
        _doubts[digest] = tuple(doubts_of(dataset))
        _counts[digest] = {
            split: (len(names), len(dataset.scored(split)))
            for split, names in dataset.splits.items()
        }
        found = self.model_copy(update={"digest": digest})
        found._add_split_digests(root, dataset)
        return found

    def digest_of_split(self, root: Path, split: str) -> str:
        """Return the digest of the images and masks of `val` or `test` below `root`.

        Raises:
            ValueError: `root` is not a data set of this kind.
        """
        key = root.absolute(), self, split
        if key not in _split_digests:
            self._add_split_digests(root, self.read(root))
        return _split_digests[key]

    def _add_split_digests(self, root: Path, dataset: Dataset) -> None:
        for split in SEGMENTED_SPLITS:
            _split_digests[root.absolute(), self, split] = split_digest(dataset, split)

    def doubts(self, upstream: Mapping[str, Stage]) -> Iterator[str]:
        """Yield what lists and labels alone tell, where this process has read the tree."""
        yield from _doubts.get(self.digest, ())

    def num_images(self, split: str) -> int | None:
        """Return the number of images of a split, where this process has read the tree."""
        if self.digest in _counts:
            return _counts[self.digest].get(split, (0, 0))[0]
        # No layout of a user's data has images of one object.
        return 0 if split == "object_centric" else None

    def num_scored_images(self, split: str) -> int | None:
        """Return the number of images of a split with a mask, where this process read the tree."""
        if self.digest in _counts:
            return _counts[self.digest].get(split, (0, 0))[1]
        return None

    def keep(self, dataset: Dataset, output: Path) -> Dataset:
        """Look at every image and mask, before hours are spent on them.

        Returns:
            the data set that the index is written for.

        Raises:
            ValueError: a file is damaged or missing.
        """
        if (fault := next(faults(dataset), None)) is not None:
            raise ValueError(fault)
        return dataset

    def run(self, ctx: Context) -> dict[str, float]:
        """Read the lists and labels, look at every image and mask, and leave the index.

        Raises:
            ValueError: there is no `data_root`, or it is not the tree that is meant, or a file is
                damaged.
        """
        root = ctx.machine.data_root
        if root is None:
            kind = type(self).model_fields["kind"].default
            raise ValueError(
                f"data.kind is {kind}, but its folder is not given: give --data-root {self.example}"
            )
        try:
            dataset = replace(self.read(root), max_side=self.max_side)
        except ValueError as error:
            raise ValueError(f"{error} (--data-root is {root})") from None
        found = tree_digest(dataset)
        if self.digest not in ("", found):
            raise ValueError(f"{root} has the digest {found}; data.digest expects {self.digest}")
        save_index(self.keep(dataset, ctx.output), ctx.output)
        return _count(dataset)


class Voc(InPlace):
    """PASCAL VOC 2012, read in place."""

    example: ClassVar[str] = ".../VOCdevkit/VOC2012"
    kind: Literal["voc"] = "voc"
    """Layout of the data set."""
    labels: LabelSource = "annotations"
    """Source of the image labels: Annotations, `cls_labels.npy`, the masks, or `labels.csv`."""
    trained: TrainedList = "train_aug"
    """List of the training images: `train_aug`, of VOC and SBD, or `train` alone."""
    classes: tuple[ClassName, ...] = Field(default=(), max_length=VOID - 1)
    """Names of a tree's own classes; the first is label 1 in a mask. Empty: VOC's twenty."""

    def inactive(self) -> frozenset[str]:
        """Knobs that say what was so before they were there."""
        defaults = {"trained": "train_aug", "classes": ()}
        return frozenset(knob for knob, value in defaults.items() if getattr(self, knob) == value)

    @model_validator(mode="after")
    def _classes_differ(self) -> "Voc":
        if len(set(self.classes)) < len(self.classes):
            raise ValueError(f"classes has a name twice: {', '.join(self.classes)}")
        return self

    def read(self, root: Path) -> Dataset:
        """Return the VOC tree below `root`."""
        return read_voc(
            root,
            classes=self.classes or VOC_CLASSES,
            labels=self.labels,
            trained=self.trained,
        )

    def published(self) -> Mapping[str, int]:
        """Images of PASCAL VOC 2012 and SBD; nothing of a tree with own classes."""
        if self.classes:
            return {}
        if self.trained == "train":
            return {"train_aug": 1464, "train": 1464, "val": 1449}
        return {"train_aug": 10582, "train": 1464, "val": 1449}


class Coco(InPlace):
    """MS COCO, or data in its layout, read in place; masks are drawn once, into the artifact."""

    effort: ClassVar[frozenset[str]] = frozenset(
        {"kind", "images", "num_scored", "train_file", "val_file"}
    )
    example: ClassVar[str] = ".../coco"
    kind: Literal["coco"] = "coco"
    """Layout of the data set."""
    images: Convention = "annotated"
    """The list convention: images with an object (82,081 / 40,137), or all (82,783 / 40,504).

    Images without an object are never trained on; "all" scores those of `val`, as background.
    """
    num_scored: int | None = Field(default=5000, ge=1)
    """Images of `train`, evenly spread over `train_aug`, whose masks score CAMs and pseudo labels.

    None: all of them. The number is ours: the images behind the published scores are unknown, and
    all masks take long to draw.
    """
    train_file: str = Field(default="", pattern=r"^([^/\\]+\.json)?$")
    """Instances file of the training images in `annotations`; empty: that of 2014 or 2017."""
    val_file: str = Field(default="", pattern=r"^([^/\\]+\.json)?$")
    """Instances file of the validation images in `annotations`; empty: that of 2014 or 2017."""
    train_list: str = Field(default="", pattern=LIST)
    """Text file of the ids of the training images, as a path below the root; empty: all images."""
    val_list: str = Field(default="", pattern=LIST)
    """Text file of the ids of the validation images, as a path below the root; empty: all."""

    def inactive(self) -> frozenset[str]:
        """Lists that there are not: all images are used, as before the knobs were there."""
        return frozenset(knob for knob in ("train_list", "val_list") if not getattr(self, knob))

    def read(self, root: Path) -> Dataset:
        """Return the MS COCO tree below `root`."""
        return read_coco(
            root,
            images=self.images,
            num_scored=self.num_scored,
            train=self.train_file,
            val=self.val_file,
            lists={"train": self.train_list, "val": self.val_list},
        )

    def published(self) -> Mapping[str, int]:
        """Images of MS COCO 2014 in the list convention; nothing of lists and other files."""
        if self.train_list or self.val_list or self.train_file or self.val_file:
            return {}
        return {"train_aug": 82081, "val": 40137 if self.images == "annotated" else 40504}

    def keep(self, dataset: Dataset, output: Path) -> Dataset:
        """Look at every image, and draw the scored masks."""
        for name in dataset.labels:
            # For its error alone: the file is missing or damaged.
            dataset.size(name)
        masks = output / "masks"
        masks.mkdir()
        # Masks are stored at the full size, as those of other data sets are.
        full = replace(dataset, max_side=0)
        for name in masked_names(dataset):
            write_label_map(masks / f"{name}.png", full.mask(name))
        # As a plain `Dataset`: its masks are files from here on, and the outlines are left behind.
        kept = {field.name: getattr(dataset, field.name) for field in fields(Dataset)}
        return Dataset(**kept | {"masks": masks})


class Folder(InPlace):
    """A user's own data, read in place: `images`, `labels.csv`, `classes.txt`.

    With `masks` there are scores too.
    """

    example: ClassVar[str] = "FOLDER"
    kind: Literal["folder"] = "folder"
    """Layout of the data set."""
    labels: FolderLabels = "csv"
    """Source of the image labels: the column `labels` of `labels.csv`, or the masks."""

    def inactive(self) -> frozenset[str]:
        """Labels of the table, which were the only ones before the knob was there."""
        return frozenset({"labels"} if self.labels == "csv" else ())

    def read(self, root: Path) -> Dataset:
        """Return the data set below `root`."""
        return read_folder(root, labels=self.labels)


def lost_pixels(knob: str, scales: Iterable[float], upstream: Mapping[str, Stage]) -> Iterator[str]:
    """Yield the scales at which an image has no pixel left."""
    data = upstream.get("data")
    side = data.shortest_side() if isinstance(data, DataStage) else None
    for scale in scales:
        if round(scale * (side or USUAL_SIDE)) < 1:
            yield (
                f"{knob} has {scale:g}, which leaves no pixel of an image "
                f"whose shorter side is {side or USUAL_SIDE}"
            )


def _count(dataset: Dataset) -> dict[str, float]:
    return {
        "images": len(dataset.labels),
        **{f"images/{split}": len(names) for split, names in dataset.splits.items()},
    }
