"""`affinity`: AffinityNet or IRN's class boundaries.

It is trained on pairs of pixels about which the two CRFs are sure.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, ClassVar

from pydantic import Field, model_validator

from occse.data.view_names import Padding
from occse.networks.names import LEVEL_STRIDES, STRIDES, NetworkName
from occse.stage import MODEL, Context, Stage
from occse.stages.data import lost_pixels
from occse.stages.trained import TrainedStage, first_weights


class TrainAffinity(TrainedStage):
    """Affinities for the walk, learnt from `train_aug`.

    `radius` is that of the pairs, in cells of the feature map.

    `network` "psa": AffinityNet (Ahn and Kwak, CVPR 2018), at the backbone's stride. "irn": class
    boundaries (Ahn et al., CVPR 2019) without the displacement field, at stride 4; only the head
    learns, at `lr` * `head_lr`. irn takes resnet50_irn, radius 10, 0.1 for the head, weight decay
    1e-4, 3 epochs, crop 512, scales 0.5 to 1.5, no jitter, and labels from CRFs on label maps at
    constant thresholds; here both networks take `crf_low` and `crf_high`.

    `padding` is the colour of a crop beyond its image: "mean", or "black" as in psa, which crops
    before it normalizes (16 % of a crop of 448 from an image of 500x375).

    Without epochs it is the network in the file `init` as it is.
    """

    display_name: ClassVar[str] = "AffinityNet"
    may_need: ClassVar[tuple[str, ...]] = ("data", "pretrain", "crf_low", "crf_high")
    effortless: ClassVar[frozenset[str]] = TrainedStage.effortless | {"jitter", "hue", "padding"}
    kept: ClassVar[frozenset[str]] = TrainedStage.kept | {"network"}

    network: NetworkName = "psa"
    """AffinityNet of psa, or the class boundaries of irn."""
    init: Annotated[str, first_weights("pretrain", "imagenet", "random")] = "imagenet"
    """First weights: an upstream classifier's, ImageNet's, random ones, or a file in --weights."""
    epochs: int = Field(default=8, ge=0)
    """Passes over the training images; 0 keeps the network in the file `init` as it is."""
    radius: int = Field(default=5, ge=2)
    """Largest distance of a pair, in cells of the feature map (psa: 5, irn: 10)."""
    crop: int = Field(default=448, ge=16)
    """Side of the square that a view is cropped or padded to, in pixels."""
    scale_min: float = Field(default=1.0, gt=0)
    """Smallest factor on the size of a view (irn: 0.5)."""
    scale_max: float = Field(default=1.0, gt=0)
    """Largest factor on the size of a view (irn: 1.5)."""
    jitter: float = Field(default=0.3, ge=0, lt=1)
    """Strength of the change of brightness, contrast and saturation."""
    hue: float = Field(default=0.1, ge=0, le=0.5)
    """Largest turn of the hue, as a share of the circle."""
    padding: Padding = "mean"
    """Colour of a crop beyond its image: the mean colour, or black as in psa."""

    @model_validator(mode="after")
    def _ordered(self) -> "TrainAffinity":
        if self.scale_min > self.scale_max:
            raise ValueError("scale_min is above scale_max")
        return self

    def faults(self, upstream: Mapping[str, Stage]) -> Iterator[str]:
        """Yield crops without a pair, and scales that leave no pixel."""
        yield from super().faults(upstream)
        if self.epochs == 0:
            return
        strides = LEVEL_STRIDES if self.network == "irn" else STRIDES
        # The stride of a plugin's backbone, or of timm's, is known once it is built.
        stride = strides.get(self.backbone)
        if stride is None:
            return
        # Only cells that are radius - 1 away from the left and the right edge are sources.
        columns = 2 * self.radius - 1
        if -(-self.crop // stride) < columns:
            yield (
                f"crop is {self.crop}, which is {-(-self.crop // stride)} cells at stride {stride} "
                f"of {self.backbone}; radius {self.radius} needs {columns}: "
                f"expected crop above {(columns - 1) * stride}"
            )
        yield from lost_pixels("scale_min", [self.scale_min], upstream)

    def inactive(self) -> frozenset[str]:
        """Knobs without effect: IRN's backbone is always frozen as a whole."""
        frozen = {"freeze_bn", "freeze_stem"} if self.network == "irn" else set()
        return super().inactive() | frozen

    def needs(self) -> tuple[str, ...]:
        """The data, the two CRFs, and the weights to start from."""
        if self.epochs == 0:
            return ()
        first = ("pretrain",) if self.init == "pretrain" else ()
        return ("data", "crf_low", "crf_high", *first)

    def run(self, ctx: Context) -> dict[str, float]:
        """Train the network and keep its weights."""
        # Imported here: knobs are read where there is no torch.
        from torch import Tensor

        from occse.data.dataset import load_dataset
        from occse.data.samples import AffinityImages
        from occse.data.score_archives import SCORES, PairedScores
        from occse.networks.affinity import build_affinity_net, save_affinity_net
        from occse.networks.pairs import affinity_label, affinity_loss, pair_labels
        from occse.stages.learning import fit, initialize, seed_weights
        from occse.training.loop import Step

        # Before the network is built, which draws its random weights.
        seed_weights(self)
        model = build_affinity_net(self.network, self.backbone)
        initialize(model, self.init, ctx, whole=self.epochs == 0)
        if self.epochs == 0:
            save_affinity_net(model, ctx.output / MODEL)
            return {}
        dataset = load_dataset(ctx.inputs["data"], data_root=ctx.machine.data_root)
        scores = PairedScores(ctx.inputs["crf_low"] / SCORES, ctx.inputs["crf_high"] / SCORES)
        samples = AffinityImages(
            dataset,
            dataset.splits["train_aug"],
            scores.read,
            # `PairedScores` stacks both alphas, (2 L, H, W), the low one first.
            lambda pair: affinity_label(*pair.chunk(2), pool=model.stride),
            scale=(self.scale_min, self.scale_max),
            jitter=self.jitter,
            hue=self.hue,
            crop=self.crop,
            padding=self.padding,
        )

        def loss(batch: tuple[Tensor, ...], step: Step) -> dict[str, Tensor]:
            images, labels = batch
            pairs = pair_labels(labels, radius=self.radius)
            outputs = step.spread(model, images)
            return {"loss": affinity_loss(model.affinities(outputs, radius=self.radius), *pairs)}

        metrics = fit(self, ctx, model, samples, loss)
        save_affinity_net(model, ctx.output / MODEL)
        return metrics
