"""`affinity`: AffinityNet or IRN's class boundaries, trained on pairs of pixels that the two CRFs
are sure of.
"""

from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from occse.data.array_archive import ArrayReader
from occse.data.dataset import load_dataset
from occse.data.samples import AffinityImages
from occse.networks.affinity import AffinityNet, NetworkName, build_affinity_net, save_affinity_net
from occse.networks.boundary import BoundaryNet
from occse.networks.pairs import affinity_label, affinity_loss, pair_labels
from occse.stage import Context
from occse.stages.crf import SCORES
from occse.stages.trained import MODEL, TrainedStage, first_weights, initialize
from occse.training.loop import Step


class TrainAffinity(TrainedStage):
    """What the walk goes by, learnt from `train_aug`; `radius` is that of the pairs, in cells of
    the feature map.

    `network` "psa": AffinityNet (Ahn and Kwak, CVPR 2018), at the backbone's stride. "irn": class
    boundaries (Ahn et al., CVPR 2019) without the displacement field, at stride 4; only the head
    learns, at `lr` * `head_lr`. irn takes resnet50 of stride 16, radius 10, 0.1 for the head,
    weight decay 1e-4, 3 epochs, crop 512, scales 0.5 to 1.5, no jitter, and labels from CRFs on
    label maps at constant thresholds; here both networks take `crf_low` and `crf_high`.

    Without epochs it is the network in the file `init` as it is.
    """

    display_name: ClassVar[str] = "AffinityNet"
    may_need: ClassVar[tuple[str, ...]] = ("data", "pretrain", "crf_low", "crf_high")
    effortless: ClassVar[frozenset[str]] = TrainedStage.effortless | {"jitter", "hue"}
    kept: ClassVar[frozenset[str]] = TrainedStage.kept | {"network"}

    network: NetworkName = "psa"
    init: Annotated[str, first_weights("pretrain", "imagenet", "random")] = "imagenet"
    epochs: int = Field(default=8, ge=0)
    radius: int = Field(default=5, ge=2)
    crop: int = Field(default=448, ge=16)
    scale_min: float = Field(default=1.0, gt=0)
    scale_max: float = Field(default=1.0, gt=0)
    jitter: float = Field(default=0.3, ge=0, lt=1)
    hue: float = Field(default=0.1, ge=0, le=0.5)

    @model_validator(mode="after")
    def _ordered(self) -> "TrainAffinity":
        if self.scale_min > self.scale_max:
            raise ValueError("scale_min is above scale_max")
        return self

    def inactive(self) -> frozenset[str]:
        """IRN's backbone is always frozen as a whole."""
        frozen = {"freeze_bn", "freeze_stem"} if self.network == "irn" else set()
        return super().inactive() | frozen

    def needs(self) -> tuple[str, ...]:
        """The data, the two CRFs, and the weights to start from."""
        if self.epochs == 0:
            return ()
        return ("data", "crf_low", "crf_high", *(("pretrain",) if self.init == "pretrain" else ()))

    def run(self, ctx: Context) -> dict[str, float]:
        """Train the network and keep its weights."""
        self.seed_weights()
        model = build_affinity_net(self.network, self.backbone)
        initialize(model, self.init, ctx, whole=self.epochs == 0)
        metrics = self._train(ctx, model) if self.epochs else {}
        save_affinity_net(model, ctx.output / MODEL)
        return metrics

    def _train(self, ctx: Context, model: AffinityNet | BoundaryNet) -> dict[str, float]:
        dataset = load_dataset(ctx.inputs["data"], data_root=ctx.data_root)
        scores = PairedScores(
            ctx.inputs["crf_low"] / SCORES, ctx.inputs["crf_high"] / SCORES, len(dataset.classes)
        )
        samples = AffinityImages(
            dataset,
            dataset.splits["train_aug"],
            scores.read,
            lambda pair: affinity_label(*pair.chunk(2), pool=model.stride),
            scale=(self.scale_min, self.scale_max),
            jitter=self.jitter,
            hue=self.hue,
            crop=self.crop,
        )

        def loss(batch: tuple[Tensor, ...], step: Step) -> dict[str, Tensor]:
            images, labels = batch
            pairs = pair_labels(labels, radius=self.radius)
            outputs = step.spread(model, images)
            return {"loss": affinity_loss(model.affinities(outputs, radius=self.radius), *pairs)}

        return self.fit(ctx, model, samples, loss)


class PairedScores:
    """Low-alpha and high-alpha CRF scores of an image as one stack of all classes, background
    first.
    """

    def __init__(self, low: Path, high: Path, num_classes: int) -> None:
        self.readers = ArrayReader(low), ArrayReader(high)
        self.num_labels = num_classes + 1

    def read(self, name: str) -> Tensor:
        """(2 * L, H, W) scores in [0, 1]; absent classes are 0."""
        stacks = []
        for reader in self.readers:
            stored = reader[name]
            full = np.zeros((self.num_labels, *stored["scores"].shape[1:]), np.float32)
            full[[0, *(stored["classes"] + 1)]] = stored["scores"] / np.float32(255)
            stacks.append(torch.from_numpy(full))
        return torch.cat(stacks)
