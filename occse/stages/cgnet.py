"""`cgnet`: the CAM-generating network, trained against the frozen ordinary classifier by
adversarial erasing.
"""

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from occse.data.dataset import load_dataset
from occse.method.erasing import (
    balancing_weights,
    erase,
    erasing_loss,
    erasing_targets,
    harden,
    soft_labels,
)
from occse.networks.classifier import Classifier, load_classifier, logits, save_classifier
from occse.stage import Context
from occse.stages.trained import MODEL, ClassificationStage, first_weights, initialize
from occse.training.loop import Step


class TrainCGNet(ClassificationStage):
    """Minimize BCE(p, t) + lambda * BCE(OC(erased image), what should remain) (paper, section 3.2).

    lambda is `lambda_start + lambda_slope * epoch`. With both at 0 nothing is erased: plain further
    training, the control for any claim about erasing.

    `draw` says which class is erased: "uniform" (paper) or "balanced" (`balancing_weights`). A
    `mask` is "soft" (paper) or "hard", 1 above `mask_threshold` (`harden`; PNOC takes 0.3, or 0.2).
    OC should see in the erased image what is left of the `labels` (paper), or as much of it as OC
    itself sees in the intact image, "oc" (`soft_labels`)."""

    display_name: ClassVar[str] = "CGNet"
    may_need: ClassVar[tuple[str, ...]] = ("data", "oc", "pretrain")
    effortless: ClassVar[frozenset[str]] = ClassificationStage.effortless | {
        "lambda_start",
        "lambda_slope",
        "mask_max",
    }

    init: Annotated[str, first_weights("oc", "pretrain", "imagenet", "random")] = "imagenet"
    erasing: Literal["cse", "class_agnostic"] = "cse"
    lambda_start: float = Field(default=0.3, ge=0)
    lambda_slope: float = Field(default=0.05, ge=0)
    mask_max: Literal["batch", "image"] = "batch"
    mask: Literal["soft", "hard"] = "soft"
    mask_threshold: float = Field(default=0.3, ge=0, lt=1)
    draw: Literal["uniform", "balanced"] = "uniform"
    remaining: Literal["labels", "oc"] = "labels"
    head_lr: float = Field(default=1.0, gt=0)

    def needs(self) -> tuple[str, ...]:
        """The data, the ordinary classifier, and the weights to start from."""
        return ("data", "oc", "pretrain") if self.init == "pretrain" else ("data", "oc")

    def inactive(self) -> frozenset[str]:
        """Without erasing nothing of it matters; class-agnostic erasing draws no class and leaves
        none.
        """
        if self.lambda_start == self.lambda_slope == 0:
            return super().inactive() | {
                "erasing",
                "mask_max",
                "mask",
                "mask_threshold",
                "draw",
                "remaining",
            }
        of_soft = {"mask_threshold"} if self.mask == "soft" else set()
        of_agnostic = {"draw", "remaining"} if self.erasing == "class_agnostic" else set()
        return super().inactive() | of_soft | of_agnostic

    def run(self, ctx: Context) -> dict[str, float]:
        """Train CGNet and keep its weights."""
        dataset = load_dataset(ctx.inputs["data"], data_root=ctx.data_root)
        samples = self.samples(dataset, dataset.splits["train_aug"])
        self.seed_weights()
        model = Classifier(self.backbone, len(dataset.classes), dropout=self.head_dropout)
        oc = load_classifier(ctx.inputs["oc"] / MODEL, device=ctx.device).requires_grad_(False)
        if self.init == "oc":
            model.head.load_state_dict(oc.head.state_dict())
        initialize(model, self.init, ctx)
        weights = balancing_weights(samples.targets) if self.draw == "balanced" else None
        metrics = self.fit(
            ctx, model, samples, lambda batch, step: self._loss(model, oc, batch, step, weights)
        )
        save_classifier(model, ctx.output / MODEL)
        return metrics

    def _loss(
        self,
        model: Classifier,
        oc: Classifier,
        batch: tuple[Tensor, ...],
        step: Step,
        weights: Tensor | None,
    ) -> dict[str, Tensor]:
        images, labels = batch
        cams = step.spread(model, images)
        weight = self.lambda_start + self.lambda_slope * step.epoch
        if weight == 0:
            return {"loss": functional.binary_cross_entropy_with_logits(logits(cams), labels)}
        mask, remaining = erasing_targets(
            cams,
            labels,
            mode=self.erasing,
            size=images.shape[2:],
            mask_max=self.mask_max,
            generator=step.generator,
            weights=weights,
        )
        if self.mask == "hard":
            mask = harden(mask, threshold=self.mask_threshold)
        if self.remaining == "oc" and self.erasing == "cse":
            with torch.no_grad():
                remaining = soft_labels(remaining, logits(step.spread(oc, images)))
        erased_logits = logits(step.spread(oc, erase(images, step.spread.own(mask))))
        parts = erasing_loss(logits(cams), labels, erased_logits, remaining, lambda_=weight)
        return {**parts, "lambda": torch.tensor(weight)}
