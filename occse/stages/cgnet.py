"""`cgnet`: the CAM-generating network, trained by adversarial erasing.

Its adversary is the ordinary classifier, which stays frozen.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from occse.stage import MODEL, Context
from occse.stages.trained import ClassificationStage, first_weights


class TrainCGNet(ClassificationStage):
    """Minimize BCE(p, t) + lambda * BCE(OC(erased image), remaining labels) (paper, section 3.2).

    lambda is `lambda_start + lambda_slope * epoch`. With both at 0 nothing is erased: plain further
    training, the control for any claim about erasing.

    `draw` says how the class to erase is drawn: "uniform" (paper) or "balanced"
    (`balancing_weights`). A `mask` is "soft" (paper) or "hard", 1 above `mask_threshold` (`harden`;
    PNOC takes 0.3, or 0.2). The target for the erased image is the rest of the `labels` (paper), or
    OC's own probabilities of them on the intact image, "oc" (`soft_labels`).
    """

    display_name: ClassVar[str] = "CGNet"
    may_need: ClassVar[tuple[str, ...]] = ("data", "oc", "pretrain")
    effortless: ClassVar[frozenset[str]] = ClassificationStage.effortless | {
        "lambda_start",
        "lambda_slope",
        "mask_max",
    }

    init: Annotated[str, first_weights("oc", "pretrain", "imagenet", "random")] = "imagenet"
    """First weights: an upstream classifier's, ImageNet's, random ones, or a file in --weights."""
    erasing: Literal["cse", "class_agnostic"] = "cse"
    """Erase one drawn class of the image (class-specific, the paper), or all of them."""
    lambda_start: float = Field(default=0.3, ge=0)
    """Weight of the erasing loss in the first epoch (paper, section 3.2)."""
    lambda_slope: float = Field(default=0.05, ge=0)
    """Growth of that weight per epoch; with both at 0 nothing is erased."""
    mask_max: Literal["batch", "image"] = "batch"
    """Maximum that a mask is divided by: of the batch (official code) or of each image (paper)."""
    mask: Literal["soft", "hard"] = "soft"
    """Erase by the map itself (soft, the paper), or by 1 above `mask_threshold` (hard, PNOC)."""
    mask_threshold: float = Field(default=0.3, ge=0, lt=1)
    """Map value above which a hard mask erases."""
    draw: Literal["uniform", "balanced"] = "uniform"
    """Draw the class to erase uniformly (paper), or rare classes more often."""
    remaining: Literal["labels", "oc"] = "labels"
    """Target for the erased image: the other labels (paper), or OC's probabilities of them."""
    head_lr: float = Field(default=1.0, gt=0)
    """Factor on the rate of the head. The official code moves it as the backbone."""

    def needs(self) -> tuple[str, ...]:
        """The data, the ordinary classifier, and the weights to start from."""
        return ("data", "oc", "pretrain") if self.init == "pretrain" else ("data", "oc")

    def inactive(self) -> frozenset[str]:
        """Knobs of erasing where nothing is erased.

        Class-agnostic erasing draws no class and leaves none.
        """
        unused = set(super().inactive())
        if self.lambda_start == self.lambda_slope == 0:
            unused |= {"erasing", "mask_max", "mask", "mask_threshold", "draw", "remaining"}
        if self.mask == "soft":
            unused.add("mask_threshold")
        if self.erasing == "class_agnostic":
            unused |= {"draw", "remaining"}
        return frozenset(unused)

    def run(self, ctx: Context) -> dict[str, float]:
        """Train CGNet and keep its weights."""
        # Imported here: knobs are read where there is no torch.
        from occse.data.dataset import load_dataset
        from occse.method.erasing import balancing_weights
        from occse.networks.classifier import Classifier, load_classifier, save_classifier
        from occse.stages.learning import fit, initialize, labelled_images, seed_weights
        from occse.training.adversarial import ErasingChoices, adversarial_loss

        dataset = load_dataset(ctx.inputs["data"], data_root=ctx.machine.data_root)
        samples = labelled_images(self, dataset, dataset.splits["train_aug"])
        seed_weights(self)
        model = Classifier(self.backbone, len(dataset.classes), dropout=self.head_dropout)
        oc = load_classifier(ctx.inputs["oc"] / MODEL, device=ctx.machine.device)
        # Gradients flow through OC to the erased image and so to CGNet, not to OC's weights.
        oc.requires_grad_(False)
        # The training loop compiles the trained network alone.
        if self.compile:
            oc.compile()
        # `initialize` copies the backbone of an upstream classifier, not its head.
        if self.init == "oc":
            model.head.load_state_dict(oc.head.state_dict())
        initialize(model, self.init, ctx)
        erasing = ErasingChoices(
            mode=self.erasing,
            lambda_start=self.lambda_start,
            lambda_slope=self.lambda_slope,
            mask_max=self.mask_max,
            mask_threshold=self.mask_threshold if self.mask == "hard" else None,
            remaining=self.remaining,
            weights=balancing_weights(samples.targets) if self.draw == "balanced" else None,
        )
        loss = adversarial_loss(model, oc, erasing)
        metrics = fit(self, ctx, model, samples, loss)
        save_classifier(model, ctx.output / MODEL, classes=dataset.classes)
        return metrics
