"""Pairs of nearby pixels of a feature map, their labels, and the loss of predicted affinities.

A pair is a source pixel and a partner: one of the pixels around it, in the half plane to the right
of it or below it. Sources are the pixels whose whole neighbourhood lies in the map. So pixels in a
strip of radius - 1 at the left, the right and the bottom are partners only, as in jiwoon-ahn/psa.
"""

from itertools import product
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Shaped, UInt8
from torch import Tensor
from torch.nn import functional

# Added to counts, logarithms and maxima, as in psa.
EPSILON = 1e-5
# The label of cells without a trusted class, as in masks.
VOID = 255


def pair_offsets(radius: int) -> list[tuple[int, int]]:
    """Return (dy, dx) from a source to each of its partners, row by row.

    They are the half disk of a distance below `radius`: 34 offsets at radius 5.
    """
    below = product(range(1, radius), range(1 - radius, radius))
    in_disk = [(dy, dx) for dy, dx in below if dy**2 + dx**2 < radius**2]
    return [(0, dx) for dx in range(1, radius)] + in_disk


def view_at(
    maps: Shaped[Tensor, "*C h w"], offset: tuple[int, int], *, radius: int
) -> Shaped[Tensor, "*C v u"]:
    """Return the values at the pixels that lie `offset` (dy, dx) from the sources, as a view.

    The view is empty if the map is too small for a pair.
    """
    dy, dx = offset
    margin = radius - 1
    rows = max(maps.shape[-2] - margin, 0)
    columns = max(maps.shape[-1] - 2 * margin, 0)
    return maps[..., dy : dy + rows, margin + dx : margin + dx + columns]


def pair_views(
    maps: Shaped[Tensor, "*C h w"], *, radius: int
) -> tuple[Shaped[Tensor, "*C v u"], list[Shaped[Tensor, "*C v u"]]]:
    """Return the values at the sources, and those at their partners by offset; all are views."""
    partners = [view_at(maps, offset, radius=radius) for offset in pair_offsets(radius)]
    return view_at(maps, (0, 0), radius=radius), partners


class PairLabels(NamedTuple):
    """Masks of three kinds of pairs; a pair with a void pixel is of none of them.

    Attributes:
        background: both pixels are background.
        foreground: both pixels are of the same foreground class.
        negative: the pixels are of different classes.
    """

    background: Bool[Tensor, "B P S"]
    foreground: Bool[Tensor, "B P S"]
    negative: Bool[Tensor, "B P S"]


def pair_labels(labels: UInt8[Tensor, "B h w"], *, radius: int) -> PairLabels:
    """Return the kinds of the pairs of a label map, which has the size of the features.

    Raises:
        ValueError: the map is too small for a pair.
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
    same = here == there
    known = (here != VOID) & (there != VOID)
    return PairLabels(
        background=same & (here == 0),
        foreground=same & known & (here != 0),
        negative=~same & known,
    )


def affinity_loss(
    affinities: Float[Tensor, "B P S"],
    background: Bool[Tensor, "B P S"],
    foreground: Bool[Tensor, "B P S"],
    negative: Bool[Tensor, "B P S"],
) -> Float[Tensor, ""]:
    """Return L = L_bg / 4 + L_fg / 4 + L_neg / 2 (psa).

    Each term is a cross entropy, averaged over its own pairs in the batch.
    """
    alike = -torch.log(affinities + EPSILON)
    different = -torch.log(1 + EPSILON - affinities)
    return (
        _mean(alike, background) / 4 + _mean(alike, foreground) / 4 + _mean(different, negative) / 2
    )


def _mean(values: Float[Tensor, "B P S"], chosen: Bool[Tensor, "B P S"]) -> Float[Tensor, ""]:
    return (values * chosen).sum() / (chosen.sum() + EPSILON)


def block_mean(scores: Float[Tensor, "*B L H W"], *, pool: int) -> Float[Tensor, "*B L h w"]:
    """Return the means of pool x pool blocks.

    The last block of a row or column may reach beyond the map; zeros count there.
    """
    height, width = scores.shape[-2:]
    # `pad` takes the last dimension first: left, right, top, bottom.
    padded = functional.pad(scores, (0, -width % pool, 0, -height % pool))
    return functional.avg_pool2d(padded, pool)


def affinity_label(
    low: Float[Tensor, "L H W"], high: Float[Tensor, "L H W"], *, pool: int
) -> UInt8[Tensor, "h w"]:
    """Return the label map that supervises AffinityNet, at the size of the features (psa).

    Scores are averaged over pool x pool blocks. A cell is foreground if a class wins at the low
    alpha, and background if background wins at the high alpha. Other cells are void (255), and so
    are cells outside of the image, where every score is below 1e-5.

    Args:
        low: scores of the CRF at the low alpha, background first.
        high: those at the high alpha.
        pool: side of the blocks. Labels are positions in the stack of scores.
    """
    low, high = block_mean(low, pool=pool), block_mean(high, pool=pool)
    label = low.argmax(dim=0)
    # In this order: the high alpha decides on background, and cells without scores are void.
    label[label == 0] = VOID
    label[high.argmax(dim=0) == 0] = 0
    label[torch.maximum(low, high).amax(dim=0) < EPSILON] = VOID
    return label.to(torch.uint8)
