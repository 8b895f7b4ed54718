"""Class-specific erasing and the class-agnostic erasing that it is compared with.

CGNet's CAMs become a mask M in [0, 1], the erased image is image * (1 - M), and the frozen ordinary
classifier (OC) says what is left in it. Nothing here is detached: OC's judgement reaches CGNet
through the mask and its maximum."""

from typing import Literal

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor
from torch.nn import functional

Erasing = Literal["cse", "class_agnostic"]
MaskMax = Literal["batch", "image"]
Size = tuple[int, int] | torch.Size

EPSILON = 1e-5


def draw_class(
    labels: Float[Tensor, "B C"],
    *,
    generator: torch.Generator,
    weights: Float[Tensor, " C"] | None = None,
) -> Float[Tensor, "B C"]:
    """Draw the class c_k to erase among the present classes of each image; returns one-hot rows.

    Uniformly, as the paper and the official code do, or in proportion to `weights`, such as
    `balancing_weights`. The generator lives on the CPU whatever the device of `labels`, so the
    draws of a run do not depend on its machine.

    Raises:
        ValueError: an image has no label.
    """
    _require_labels(labels)
    chances = labels.cpu() if weights is None else labels.cpu() * weights
    drawn = torch.multinomial(chances, 1, generator=generator).squeeze(1)
    return functional.one_hot(drawn, labels.shape[1]).to(labels)


def balancing_weights(labels: Float[Tensor, "N C"]) -> Float[Tensor, " C"]:
    """1 / (number of the N training images with the class): a rare class is drawn before a frequent
    one beside it.

    lucasdavid/PNOC's "balanced" weighs with 1 / (how often the class was drawn so far); these
    weights do not depend on the course of a training."""
    return 1 / labels.sum(dim=0).clamp(min=1)


def class_specific_mask(
    cams: Float[Tensor, "B C h w"],
    erased: Float[Tensor, "B C"],
    *,
    size: Size,
    mask_max: MaskMax,
) -> Float[Tensor, "B 1 H W"]:
    """The erased class's CAM as a mask, M = relu(upsample(f^c)) / (max + 1e-5), in this order.

    The paper's maximum is over the image ("image"); the official code's is over the whole batch
    ("batch"), where only the image with the strongest activation is erased entirely at its peak.
    """
    activation = _upsampled_activation(cams, erased == 1, size=size)
    num_images = len(activation)
    groups = torch.zeros(num_images) if mask_max == "batch" else torch.arange(num_images)
    return (activation / (_group_maximum(activation, groups.to(cams.device)) + EPSILON)).unsqueeze(
        1
    )


def class_agnostic_mask(
    cams: Float[Tensor, "B C h w"],
    labels: Float[Tensor, "B C"],
    *,
    size: Size,
    mask_max: MaskMax,
) -> Float[Tensor, "B 1 H W"]:
    """The pixel-wise maximum over the present classes' normalized CAMs: whatever belongs to any
    class is erased.

    Each class is divided by its own maximum + 1e-5, over the image or over the images of the batch
    that show the class.

    Raises:
        ValueError: an image has no label.
    """
    _require_labels(labels)
    present = labels == 1
    activation = _upsampled_activation(cams, present, size=size)
    num_maps = len(activation)
    groups = (
        present.nonzero()[:, 1]
        if mask_max == "batch"
        else torch.arange(num_maps, device=cams.device)
    )
    normalized = activation / (_group_maximum(activation, groups) + EPSILON)
    per_image = torch.split(normalized, present.sum(dim=1).tolist())
    return torch.stack([maps.amax(dim=0, keepdim=True) for maps in per_image])


def erase(
    images: Float[Tensor, "B 3 H W"], mask: Float[Tensor, "B 1 H W"]
) -> Float[Tensor, "B 3 H W"]:
    """Erase softly: images * (1 - M), in normalized space, so that what is erased becomes the mean
    colour.
    """
    return images * (1 - mask)


def harden(mask: Float[Tensor, "B 1 H W"], *, threshold: float) -> Float[Tensor, "B 1 H W"]:
    """[M > threshold], with the gradient of M (straight-through, Bengio et al., 2013).

    The hard mask of lucasdavid/PNOC has no gradient; it trains a second classifier there, and CGNet
    by soft ones."""
    return (mask > threshold).to(mask) + (mask - mask.detach())


def soft_labels(
    remaining: Float[Tensor, "B C"], intact_logits: Float[Tensor, "B C"]
) -> Float[Tensor, "B C"]:
    """The probabilities that OC gives to the remaining classes in the intact image; 0 for all
    others.

    Of a class that OC hardly sees before erasing no more is asked after it: OC distilled into the
    target (Hinton et al., 2015). Ours, no published variant that we know of."""
    return remaining * intact_logits.sigmoid()


def erasing_targets(
    cams: Float[Tensor, "B C h w"],
    labels: Float[Tensor, "B C"],
    *,
    mode: Erasing,
    size: Size,
    mask_max: MaskMax,
    generator: torch.Generator,
    weights: Float[Tensor, " C"] | None = None,
) -> tuple[Float[Tensor, "B 1 H W"], Float[Tensor, "B C"]]:
    """The mask to erase with, and the labels that OC should still see in the erased image.

    "cse" erases one drawn class (see `draw_class`), the others remain; "class_agnostic" erases all
    of them and draws nothing.

    Raises:
        ValueError: an image has no label.
    """
    if mode == "class_agnostic":
        return class_agnostic_mask(cams, labels, size=size, mask_max=mask_max), torch.zeros_like(
            labels
        )
    erased = draw_class(labels, generator=generator, weights=weights)
    return class_specific_mask(cams, erased, size=size, mask_max=mask_max), labels - erased


def erasing_loss(
    logits: Float[Tensor, "B C"],
    labels: Float[Tensor, "B C"],
    erased_logits: Float[Tensor, "B C"],
    remaining: Float[Tensor, "B C"],
    *,
    lambda_: float,
) -> dict[str, Float[Tensor, ""]]:
    """`loss` = BCE(p, t) + lambda * BCE(OC(erased), remaining), and its two terms, lambda included.

    Each binary cross entropy is the mean over the batch and the classes.
    """
    classification = functional.binary_cross_entropy_with_logits(logits, labels)
    erasing = lambda_ * functional.binary_cross_entropy_with_logits(erased_logits, remaining)
    return {"loss": classification + erasing, "classification": classification, "erasing": erasing}


def _require_labels(labels: Float[Tensor, "B C"]) -> None:
    unlabelled = torch.nonzero(labels.sum(dim=1) == 0).flatten().tolist()
    if unlabelled:
        raise ValueError(
            f"images {unlabelled} of the batch have no label; erasing needs at least one class per image"
        )


def _upsampled_activation(
    cams: Float[Tensor, "B C h w"], chosen: Bool[Tensor, "B C"], *, size: Size
) -> Float[Tensor, "M H W"]:
    """relu(upsample(f^c)) of the chosen (image, class) pairs, image by image; no other map is
    enlarged.
    """
    upsampled = functional.interpolate(
        cams[chosen].unsqueeze(1), size, mode="bilinear", align_corners=False
    )
    return functional.relu(upsampled).squeeze(1)


def _group_maximum(
    maps: Float[Tensor, "M H W"], groups: Shaped[Tensor, " M"]
) -> Float[Tensor, "M 1 1"]:
    """For each non-negative map, the maximum over all maps of its group. The one place where maps
    of a batch meet.
    """
    peaks = maps.amax(dim=(1, 2))
    same_group = groups[:, None] == groups[None, :]
    return torch.where(same_group, peaks, 0).amax(dim=1).view(-1, 1, 1)
