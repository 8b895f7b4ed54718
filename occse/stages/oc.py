"""`oc`: the ordinary classifier, trained once on image labels and frozen afterwards."""

from typing import Annotated, ClassVar

from pydantic import Field

from occse.stage import MODEL, Context
from occse.stages.trained import ClassificationStage, first_weights


class TrainClassifier(ClassificationStage):
    """Multi-label classification of `train_aug` by binary cross entropy (paper, section 3.1).

    The defaults are those of jiwoon-ahn/psa, whose classifier the paper takes, but for its
    momentum. Without epochs it is the classifier in the file `init`, such as the official one, as
    it is.
    """

    display_name: ClassVar[str] = "ordinary classifier"
    may_need: ClassVar[tuple[str, ...]] = ("data", "pretrain")

    init: Annotated[str, first_weights("pretrain", "imagenet", "random")] = "imagenet"
    """First weights: an upstream classifier's, ImageNet's, random ones, or a file in --weights."""
    epochs: int = Field(default=15, ge=0)
    """Passes over the training images; 0 keeps the classifier in the file `init` as it is."""
    batch_size: int = Field(default=16, ge=1)
    """Images of a step, over all processes and parts."""
    crop: int = Field(default=448, ge=16)
    """Side of the square that a view is cropped or padded to, in pixels (psa: 448)."""
    resize_max: int = Field(default=512, ge=16)
    """Longest long side that a view is resized to, in pixels (psa: 512)."""
    head_dropout: float = Field(default=0.5, ge=0, lt=1)
    """Share of the backbone's channels that each image loses before the head (psa: 0.5)."""

    def needs(self) -> tuple[str, ...]:
        """The data, and the weights to start from."""
        return ("data", "pretrain") if self.init == "pretrain" else ("data",)

    def run(self, ctx: Context) -> dict[str, float]:
        """Train the classifier and keep its weights."""
        # Imported here: knobs are read where there is no torch.
        from torch import Tensor
        from torch.nn import functional

        from occse.data.dataset import load_dataset
        from occse.networks.classifier import Classifier, logits, save_classifier
        from occse.stages.learning import fit, initialize, labelled_images, seed_weights
        from occse.training.loop import Step

        dataset = load_dataset(ctx.inputs["data"], data_root=ctx.machine.data_root)
        samples = labelled_images(self, dataset, dataset.splits["train_aug"])
        seed_weights(self)
        model = Classifier(self.backbone, len(dataset.classes), dropout=self.head_dropout)
        initialize(model, self.init, ctx, whole=self.epochs == 0)

        def loss(batch: tuple[Tensor, ...], step: Step) -> dict[str, Tensor]:
            images, labels = batch
            scores = logits(step.spread(model, images))
            return {"loss": functional.binary_cross_entropy_with_logits(scores, labels)}

        metrics = fit(self, ctx, model, samples, loss) if self.epochs else {}
        save_classifier(model, ctx.output / MODEL, classes=dataset.classes)
        return metrics
