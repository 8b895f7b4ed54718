"""`deeplab`: the segmentation network, trained on the pseudo labels as if they were the truth."""

from typing import Annotated, ClassVar

from pydantic import Field, model_validator

from occse.data.view_names import Resampling
from occse.networks.names import HeadName
from occse.stage import LABELS, MODEL, Context
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
    batch_size: int = Field(default=10, ge=1)
    lr: float = Field(default=1e-3, gt=0)
    epochs: int = Field(default=19, ge=1)
    freeze_bn: bool = False
    bn_momentum: float = Field(default=0.1, gt=0, le=1)
    freeze_stem: bool = False
    crop: int = Field(default=448, ge=16)
    scale_min: float = Field(default=0.5, gt=0)
    scale_max: float = Field(default=1.5, gt=0)
    head: HeadName = "largefov"
    width: int = Field(default=512, ge=8)
    dilation: int = Field(default=12, ge=1)
    align_corners: bool = False
    resampling: Resampling = "pillow"
    poly_extra: int = Field(default=0, ge=0)

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
        save_deeplab(model, ctx.output / MODEL)
        return metrics
