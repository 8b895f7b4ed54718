"""AffinityNet (Ahn and Kwak, CVPR 2018): whether two nearby pixels belong to the same class.

A pair is a source pixel of the feature map and one of the pixels around it, in the half plane right of or below it. The
sources are the pixels whose whole neighbourhood lies in the map, so a strip of radius - 1 pixels at the left, the right
and the bottom is met only as targets, as in the official code.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Shaped, UInt8
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from occse.backbones import build_backbone
from occse.checkpoint import load_weights, save_weights

EPSILON = 1e-5
VOID = 255
# Of ResNet38's taps with 512, 1024 and 4096 channels.
OFFICIAL_WIDTHS = (64, 128, 256)


class AffinityHead(nn.Module):
    """Three taps of a backbone to the features whose L1 distance is the affinity; all convolutions are 1x1.

    Args:
        channels: of the three taps. No tap is widened: each width is the official one or the tap's own, if smaller.
    """

    def __init__(self, channels: tuple[int, int, int]) -> None:
        super().__init__()
        widths = [min(pair) for pair in zip(OFFICIAL_WIDTHS, channels, strict=True)]
        self.f8_3, self.f8_4, self.f8_5 = (
            nn.Conv2d(tap, width, 1, bias=False) for tap, width in zip(channels, widths, strict=True)
        )
        self.f9 = nn.Conv2d(sum(widths), sum(widths), 1, bias=False)
        for conv in (self.f8_3, self.f8_4, self.f8_5):
            nn.init.kaiming_normal_(conv.weight)
        nn.init.xavier_uniform_(self.f9.weight, gain=4)

    def forward(self, taps: Sequence[Float[Tensor, "B _ _ _"]]) -> Float[Tensor, "B D h w"]:
        """Features at the size of the last tap; taps of another size are interpolated."""
        size = taps[-1].shape[2:]
        reduced = [functional.elu(conv(tap)) for conv, tap in zip((self.f8_3, self.f8_4, self.f8_5), taps, strict=True)]
        same_size = [
            each if each.shape[2:] == size else functional.interpolate(each, size, mode="bilinear", align_corners=False)
            for each in reduced
        ]
        return functional.elu(self.f9(torch.cat(same_size, dim=1)))


class AffinityNet(nn.Module):
    """A backbone and its `AffinityHead`.

    Args:
        backbone: name of the feature extractor.
        radius: of the neighbourhood, in pixels of the feature map; the walk keeps the one of the training.
    """

    def __init__(self, backbone: str, radius: int) -> None:
        super().__init__()
        self.architecture = {"backbone": backbone, "radius": radius}
        self.radius = radius
        self.backbone = build_backbone(backbone)
        self.head = AffinityHead(self.backbone.channels)

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B D h w"]:
        """Features of normalized images, at the backbone's stride."""
        features: Tensor = self.head(self.backbone.taps(images))
        return features


def save_affinity_net(model: AffinityNet, path: Path) -> None:
    """Write weights and architecture into one safetensors file."""
    save_weights(model, path, architecture=model.architecture)


def load_affinity_net(path: Path, *, device: str = "cpu") -> AffinityNet:
    """The network that `save_affinity_net` wrote, in evaluation mode.

    Raises:
        ValueError: the file is no such network.
    """
    return load_weights(path, AffinityNet, device=device)


def pair_offsets(radius: int) -> list[tuple[int, int]]:
    """(dy, dx) from a source to its partners: the half disk of distance < radius, row by row; 34 at radius 5."""
    reach = range(1 - radius, radius)
    below = [(dy, dx) for dy in range(1, radius) for dx in reach if dy**2 + dx**2 < radius**2]
    return [(0, dx) for dx in range(1, radius)] + below


def pair_views(
    maps: Shaped[Tensor, "*C h w"], *, radius: int
) -> tuple[Shaped[Tensor, "*C v u"], list[Shaped[Tensor, "*C v u"]]]:
    """What `maps` has at the sources, and at their partners by offset; views, no copies. Empty in a map too small."""
    margin = radius - 1
    rows = max(maps.shape[-2] - margin, 0)
    columns = max(maps.shape[-1] - 2 * margin, 0)

    def at(dy: int, dx: int) -> Tensor:
        return maps[..., dy : dy + rows, margin + dx : margin + dx + columns]

    return at(0, 0), [at(*offset) for offset in pair_offsets(radius)]


def affinities(features: Float[Tensor, "B D h w"], *, radius: int) -> Float[Tensor, "B P S"]:
    """exp(-mean_channels |f_i - f_j|), in (0, 1], by offset and source."""
    distances: Tensor = _PairDistances.apply(features, radius)
    return torch.exp(-distances)


class _PairDistances(torch.autograd.Function):
    """mean_channels |f_i - f_j|, offset by offset in both directions.

    The differences of all pairs would take gigabytes, at once or kept for the gradient. Computing them twice is also
    faster than what autograd does with the slices.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor, radius: int) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(features)
        ctx.radius = radius
        source, partners = pair_views(features, radius=radius)
        return torch.stack([(partner - source).abs_().mean(dim=1).flatten(1) for partner in partners], dim=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_distances: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401
        (features,) = ctx.saved_tensors
        grad = torch.zeros_like(features)
        source, partners = pair_views(features, radius=ctx.radius)
        grad_source, grad_partners = pair_views(grad, radius=ctx.radius)
        weights = (grad_distances / features.shape[1]).unflatten(2, source.shape[2:])
        for partner, grad_partner, weight in zip(partners, grad_partners, weights.unbind(1), strict=True):
            change = (partner - source).sign_().mul_(weight.unsqueeze(1))
            grad_partner.add_(change)
            grad_source.sub_(change)
        return grad, None


class PairLabels(NamedTuple):
    """Which pairs are both background, both of one foreground class, or of different classes; none if one is void."""

    background: Bool[Tensor, "B P S"]
    foreground: Bool[Tensor, "B P S"]
    negative: Bool[Tensor, "B P S"]


def pair_labels(labels: UInt8[Tensor, "B h w"], *, radius: int) -> PairLabels:
    """Sort the pairs of a label map of the features' size.

    Raises:
        ValueError: the map is so small that it has no pair.
    """
    height, width = labels.shape[1:]
    if height < radius or width < 2 * radius - 1:
        raise ValueError(
            f"a label map of {height} x {width} has no pairs at radius {radius}; "
            f"expected at least {radius} x {2 * radius - 1}: use larger crops or a smaller radius"
        )
    source, partners = pair_views(labels, radius=radius)
    here = source.flatten(1).unsqueeze(1)
    there = torch.stack([partner.flatten(1) for partner in partners], dim=1)
    same, known = here == there, (here != VOID) & (there != VOID)
    return PairLabels(same & (here == 0), same & known & (here != 0), ~same & known)


def affinity_loss(
    affinities: Float[Tensor, "B P S"],
    background: Bool[Tensor, "B P S"],
    foreground: Bool[Tensor, "B P S"],
    negative: Bool[Tensor, "B P S"],
) -> Float[Tensor, ""]:
    """L = L_bg / 4 + L_fg / 4 + L_neg / 2, each a cross entropy averaged over its own pairs in the batch."""
    alike = -torch.log(affinities + EPSILON)
    different = -torch.log(1 + EPSILON - affinities)
    return _mean(alike, background) / 4 + _mean(alike, foreground) / 4 + _mean(different, negative) / 2


def _mean(values: Float[Tensor, "B P S"], chosen: Bool[Tensor, "B P S"]) -> Float[Tensor, ""]:
    return (values * chosen).sum() / (chosen.sum() + EPSILON)


def block_mean(scores: Float[Tensor, "L H W"], *, pool: int) -> Float[Tensor, "L h w"]:
    """Means of pool x pool blocks; a last block that the map does not fill counts zeros in its mean."""
    height, width = scores.shape[1:]
    return functional.avg_pool2d(functional.pad(scores, (0, -width % pool, 0, -height % pool)), pool)


def affinity_label(low: Float[Tensor, "L H W"], high: Float[Tensor, "L H W"], *, pool: int) -> UInt8[Tensor, "h w"]:
    """The label map that AffinityNet trusts: pooled scores (background first), at the size of the features, argmax.

    Foreground is what wins at the low alpha, background what wins at the high alpha, the rest is void (255), as is what
    has no score (< 1e-5 everywhere: outside of the image). Labels are positions in the stack.
    """
    low, high = block_mean(low, pool=pool), block_mean(high, pool=pool)
    label = low.argmax(dim=0)
    label[label == 0] = VOID
    label[high.argmax(dim=0) == 0] = 0
    label[torch.maximum(low, high).amax(dim=0) < EPSILON] = VOID
    return label.to(torch.uint8)
