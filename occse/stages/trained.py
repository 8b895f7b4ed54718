"""The knobs that the training stages share, and their way into the one training loop."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from torch import nn

from occse.backbones import WITHOUT_BATCH_NORM, Backbone, BackboneName
from occse.classifier import load_classifier
from occse.data.dataset import Dataset
from occse.data.samples import LabelledImages
from occse.stage import Context, Resources, Stage
from occse.training import Loss, Optimization, Samples, train

MODEL = "model.safetensors"
CURVES = "curves.json"


class TrainedStage(Stage):
    """A stage that trains a network. `bias_lr` and `head_lr` are factors on `lr`; biases do not decay.

    `freeze_bn` and `freeze_stem` suit weights that were learnt elsewhere: they keep all batch norms, and the backbone's
    first layers, as they are. The official momentum is 5e-4: weight decay, passed in the place of momentum.
    """

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

    def inactive(self) -> frozenset[str]:
        """AdamW has no momentum knob, and some networks have no batch norm."""
        unused = {"momentum"} if self.optimizer == "adamw" else set()
        return frozenset(unused if self.has_batch_norm() else unused | {"freeze_bn"})

    def has_batch_norm(self) -> bool:
        """Whether there is anything that `freeze_bn` could freeze."""
        return self.backbone not in WITHOUT_BATCH_NORM

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
        )
        (ctx.output / CURVES).write_text(json.dumps(records) + "\n")
        return {name: value for name, value in records[-1].items() if name != "step"}

    def seed_weights(self) -> None:
        """Make the weights that are drawn next a function of `seed`."""
        torch.manual_seed(self.seed)


class ClassificationStage(TrainedStage):
    """A stage that trains on image labels: long side drawn between `resize_min` and `resize_max`, jitter, hue, crop.

    `head_dropout` is the share of the backbone's channels that each image loses before the head.
    """

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


def initialize(backbone: Backbone, init: str, *, inputs: Mapping[str, Path]) -> None:
    """Give `backbone` its first weights: "imagenet", "random", or those of the upstream classifier `init` names.

    Raises:
        ValueError: the upstream classifier has another backbone.
    """
    if init == "imagenet":
        backbone.load_imagenet()
    elif init != "random":
        source = load_classifier(inputs[init] / MODEL)
        try:
            backbone.load_state_dict(source.backbone.state_dict())
        except RuntimeError:
            raise ValueError(
                f"init {init!r} has the backbone {source.architecture['backbone']!r}, this stage another; "
                "make them equal or set init to 'imagenet' or 'random'"
            ) from None
