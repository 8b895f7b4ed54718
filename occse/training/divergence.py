"""Signs that a training diverged. Its network must not be published as a success."""

import math

import torch
from torch import Tensor, nn

# A loss that ends this many times above its first value did not just fluctuate.
FAR = 10.0
# A loss below this may rise tenfold without harm: a well started classifier has one near 0.
USUAL_LOSS = 1.0
# Weights of a sound training stay within some ten times the largest first one.
GROWTH = 1000.0
# Outputs that differ by less than this share of their size are rounding, not an answer.
SAME = 1e-6
ADVICE = (
    "try a smaller lr, head_lr or bias_lr, a larger batch_size, or freeze_bn: false "
    "where init is random"
)


class Diverged(FloatingPointError):  # noqa: N818 - the training has a result, a useless one
    """The training ended with a network that is no result."""


def largest_weight(model: nn.Module) -> float:
    """Return the largest absolute value of the parameters that are trained; NaN if one is NaN."""
    norms = [
        torch.linalg.vector_norm(parameter.detach(), math.inf)
        for parameter in model.parameters()
        if parameter.requires_grad and parameter.numel()
    ]
    return torch.stack(norms).max().item() if norms else 0.0


def check_weights(model: nn.Module, *, largest_at_start: float) -> None:
    """Compare the trained weights with those at the start.

    Raises:
        Diverged: a weight is not finite, or far above the largest one at the start.
    """
    largest = largest_weight(model)
    if math.isfinite(largest) and largest <= GROWTH * max(largest_at_start, 1.0):
        return
    name, value = _worst(model)
    raise Diverged(
        f"the training diverged: weights of {name} reach {value:.3g}, "
        f"the largest at the start was {largest_at_start:.3g}; {ADVICE}"
    )


def _worst(model: nn.Module) -> tuple[str, float]:
    """Return name and size of the parameter with the largest weight; NaN comes first."""
    sizes = {
        name: parameter.detach().abs().max().item()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and parameter.numel()
    }
    return max(sizes.items(), key=lambda item: math.inf if math.isnan(item[1]) else item[1])


def check_loss(*, first: float, last: float) -> None:
    """Compare the mean loss of the last epoch with that of the first step.

    Raises:
        Diverged: it is far above.
    """
    if last > FAR * max(first, USUAL_LOSS):
        raise Diverged(
            f"the training diverged: the loss was {first:.3g} in the first step "
            f"and is {last:.3g} in the last epoch; {ADVICE}"
        )


def check_outputs(outputs: Tensor) -> None:
    """Look at the network's answers to the last batch: (B, ...) outputs, channels second.

    Raises:
        Diverged: every image, and every pixel of it, got the same answer.
    """
    # Maps without channels and scores without pixels become (channels, values).
    by_channel = (
        outputs.transpose(0, 1).flatten(1) if outputs.dim() != 3 else outputs.flatten()[None]
    )
    # A single value has nothing that it could differ from.
    if by_channel.shape[1] < 2:
        return
    # Channels may differ by a constant (the biases) and still say the same of every image.
    spread = (by_channel.amax(1) - by_channel.amin(1)).max().item()
    size = by_channel.abs().max().item()
    if spread <= SAME * size:
        raise Diverged(
            "the training diverged: the network gives the same answer "
            f"({by_channel[0, 0].item():.3g}, ...) to every image of the last batch; {ADVICE}"
        )
