"""Knobs that the training stages share. The training itself is `occse.stages.learning`."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import AfterValidator, Field, model_validator

from occse.networks.names import (
    WITHOUT_BATCH_NORM,
    WITHOUT_IMAGENET,
    AnyBackbone,
    Precision,
)
from occse.stage import Resources, Stage
from occse.stages.cams import ReadCams
from occse.stages.data import DataStage
from occse.weights.files import SUFFIXES, digest, find_weights

SHA256 = "sha256:"
FILE = re.compile(rf"{SHA256}[0-9a-f]{{64}}|[\w.+-]+(?:{'|'.join(map(re.escape, SUFFIXES))})")


class TrainedStage(Stage):
    """A stage that trains a network.

    `bias_lr` and `head_lr` are factors on `lr`; biases do not decay. `freeze_bn` and `freeze_stem`
    suit weights that were learnt elsewhere: they keep all batch norms, and the backbone's first
    layers, as they are. The official momentum is 5e-4: weight decay, passed in the place of
    momentum.
    """

    shares_batches: ClassVar[bool] = True
    architecture: ClassVar[frozenset[str]] = frozenset({"backbone"})
    effort: ClassVar[frozenset[str]] = frozenset({"backbone", "epochs"})
    effortless: ClassVar[frozenset[str]] = frozenset(
        {"seed", "lr", "momentum", "weight_decay", "poly_power", "bias_lr", "head_lr"}
    )
    trained_split: ClassVar[str] = "train_aug"
    """Split of the images that the network learns from."""
    kept: ClassVar[frozenset[str]] = frozenset({"backbone", "init", "epochs"})
    """The knobs that matter without training."""

    seed: int = Field(default=0, ge=0, lt=2**64)
    """Source of all random numbers: first weights, order of images, views, dropout, draws."""
    backbone: AnyBackbone = "resnet50"
    """Feature extractor; its name fixes the stride too: 8, or 16 for `_s16`."""
    epochs: int = Field(default=15, ge=1)
    """Passes over the training images; 0, where allowed, keeps the weights of the file `init`."""
    batch_size: int = Field(default=8, ge=1)
    """Images of a step, over all processes and parts."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """Rule by which the weights move."""
    lr: float = Field(default=0.01, gt=0)
    """Learning rate of the backbone's weights in the first step."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Momentum of SGD. The official code passes its weight decay, 5e-4, in this place."""
    weight_decay: float = Field(default=5e-4, ge=0)
    """Weight decay of the weights; biases do not decay."""
    poly_power: float = Field(default=0.9, ge=0)
    """Power of the decay of the rates, (1 - step / steps)^power."""
    bias_lr: float = Field(default=2.0, gt=0)
    """Factor on the rate of biases."""
    head_lr: float = Field(default=10.0, gt=0)
    """Factor on the rate of the layers behind the backbone."""
    freeze_bn: bool = True
    """Keep weights and statistics of all batch norms; suits weights that were learnt elsewhere."""
    freeze_stem: bool = True
    """Keep the backbone's first layers; suits weights that were learnt elsewhere."""
    precision: Precision = "float32"
    """Precision that the network computes in; its weights are float32 in either."""
    compile: bool = False
    """Compile the network with torch.compile: other rounding, and faster on a GPU."""

    def inactive(self) -> frozenset[str]:
        """Knobs without effect.

        AdamW has no momentum knob, some networks have no batch norm; without epochs only file and
        network matter.
        """
        if self.epochs == 0:
            return frozenset(type(self).model_fields) - self.kept
        # Without compiling, the artifact is the one that was made before the knob was there.
        unused = set() if self.compile else {"compile"}
        if self.optimizer == "adamw":
            unused.add("momentum")
        if not self.has_batch_norm():
            unused.add("freeze_bn")
        return frozenset(unused)

    def has_batch_norm(self) -> bool:
        """Tell if there is anything that `freeze_bn` could freeze."""
        return self.backbone not in WITHOUT_BATCH_NORM

    @model_validator(mode="after")
    def _has_weights(self) -> "TrainedStage":
        # `pretrain` has no knob `init`.
        if self.epochs == 0 and not is_file(getattr(self, "init", "")):
            raise ValueError(
                "epochs is 0, which keeps the weights of a file, but init names no file"
            )
        return self

    def faults(self, upstream: Mapping[str, Stage]) -> Iterator[str]:
        """Yield the batches that cannot be filled, and weights that are not published."""
        if self.epochs == 0:
            return
        data = upstream.get("data")
        number = data.num_images(self.trained_split) if isinstance(data, DataStage) else None
        if number is not None and number < self.batch_size:
            yield (
                f"batch_size is {self.batch_size}, but {self.trained_split} has "
                f"{number} images: expected at most {number}"
            )
        if getattr(self, "init", "") == "imagenet" and self.backbone in WITHOUT_IMAGENET:
            yield (
                f"init is 'imagenet', but there are no ImageNet weights of {self.backbone}: "
                "set it to 'random', to a weight file, or to 'pretrain' on the data 'shapes'"
            )

    def doubts(self, upstream: Mapping[str, Stage]) -> Iterator[str]:
        """Yield a weight file that nobody has read, and knobs that keep random weights."""
        init = getattr(self, "init", "")
        if is_file(init) and not init.startswith(SHA256):
            yield (
                f"init is the file {init}, which is not checked yet: a run needs its folder, "
                "as --weights or in a sweep's file as weights"
            )
        if self.epochs == 0 or init != "random":
            return
        if self.freeze_bn and self.has_batch_norm() and "freeze_bn" not in self.inactive():
            yield (
                "freeze_bn keeps the batch norms of a random start: nothing normalizes the "
                "activations and the training may diverge; set freeze_bn: false"
            )
        if self.freeze_stem and "freeze_stem" not in self.inactive():
            yield ("freeze_stem keeps the random first layers as they are; set freeze_stem: false")

    def resources(self) -> Resources:
        """A GPU, and processes that load images."""
        return Resources(num_cpus=4, num_gpus=1)


class ClassificationStage(TrainedStage):
    """A stage that trains on image labels.

    The long side of a view is drawn between `resize_min` and `resize_max`; then jitter, hue, crop.
    `head_dropout` is the share of the backbone's channels that each image loses before the head.
    """

    version: ClassVar[int] = 3
    effortless: ClassVar[frozenset[str]] = TrainedStage.effortless | {
        "jitter",
        "hue",
        "head_dropout",
    }

    crop: int = Field(default=384, ge=16)
    """Side of the square that a view is cropped or padded to, in pixels."""
    resize_min: int = Field(default=256, ge=16)
    """Shortest long side that a view is resized to, in pixels."""
    resize_max: int = Field(default=448, ge=16)
    """Longest long side that a view is resized to, in pixels."""
    jitter: float = Field(default=0.3, ge=0, lt=1)
    """Strength of the change of brightness, contrast and saturation."""
    hue: float = Field(default=0.1, ge=0, le=0.5)
    """Largest turn of the hue, as a share of the circle."""
    head_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the backbone's channels that each image loses before the head."""


def first_weights(*names: str) -> AfterValidator:
    """Return the check of a knob `init`: one of `names`, or a weight file by its name or digest."""

    def check(init: str) -> str:
        if init not in names and not is_file(init):
            raise ValueError(
                f"expected one of {', '.join(names)}, or a file of the folder --weights by its "
                f"name ({', '.join(SUFFIXES)}) or as {SHA256} and 64 hex digits, got {init!r}"
            )
        return init

    return AfterValidator(check)


def is_file(init: str) -> bool:
    """Tell if `init` means a weight file, by its name or its digest."""
    return FILE.fullmatch(init) is not None


def with_digest(stage: Stage, weights: Path | None) -> Stage:
    """Return `stage` with the digest of its weight file in place of the name, or of its CAMs.

    So the content of the files is the identity. Without the folder `weights` the stage stays as it
    is: it can be planned, not run.

    Raises:
        ValueError: there is no such file.
    """
    if isinstance(stage, ReadCams):
        return stage.resolved(weights)
    init = getattr(stage, "init", "")
    if weights is None or not is_file(init) or init.startswith(SHA256):
        return stage
    if not (weights / init).is_file():
        raise ValueError(f"init is {init!r}, but there is no such file in {weights}")
    return stage.model_copy(update={"init": SHA256 + digest(weights / init)})


def locate(init: str, weights: Path | None) -> Path:
    """Return the file in the folder `weights` that `init` means.

    Raises:
        ValueError: there is no folder, or no such file in it.
    """
    if weights is None:
        raise ValueError(
            f"{init!r} is a file, but its folder is not given: give its folder as --weights"
        )
    if not init.startswith(SHA256):
        raise ValueError(f"{init!r} is a name and not yet a digest: resolve the pipeline first")
    return find_weights(weights, init.removeprefix(SHA256))
