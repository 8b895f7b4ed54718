"""`deeplab`: the segmentation network, trained on the pseudo labels as if they were the truth."""

from collections.abc import Iterator, Mapping
from typing import Annotated, ClassVar

from pydantic import Field, model_validator

from occse.data.view_names import Resampling
from occse.networks.names import HeadName
from occse.stage import LABELS, MODEL, Context, Stage
from occse.stages.data import lost_pixels
from occse.stages.trained import TrainedStage, first_weights


class TrainSegmentation(TrainedStage):
    """DeepLab on `train_aug`; scale drawn between `scale_min` and `scale_max`, flip, crop.

    `head` "largefov" with these defaults is SEAM's recipe (YudeWang/semantic-segmentation-codebase)
    but for batch norm: its scales and shifts are trained too, and its statistics move by
    `bn_momentum` per step (SEAM: 0.0003). "aspp" is DeepLabv2's head, "deeplabv3plus" has an
    encoder and a decoder of its own; `width` and `dilation` are LargeFOV's.

    `align_corners` is the grid on which scores are enlarged, here and in `seg` (SEAM: true; the
    grids are up to 3.4 pixels apart at a crop of 448). `resampling` "opencv" scales images and
    label maps as SEAM does. The learning rate is lr * (1 - step / (steps + `poly_extra`)) ^
    poly_power (SEAM: 1).
    """

    display_name: ClassVar[str] = "DeepLab"
    may_need: ClassVar[tuple[str, ...]] = ("data", "pretrain", "pseudo")
    architecture: ClassVar[frozenset[str]] = TrainedStage.architecture | {
        "head",
        "width",
        "dilation",
    }
    effort: ClassVar[frozenset[str]] = TrainedStage.effort | architecture
    effortless: ClassVar[frozenset[str]] = TrainedStage.effortless | {
        "bn_momentum",
        "align_corners",
        "resampling",
        "poly_extra",
    }

    init: Annotated[str, first_weights("pretrain", "imagenet", "random")] = "imagenet"
    """First weights: an upstream classifier's, ImageNet's, random ones, or a file in --weights."""
    batch_size: int = Field(default=10, ge=1)
    """Images of a step, over all processes and parts (SEAM: 10)."""
    lr: float = Field(default=1e-3, gt=0)
    """Learning rate of the backbone's weights in the first step (SEAM: 0.001)."""
    epochs: int = Field(default=19, ge=1)
    """Passes over the training images (SEAM: 20,000 steps)."""
    freeze_bn: bool = False
    """Keep weights and statistics of all batch norms."""
    bn_momentum: float = Field(default=0.1, gt=0, le=1)
    """Share by which the statistics of batch norm move per step (SEAM: 0.0003)."""
    freeze_stem: bool = False
    """Keep the backbone's first layers."""
    crop: int = Field(default=448, ge=16)
    """Side of the square that a view is cropped or padded to, in pixels."""
    scale_min: float = Field(default=0.5, gt=0)
    """Smallest factor on the size of a view."""
    scale_max: float = Field(default=1.5, gt=0)
    """Largest factor on the size of a view."""
    head: HeadName = "largefov"
    """LargeFOV (SEAM's recipe), ASPP (DeepLabv2), or DeepLabv3+ with a decoder."""
    width: int = Field(default=512, ge=8)
    """Channels of LargeFOV's head."""
    dilation: int = Field(default=12, ge=1)
    """Dilation of LargeFOV's 3x3 convolution."""
    align_corners: bool = False
    """Grid on which scores are enlarged, here and in `seg` (SEAM: true)."""
    resampling: Resampling = "pillow"
    """Scale images as Pillow does, or as OpenCV does without antialiasing (SEAM)."""
    poly_extra: int = Field(default=0, ge=0)
    """Steps that the decay of the rates counts beyond those that are made (SEAM: 1)."""

    @model_validator(mode="after")
    def _ordered(self) -> "TrainSegmentation":
        if self.scale_min > self.scale_max:
            raise ValueError("scale_min is above scale_max")
        return self

    @model_validator(mode="after")
    def _normalizable(self) -> "TrainSegmentation":
        if self.head == "deeplabv3plus" and self.batch_size == 1 and not self.freeze_bn:
            raise ValueError(
                "head 'deeplabv3plus' normalizes one value per image: batch_size 1 needs freeze_bn"
            )
        return self

    def faults(self, upstream: Mapping[str, Stage]) -> Iterator[str]:
        """Yield scales that leave no pixel."""
        yield from super().faults(upstream)
        yield from lost_pixels("scale_min", [self.scale_min], upstream)

    def inactive(self) -> frozenset[str]:
        """Knobs without effect.

        `width` and `dilation` belong to LargeFOV alone; frozen statistics do not move.
        """
        unused = set(super().inactive())
        if self.head != "largefov":
            unused |= {"width", "dilation"}
        if self.freeze_bn or not self.has_batch_norm():
            unused.add("bn_momentum")
        return frozenset(unused)

    def has_batch_norm(self) -> bool:
        """Tell if there is a batch norm; of the heads only DeepLabv2's has none."""
        return self.head != "aspp" or super().has_batch_norm()

    def needs(self) -> tuple[str, ...]:
        """The data, the pseudo labels, and the weights to start from."""
        return ("data", "pseudo", *(("pretrain",) if self.init == "pretrain" else ()))

    def run(self, ctx: Context) -> dict[str, float]:
        """Train the network and keep its weights."""
        # Imported here: knobs are read where there is no torch.
        from torch import Tensor, nn

        from occse.data.dataset import load_dataset, read_label_map
        from occse.data.samples import LabelMapImages
        from occse.networks.deeplab import DeepLab, save_deeplab, segmentation_loss
        from occse.stages.learning import fit, initialize, seed_weights
        from occse.training.loop import Step

        dataset = load_dataset(ctx.inputs["data"], data_root=ctx.machine.data_root)
        seed_weights(self)
        is_large_fov = self.head == "largefov"
        own = {"width": self.width, "dilation": self.dilation} if is_large_fov else {}
        model = DeepLab(
            self.backbone,
            len(dataset.classes),
            self.head,
            align_corners=self.align_corners,
            **own,
        )
        initialize(model, self.init, ctx)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                # torch's `momentum` is the weight of the new batch, not of the mean so far.
                module.momentum = self.bn_momentum
        folder = ctx.inputs["pseudo"] / LABELS
        samples = LabelMapImages(
            dataset,
            dataset.splits["train_aug"],
            lambda name: read_label_map(folder / f"{name}.png", num_classes=len(dataset.classes)),
            scale=(self.scale_min, self.scale_max),
            resampling=self.resampling,
            crop=self.crop,
        )

        def loss(batch: tuple[Tensor, ...], step: Step) -> dict[str, Tensor]:
            images, labels = batch
            scores = step.spread(model, images)
            return {"loss": segmentation_loss(scores, labels, align_corners=self.align_corners)}

        metrics = fit(self, ctx, model, samples, loss, poly_extra=self.poly_extra)
        save_deeplab(model, ctx.output / MODEL, classes=dataset.classes)
        return metrics
