"""`pretrain`: weights to start from where there are no ImageNet weights, learnt on images of one
object.
"""

from typing import ClassVar

from torch import Tensor
from torch.nn import functional

from occse.data.dataset import load_dataset
from occse.networks.classifier import Classifier, logits, save_classifier
from occse.stage import Context
from occse.stages.trained import MODEL, ClassificationStage
from occse.training.loop import Step


class Pretrain(ClassificationStage):
    """Single-label classification of the split `object_centric`, by softmax; stands in for
    ImageNet.
    """

    display_name: ClassVar[str] = "pretraining"
    may_need: ClassVar[tuple[str, ...]] = ("data",)

    freeze_bn: bool = False
    freeze_stem: bool = False

    def needs(self) -> tuple[str, ...]:
        """The data alone."""
        return ("data",)

    def run(self, ctx: Context) -> dict[str, float]:
        """Train a classifier from scratch; its backbone is what others take."""
        dataset = load_dataset(ctx.inputs["data"], data_root=ctx.data_root)
        names = dataset.splits.get("object_centric", ())
        if not names:
            raise ValueError(
                "pretrain needs a split 'object_centric', which only the data 'shapes' has; set *.init to 'imagenet'"
            )
        self.seed_weights()
        model = Classifier(self.backbone, len(dataset.classes), dropout=self.head_dropout)

        def loss(batch: tuple[Tensor, ...], step: Step) -> dict[str, Tensor]:
            images, labels = batch
            scores, truth = logits(step.spread(model, images)), labels.argmax(1)
            accuracy = (scores.argmax(1) == truth).float().mean()
            return {"loss": functional.cross_entropy(scores, truth), "accuracy": accuracy}

        metrics = self.fit(ctx, model, self.samples(dataset, names), loss)
        save_classifier(model, ctx.output / MODEL)
        return metrics
