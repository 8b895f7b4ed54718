"""`pretrain`: first weights where there are no ImageNet weights, learnt on images of one object."""

from collections.abc import Iterator, Mapping
from typing import ClassVar

from occse.stage import MODEL, Context, Stage
from occse.stages.data import DataStage
from occse.stages.trained import ClassificationStage

NO_SPLIT = (
    "it needs a split 'object_centric', which only the data 'shapes' has; "
    "set *.init to 'imagenet' or 'random'"
)


class Pretrain(ClassificationStage):
    """Single-label classification of the split `object_centric`, by softmax.

    It stands in for ImageNet.
    """

    display_name: ClassVar[str] = "pretraining"
    may_need: ClassVar[tuple[str, ...]] = ("data",)
    trained_split: ClassVar[str] = "object_centric"

    freeze_bn: bool = False
    """Keep weights and statistics of all batch norms; here they start random, so train them."""
    freeze_stem: bool = False
    """Keep the backbone's first layers; here they start random, so train them."""

    def needs(self) -> tuple[str, ...]:
        """The data alone."""
        return ("data",)

    def faults(self, upstream: Mapping[str, Stage]) -> Iterator[str]:
        """Yield the lack of the split, which other faults follow from."""
        data = upstream.get("data")
        if isinstance(data, DataStage) and data.num_images(self.trained_split) == 0:
            yield NO_SPLIT
        else:
            yield from super().faults(upstream)

    def run(self, ctx: Context) -> dict[str, float]:
        """Train a classifier from scratch; other stages take its backbone.

        Raises:
            ValueError: the data has no split `object_centric`.
        """
        # Imported here: knobs are read where there is no torch.
        from torch import Tensor
        from torch.nn import functional

        from occse.data.dataset import load_dataset
        from occse.networks.classifier import Classifier, logits, save_classifier
        from occse.stages.learning import fit, labelled_images, seed_weights
        from occse.training.loop import Step

        dataset = load_dataset(ctx.inputs["data"], data_root=ctx.machine.data_root)
        names = dataset.splits.get(self.trained_split, ())
        if not names:
            raise ValueError(NO_SPLIT)
        seed_weights(self)
        model = Classifier(self.backbone, len(dataset.classes), dropout=self.head_dropout)

        def loss(batch: tuple[Tensor, ...], step: Step) -> dict[str, Tensor]:
            images, labels = batch
            scores = logits(step.spread(model, images))
            # From multi-hot rows with a single 1 to class indices.
            truth = labels.argmax(1)
            accuracy = (scores.argmax(1) == truth).float().mean()
            return {"loss": functional.cross_entropy(scores, truth), "accuracy": accuracy}

        metrics = fit(self, ctx, model, labelled_images(self, dataset, names), loss)
        save_classifier(model, ctx.output / MODEL, classes=dataset.classes)
        return metrics
