"""The knobs that the training stages share, and their way into the one training loop."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

import torch
from pydantic import AfterValidator, Field, model_validator
from torch import nn

from occse.data.dataset import Dataset
from occse.data.samples import LabelledImages
from occse.networks.affinity import AffinityNet
from occse.networks.backbones import WITHOUT_BATCH_NORM, BackboneName
from occse.networks.boundary import BoundaryNet
from occse.networks.classifier import Classifier, load_classifier
from occse.networks.deeplab import DeepLab
from occse.networks.precision import Precision
from occse.stage import Context, Resources, Stage
from occse.training.loop import Loss, Samples, train
from occse.training.optimizer import Optimization
from occse.weights.load import load_into
from occse.weights.read import SUFFIXES, digest, find_weights

Network = Classifier | AffinityNet | BoundaryNet | DeepLab

MODEL = "model.safetensors"
CURVES = "curves.json"
SHA256 = "sha256:"
FILE = re.compile(rf"{SHA256}[0-9a-f]{{64}}|[\w.+-]+(?:{'|'.join(map(re.escape, SUFFIXES))})")


class TrainedStage(Stage):
    """A stage that trains a network. `bias_lr` and `head_lr` are factors on `lr`; biases do not
    decay.

    `freeze_bn` and `freeze_stem` suit weights that were learnt elsewhere: they keep all batch
    norms, and the backbone's first layers, as they are. The official momentum is 5e-4: weight
    decay, passed in the place of momentum."""

    shares_batches: ClassVar[bool] = True
    architecture: ClassVar[frozenset[str]] = frozenset({"backbone"})
    effort: ClassVar[frozenset[str]] = frozenset({"backbone", "epochs"})
    effortless: ClassVar[frozenset[str]] = frozenset(
        {"seed", "lr", "momentum", "weight_decay", "poly_power", "bias_lr", "head_lr"}
    )
    kept: ClassVar[frozenset[str]] = frozenset({"backbone", "init", "epochs"})
    """The knobs that matter without training."""

    seed: int = Field(default=0, ge=0)
    backbone: BackboneName = "resnet50"
    epochs: int = Field(default=15, ge=1)
    batch_size: int = Field(default=8, ge=1)
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float = Field(default=0.01, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=5e-4, ge=0)
    poly_power: float = Field(default=0.9, ge=0)
    bias_lr: float = Field(default=2.0, gt=0)
    head_lr: float = Field(default=10.0, gt=0)
    freeze_bn: bool = True
    freeze_stem: bool = True
    precision: Precision = "float32"

    def inactive(self) -> frozenset[str]:
        """AdamW has no momentum knob, some networks no batch norm; without epochs only file and
        network matter.
        """
        if self.epochs == 0:
            return frozenset(type(self).model_fields) - self.kept
        unused = {"momentum"} if self.optimizer == "adamw" else set()
        return frozenset(unused if self.has_batch_norm() else unused | {"freeze_bn"})

    def has_batch_norm(self) -> bool:
        """Whether there is anything that `freeze_bn` could freeze."""
        return self.backbone not in WITHOUT_BATCH_NORM

    @model_validator(mode="after")
    def _has_weights(self) -> "TrainedStage":
        if self.epochs == 0 and not is_file(getattr(self, "init", "")):
            raise ValueError(
                "epochs is 0, which keeps the weights of a file, but init names no file"
            )
        return self

    def resources(self) -> Resources:
        """A GPU, and processes that load images."""
        return Resources(num_cpus=4, num_gpus=1)

    def fit(self, ctx: Context, model: nn.Module, samples: Samples, loss: Loss) -> dict[str, float]:
        """Train `model`, leave the curves in the artifact, and return the last epoch's means."""
        records = train(
            model,
            samples,
            loss,
            optimization=Optimization(
                optimizer=self.optimizer,
                lr=self.lr,
                momentum=0.0 if self.optimizer == "adamw" else self.momentum,
                weight_decay=self.weight_decay,
                poly_power=self.poly_power,
                bias_lr=self.bias_lr,
                head_lr=self.head_lr,
                freeze_bn=self.freeze_bn,
                freeze_stem=self.freeze_stem,
            ),
            epochs=self.epochs,
            batch_size=self.batch_size,
            seed=self.seed,
            scratch=ctx.scratch,
            device=ctx.device,
            workers=ctx.workers,
            accumulate=ctx.accumulate,
            precision=self.precision,
            stopping=ctx.stopping,
            report=ctx.report,
        )
        (ctx.output / CURVES).write_text(json.dumps(records) + "\n")
        return {name: value for name, value in records[-1].items() if name != "step"}

    def seed_weights(self) -> None:
        """Make the weights that are drawn next a function of `seed`."""
        torch.manual_seed(self.seed)


class ClassificationStage(TrainedStage):
    """A stage that trains on image labels: long side drawn between `resize_min` and `resize_max`,
    jitter, hue, crop.

    `head_dropout` is the share of the backbone's channels that each image loses before the head.
    """

    version: ClassVar[int] = 2
    effortless: ClassVar[frozenset[str]] = TrainedStage.effortless | {
        "jitter",
        "hue",
        "head_dropout",
    }

    crop: int = Field(default=384, ge=16)
    resize_min: int = Field(default=256, ge=16)
    resize_max: int = Field(default=448, ge=16)
    jitter: float = Field(default=0.3, ge=0, lt=1)
    hue: float = Field(default=0.1, ge=0, le=0.5)
    head_dropout: float = Field(default=0.0, ge=0, lt=1)

    def samples(self, dataset: Dataset, names: Sequence[str]) -> LabelledImages:
        """Views of the images `names` as these knobs say."""
        return LabelledImages(
            dataset,
            names,
            long_side=(self.resize_min, self.resize_max),
            jitter=self.jitter,
            hue=self.hue,
            crop=self.crop,
        )


def first_weights(*names: str) -> AfterValidator:
    """The check of a knob `init`: one of `names`, or a weight file by its name or digest."""

    def check(init: str) -> str:
        if init not in names and not is_file(init):
            raise ValueError(
                f"expected one of {', '.join(names)}, or a file of the folder --weights by its name "
                f"({', '.join(SUFFIXES)}) or as {SHA256} and 64 hex digits, got {init!r}"
            )
        return init

    return AfterValidator(check)


def is_file(init: str) -> bool:
    """Whether `init` means a weight file, by its name or its digest."""
    return FILE.fullmatch(init) is not None


def with_digest(stage: Stage, weights: Path | None) -> Stage:
    """`stage` with the digest of its weight file in place of the name, so that the content is the
    identity.

    Without the folder `weights` it stays as it is: it can be planned, not run.

    Raises:
        ValueError: there is no such file.
    """
    init = getattr(stage, "init", "")
    if weights is None or not is_file(init) or init.startswith(SHA256):
        return stage
    if not (weights / init).is_file():
        raise ValueError(f"init is {init!r}, but there is no such file in {weights}")
    return stage.model_copy(update={"init": SHA256 + digest(weights / init)})


def locate(init: str, weights: Path | None) -> Path:
    """The file in the folder `weights` that `init` means.

    Raises:
        ValueError: no folder, or no such file in it.
    """
    if weights is None:
        raise ValueError(
            f"{init!r} is a file, but nothing says where it lies: give its folder as --weights"
        )
    if not init.startswith(SHA256):
        raise ValueError(f"{init!r} is a name and not yet a digest: resolve the pipeline first")
    return find_weights(weights, init.removeprefix(SHA256))


def initialize(model: Network, init: str, ctx: Context, *, whole: bool = False) -> None:
    """Give the backbone of `model` its first weights, and the head too where a file has one that
    fits.

    Args:
        model: the untrained network.
        init: "imagenet", "random", a weight file, or the field of an upstream classifier.
        ctx: where upstream artifacts and weight files lie.
        whole: refuse a file without the head.

    Raises:
        ValueError: the file is not there, is damaged or does not fit; or the upstream classifier
        has another backbone.
    """
    if is_file(init):
        load_into(model, locate(init, ctx.weights), whole=whole)
    elif init == "imagenet":
        _load_imagenet(model)
    elif init != "random":
        source = load_classifier(ctx.inputs[init] / MODEL)
        try:
            model.backbone.load_state_dict(source.backbone.state_dict())
        except RuntimeError:
            raise ValueError(
                f"init {init!r} has the backbone {source.architecture['backbone']!r}, this stage another; "
                "make them equal or set init to 'imagenet' or 'random'"
            ) from None


def _load_imagenet(model: Network) -> None:
    try:
        model.backbone.load_imagenet()
    except OSError as error:
        raise ValueError(
            f"the ImageNet weights cannot be downloaded ({error}); bring the file that torchvision publishes, set init "
            "to its name, and give its folder as --weights"
        ) from None
