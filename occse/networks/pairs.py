"""Pairs of nearby pixels of a feature map, what is known of them, and the loss of whoever predicts
their affinity.

A pair is a source pixel of the feature map and one of the pixels around it, in the half plane right
of or below it. The sources are the pixels whose whole neighbourhood lies in the map, so a strip of
radius - 1 pixels at the left, the right and the bottom is met only as targets, as in the official
code."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Shaped, UInt8
from torch import Tensor
from torch.nn import functional

EPSILON = 1e-5
VOID = 255


def pair_offsets(radius: int) -> list[tuple[int, int]]:
    """(dy, dx) from a source to its partners: the half disk of distance < radius, row by row; 34 at
    radius 5.
    """
    reach = range(1 - radius, radius)
    below = [(dy, dx) for dy in range(1, radius) for dx in reach if dy**2 + dx**2 < radius**2]
    return [(0, dx) for dx in range(1, radius)] + below


def view_at(
    maps: Shaped[Tensor, "*C h w"], offset: tuple[int, int], *, radius: int
) -> Shaped[Tensor, "*C v u"]:
    """What `maps` has at the pixels that lie (dy, dx) from the sources; a view. Empty in a map too
    small for a pair.
    """
    (dy, dx), margin = offset, radius - 1
    rows = max(maps.shape[-2] - margin, 0)
    columns = max(maps.shape[-1] - 2 * margin, 0)
    return maps[..., dy : dy + rows, margin + dx : margin + dx + columns]


def pair_views(
    maps: Shaped[Tensor, "*C h w"], *, radius: int
) -> tuple[Shaped[Tensor, "*C v u"], list[Shaped[Tensor, "*C v u"]]]:
    """What `maps` has at the sources, and at their partners by offset; views, no copies."""
    partners = [view_at(maps, offset, radius=radius) for offset in pair_offsets(radius)]
    return view_at(maps, (0, 0), radius=radius), partners


class PairLabels(NamedTuple):
    """Which pairs are both background, both of one foreground class, or of different classes; none
    if one is void.
    """

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
    """L = L_bg / 4 + L_fg / 4 + L_neg / 2, each a cross entropy averaged over its own pairs in the
    batch.
    """
    alike = -torch.log(affinities + EPSILON)
    different = -torch.log(1 + EPSILON - affinities)
    return (
        _mean(alike, background) / 4 + _mean(alike, foreground) / 4 + _mean(different, negative) / 2
    )


def _mean(values: Float[Tensor, "B P S"], chosen: Bool[Tensor, "B P S"]) -> Float[Tensor, ""]:
    return (values * chosen).sum() / (chosen.sum() + EPSILON)


def block_mean(scores: Float[Tensor, "*B L H W"], *, pool: int) -> Float[Tensor, "*B L h w"]:
    """Means of pool x pool blocks; a last block that the map does not fill counts zeros in its
    mean.
    """
    height, width = scores.shape[-2:]
    return functional.avg_pool2d(
        functional.pad(scores, (0, -width % pool, 0, -height % pool)), pool
    )


def affinity_label(
    low: Float[Tensor, "L H W"], high: Float[Tensor, "L H W"], *, pool: int
) -> UInt8[Tensor, "h w"]:
    """The label map that AffinityNet trusts: pooled scores (background first), at the size of the
    features, argmax.

    Foreground is what wins at the low alpha, background what wins at the high alpha, the rest is
    void (255), as is what has no score (< 1e-5 everywhere: outside of the image). Labels are
    positions in the stack."""
    low, high = block_mean(low, pool=pool), block_mean(high, pool=pool)
    label = low.argmax(dim=0)
    label[label == 0] = VOID
    label[high.argmax(dim=0) == 0] = 0
    label[torch.maximum(low, high).amax(dim=0) < EPSILON] = VOID
    return label.to(torch.uint8)
