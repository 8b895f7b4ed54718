"""CGNet's loss: adversarial erasing against a frozen classifier (paper, section 3.2)."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from occse.method.erasing import erase, erasing_loss, erasing_targets, harden, soft_labels
from occse.networks.classifier import Classifier, logits
from occse.training.loop import Loss, Step


@dataclass(frozen=True, kw_only=True)
class ErasingChoices:
    """Choices of the erasing.

    Attributes:
        mode: "cse" erases one drawn class, "class_agnostic" all of them.
        lambda_start: weight of the erasing loss in the first epoch.
        lambda_slope: growth of that weight per epoch. With both at 0 nothing is erased.
        mask_max: the maximum that a mask is divided by, of the batch or of each image.
        mask_threshold: a mask becomes 1 above it; None keeps it soft.
        remaining: targets for the erased image, the other "labels", or "oc", the classifier's own
            probabilities of them on the intact image.
        weights: (C,) weights of the classes when the class to erase is drawn; None: equal ones.
    """

    mode: Literal["cse", "class_agnostic"]
    lambda_start: float
    lambda_slope: float
    mask_max: Literal["batch", "image"]
    mask_threshold: float | None
    remaining: Literal["labels", "oc"]
    weights: Tensor | None


def adversarial_loss(model: Classifier, oc: Classifier, erasing: ErasingChoices) -> Loss:
    """Return the loss of a step: BCE(p, t) + lambda * BCE(OC(erased image), remaining labels).

    Args:
        model: CGNet, which is trained.
        oc: the ordinary classifier, which is frozen.
        erasing: the choices of the erasing.
    """

    def loss(batch: tuple[Tensor, ...], step: Step) -> dict[str, Tensor]:
        images, labels = batch
        cams = step.spread(model, images)
        lambda_ = erasing.lambda_start + erasing.lambda_slope * step.epoch
        # Without a weight the erasing changes nothing, and OC's pass would be computed for nothing.
        if lambda_ == 0:
            return {"loss": functional.binary_cross_entropy_with_logits(logits(cams), labels)}
        mask, remaining = erasing_targets(
            cams,
            step.on_host[0],
            mode=erasing.mode,
            size=images.shape[2:],
            mask_max=erasing.mask_max,
            generator=step.generator,
            weights=erasing.weights,
        )
        if erasing.mask_threshold is not None:
            mask = harden(mask, threshold=erasing.mask_threshold)
        if erasing.remaining == "oc" and erasing.mode == "cse":
            # A target takes no gradient; only OC's answer to the erased image teaches CGNet.
            with torch.no_grad():
                intact_logits = logits(step.spread(oc, images))
            remaining = soft_labels(remaining, intact_logits)
        # The mask is there for the whole batch, the images are those of this process.
        erased_images = erase(images, step.spread.own(mask))
        erased_logits = logits(step.spread(oc, erased_images))
        parts = erasing_loss(logits(cams), labels, erased_logits, remaining, lambda_=lambda_)
        return {**parts, "lambda": images.new_full((), lambda_)}

    return loss
