"""The data stages: images, image labels, splits and masks, drawn here or read where the user keeps them."""

from typing import Literal

from pydantic import Field, model_validator

from occse.data.dataset import Dataset, save_index
from occse.data.figures import SHAPES_CLASSES
from occse.data.shapes import SHAPES_SPLITS, write_shapes
from occse.data.voc import MASKED_SPLITS, TEST_SPLIT, read_voc, tree_digest
from occse.stage import Context, Stage


class Shapes(Stage):
    """Draw the embedded data set and read it back as VOC is read."""

    kind: Literal["shapes"] = "shapes"
    drawing: int = Field(default=0, ge=0, lt=2**32)
    """Which drawing of the data set. Not the seed of a training: a sweep over seeds leaves it alone."""
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
            raise ValueError(f"num_scored is {self.num_scored}; expected at most num_train, {self.num_train}")
        return self

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


class Voc(Stage):
    """Read PASCAL VOC 2012 in place: nothing is copied but the lists and the image labels."""

    kind: Literal["voc"] = "voc"
    digest: str = Field(default="", pattern="^([0-9a-f]{64})?$")
    """The tree's `tree_digest`, refused when it differs; empty: any tree."""

    def run(self, ctx: Context) -> dict[str, float]:
        """Read the lists and labels, look at every image and mask, and leave the index.

        Raises:
            ValueError: no `data_root`, or what lies there is not the VOC tree that is meant, or damaged.
        """
        if ctx.data_root is None:
            raise ValueError("data.kind is voc, but nothing says where it lies: give --data-root .../VOCdevkit/VOC2012")
        try:
            dataset = read_voc(ctx.data_root)
        except ValueError as error:
            raise ValueError(f"{error} (--data-root is {ctx.data_root})") from None
        found = tree_digest(dataset)
        if self.digest not in ("", found):
            raise ValueError(f"{ctx.data_root} has the digest {found}; data.digest expects {self.digest}")
        _check_files(dataset)
        save_index(dataset, ctx.output)
        return _count(dataset)


def _check_files(dataset: Dataset) -> None:
    """Read the header of every image and the whole of every mask, before hours are spent on them."""
    for name in (*dataset.labels, *dataset.splits.get(TEST_SPLIT, ())):
        dataset.size(name)
    for split in MASKED_SPLITS:
        for name in dataset.splits[split]:
            dataset.mask(name)


def _count(dataset: Dataset) -> dict[str, float]:
    return {"images": len(dataset.labels), **{f"images/{split}": len(names) for split, names in dataset.splits.items()}}
