"""Class-specific erasing, and the class-agnostic erasing beside it.

CGNet's CAMs become a mask M in [0, 1]. The erased image is image * (1 - M). The frozen ordinary
classifier (OC) then says which classes it still sees. Class-specific erasing (CSE) removes one
class c_k and asks OC for the other classes, so M has to cover c_k and nothing else. Class-agnostic
erasing (CAE) removes all classes and asks OC for none.

Nothing in this module is detached, because CGNet learns through OC: the gradient of OC's loss
reaches CGNet through the mask and through the maximum that the mask is divided by.

Source: `models/model_cse.py` of KAIST-vilab/OC-CSE, whose recorded numbers the tests compare with.
"""

from typing import Literal

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor
from torch.nn import functional

Erasing = Literal[
    "cse",  # class-specific: one drawn class is erased, the others remain
    "class_agnostic",  # all present classes are erased, none remains
]
MaskMax = Literal[
    "batch",  # the official code: one maximum over all images of the batch
    "image",  # the paper's equation: one maximum per image
]
Size = tuple[int, int] | torch.Size

# Added to every maximum that a mask is divided by, as in the official code: an empty CAM erases
# nothing instead of dividing 0 by 0.
EPSILON = 1e-5


def draw_class(
    labels: Float[Tensor, "B C"],
    *,
    generator: torch.Generator,
    weights: Float[Tensor, " C"] | None = None,
) -> Float[Tensor, "B C"]:
    """Draw the class c_k to erase among the present classes of each image; return one-hot rows.

    Every present class has the same chance, as in the paper and the official code, or a chance in
    proportion to `weights`, such as `balancing_weights`. The generator lives on the CPU whatever
    the device of `labels`, so the draws of a run do not depend on its machine.

    Raises:
        ValueError: an image has no label.
    """
    _require_labels(labels)
    chances = labels.cpu() if weights is None else labels.cpu() * weights
    # `multinomial` normalizes the chances, so 0 and 1 give each present class the same chance.
    drawn = torch.multinomial(chances, 1, generator=generator).squeeze(1)
    return functional.one_hot(drawn, labels.shape[1]).to(labels)


def balancing_weights(labels: Float[Tensor, "N C"]) -> Float[Tensor, " C"]:
    """Return 1 / (number of training images with the class), so that rare classes are drawn more.

    `labels` are those of all N training images. lucasdavid/PNOC's "balanced" divides by the number
    of draws so far instead; these weights do not depend on the course of a training.
    """
    return 1 / labels.sum(dim=0).clamp(min=1)


def class_specific_mask(
    cams: Float[Tensor, "B C h w"],
    erased: Float[Tensor, "B C"],
    *,
    size: Size,
    mask_max: MaskMax,
) -> Float[Tensor, "B 1 H W"]:
    """Return the erased class's CAM as a mask: M = relu(upsample(f^c)) / (max + 1e-5).

    The order is that of the official code: enlarge, then ReLU, then divide. With `mask_max`
    "batch", only the image with the strongest activation is erased completely at its peak.

    Args:
        cams: CGNet's signed maps.
        erased: one-hot rows, as `draw_class` returns them.
        size: (H, W) of the images.
        mask_max: the images that share one maximum.
    """
    activation = _upsampled_activation(cams, erased == 1, size=size)
    num_images = len(activation)
    groups = torch.zeros(num_images) if mask_max == "batch" else torch.arange(num_images)
    maximum = _group_maximum(activation, groups)
    return (activation / (maximum + EPSILON)).unsqueeze(1)


def class_agnostic_mask(
    cams: Float[Tensor, "B C h w"],
    labels: Float[Tensor, "B C"],
    *,
    size: Size,
    mask_max: MaskMax,
) -> Float[Tensor, "B 1 H W"]:
    """Return the pixel-wise maximum over the present classes' normalized CAMs.

    Each class is divided by its own maximum + 1e-5. That maximum is taken over the image
    (`mask_max` "image") or over all images of the batch that show the class ("batch").

    Raises:
        ValueError: an image has no label.
    """
    _require_labels(labels)
    present = labels == 1
    activation = _upsampled_activation(cams, present, size=size)
    # The group of a map is its class ("batch"), or the map alone ("image").
    groups = present.nonzero()[:, 1] if mask_max == "batch" else torch.arange(len(activation))
    normalized = activation / (_group_maximum(activation, groups) + EPSILON)
    # Maps are in the order of the images, one for each class of an image.
    maps_per_image = torch.split(normalized, present.sum(dim=1).tolist())
    return torch.stack([maps.amax(dim=0, keepdim=True) for maps in maps_per_image])


def erase(
    images: Float[Tensor, "B 3 H W"], mask: Float[Tensor, "B 1 H W"]
) -> Float[Tensor, "B 3 H W"]:
    """Return images * (1 - M). Images are normalized, so erased pixels take the mean colour."""
    return images * (1 - mask)


def harden(mask: Float[Tensor, "B 1 H W"], *, threshold: float) -> Float[Tensor, "B 1 H W"]:
    """Return [M > threshold] with the gradient of M (straight-through; Bengio et al., 2013).

    The hard mask of lucasdavid/PNOC has no gradient: it trains a second classifier there, while
    soft masks train CGNet.
    """
    # The second term is 0 in value and carries the gradient.
    return (mask > threshold).to(mask) + (mask - mask.detach())


def soft_labels(
    remaining: Float[Tensor, "B C"], intact_logits: Float[Tensor, "B C"]
) -> Float[Tensor, "B C"]:
    """Return OC's own probabilities for the remaining classes in the intact image, 0 elsewhere.

    As a target they ask OC for no more than it saw before the erasing (distillation; Hinton et
    al., 2015). This variant is ours: we know of no publication that has it.
    """
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
    """Return the mask M, and the labels that OC should still see in the erased image.

    "cse" erases one drawn class (see `draw_class`); the other classes remain. "class_agnostic"
    erases all classes and draws nothing; no class remains.

    `labels` may be on the CPU while `cams` are on a GPU. The classes are then drawn and the maps
    chosen on the CPU, without waiting for the GPU. Both results are on the device of `cams`.

    Raises:
        ValueError: an image has no label.
    """
    if mode == "class_agnostic":
        mask = class_agnostic_mask(cams, labels, size=size, mask_max=mask_max)
        return mask, torch.zeros_like(labels, device=cams.device)
    erased = draw_class(labels, generator=generator, weights=weights)
    mask = class_specific_mask(cams, erased, size=size, mask_max=mask_max)
    return mask, (labels - erased).to(cams.device, non_blocking=True)


def erasing_loss(
    logits: Float[Tensor, "B C"],
    labels: Float[Tensor, "B C"],
    erased_logits: Float[Tensor, "B C"],
    remaining: Float[Tensor, "B C"],
    *,
    lambda_: float,
) -> dict[str, Float[Tensor, ""]]:
    """Return L = BCE(p, t) + lambda * BCE(OC(erased), remaining), and its two terms.

    The keys are "loss", "classification" (the first term) and "erasing" (the second one, lambda
    included). Each binary cross entropy is the mean over the batch and the classes.

    Args:
        logits: CGNet's logits for the intact images.
        labels: the image labels t.
        erased_logits: OC's logits for the erased images.
        remaining: the labels that OC should still see, as `erasing_targets` returns them.
        lambda_: weight of the second term, 0 or more.
    """
    classification = functional.binary_cross_entropy_with_logits(logits, labels)
    erasing = lambda_ * functional.binary_cross_entropy_with_logits(erased_logits, remaining)
    return {"loss": classification + erasing, "classification": classification, "erasing": erasing}


def _require_labels(labels: Float[Tensor, "B C"]) -> None:
    unlabelled = torch.nonzero(labels.sum(dim=1) == 0).flatten().tolist()
    if unlabelled:
        raise ValueError(
            f"expected at least one label for every image of the batch, got none for images "
            f"{unlabelled} of the batch; take images without labels out of the training list"
        )


def _upsampled_activation(
    cams: Float[Tensor, "B C h w"], chosen: Bool[Tensor, "B C"], *, size: Size
) -> Float[Tensor, "M H W"]:
    """Return relu(upsample(f^c)) of the M chosen (image, class) pairs, in the order of the images.

    No other map is enlarged.
    """
    # Positions, not a mask: a mask on the GPU would be counted there, and the CPU would wait.
    pairs = chosen.nonzero(as_tuple=True)
    images, classes = (index.to(cams.device, non_blocking=True) for index in pairs)
    maps = cams[images, classes].unsqueeze(1)
    upsampled = functional.interpolate(maps, size, mode="bilinear", align_corners=False)
    return functional.relu(upsampled).squeeze(1)


def _group_maximum(
    maps: Float[Tensor, "M H W"], groups: Shaped[Tensor, " M"]
) -> Float[Tensor, "M 1 1"]:
    """Return, for each non-negative map, the maximum over all maps of its group.

    This is the only place where the images of a batch influence each other.
    """
    peaks = maps.amax(dim=(1, 2))
    same_group = (groups[:, None] == groups[None, :]).to(maps.device, non_blocking=True)
    # No map is negative, so the 0 that stands for maps of other groups never exceeds a peak.
    return torch.where(same_group, peaks, 0).amax(dim=1).view(-1, 1, 1)
