"""The random walk that spreads CAMs along affinities (Ahn and Kwak, CVPR 2018).

AffinityNet says how alike two nearby pixels are. Walking along these affinities moves scores from
the discriminative parts of an object to the rest of it. IRN's boundaries (Ahn et al., CVPR 2019)
give affinities of another kind; the walk on them is `boundary_walk`.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from occse.method.sparse import compressed_rows
from occse.networks.affinity import AffinityNet
from occse.networks.boundary import BoundaryNet, path_affinities
from occse.networks.pairs import EPSILON, block_mean, pair_offsets, pair_views


def transition_matrix(
    affinities: Float[Tensor, "*B P S"], *, size: tuple[int, int], radius: int, beta: float
) -> Float[Tensor, "N N"]:
    """Return T = A^beta (element-wise), with columns that sum to 1.

    A is symmetric, 1 on the diagonal and 0 between pixels that are no pair. Some 55 of the N
    numbers in a column are not 0, so T is sparse. It is compressed by columns, because the walk
    multiplies by `T.t()`, which is then compressed by rows without a copy.

    Args:
        affinities: in [0, 1], by offset and source, as `AffinityNet.affinities` returns them.
        size: (h, w) of the features. The pixels of a batch are one graph of N = B * h * w nodes,
            without an edge from one image to another.
        radius: of the pairs, in pixels of the features.
        beta: exponent; a high one keeps only pairs that are clearly alike.
    """
    height, width = size
    offsets = pair_offsets(radius)
    middle = len(offsets)
    # One plane per neighbour, first to last in reading order, with the pixel itself in the middle.
    # Each pair is written twice: at its source and at its partner.
    planes = affinities.new_zeros(*affinities.shape[:-2], 2 * middle + 1, height, width)
    planes[..., middle, :, :] = 1
    source, partners = pair_views(planes, radius=radius)
    for p, (partner, pairs) in enumerate(zip(partners, affinities.unbind(-2), strict=True)):
        grid = pairs.reshape(*pairs.shape[:-1], *source.shape[-2:])
        source[..., middle + 1 + p, :, :] = grid
        partner[..., middle - 1 - p, :, :] = grid
    # One row per pixel, its neighbours in the order of their node numbers, as CSR wants them.
    weights = planes.flatten(-2).movedim(-1, -2).reshape(-1, 2 * middle + 1) ** beta
    # Neighbours beyond the image's edge have weight 0; their node numbers would be those of pixels
    # at the other edge, or of another image.
    kept = weights != 0
    reach = [dy * width + dx for dy, dx in offsets]
    backward = [-distance for distance in reversed(reach)]
    distances = torch.tensor([*backward, 0, *reach], device=kept.device)
    columns = torch.arange(len(kept), device=kept.device)[:, None] + distances
    # A is symmetric, so the sums of its columns are those of its rows.
    values = weights / weights.sum(dim=1, keepdim=True)
    nodes = len(kept)
    rows = compressed_rows(kept.sum(dim=1), columns[kept], values[kept], shape=(nodes, nodes))
    return rows.t()


def random_walk(
    transition: Float[Tensor, "N N"], scores: Float[Tensor, "*B L h w"], *, steps: int
) -> Float[Tensor, "*B L h w"]:
    """Return scores * T^steps, computed by `steps` sparse products.

    T^steps itself is dense and is never formed: at 375x500 pixels 256 sparse steps take a fortieth
    of the time of the official code's eight dense squarings, with the same labels.
    """
    step = transition.t()
    pixels = scores.movedim(-3, -1)
    nodes = pixels.flatten(0, -2)
    for _ in range(steps):
        nodes = step @ nodes
    return nodes.view(pixels.shape).movedim(-1, -3)


def boundary_walk(
    boundaries: Float[Tensor, "*B h w"],
    scores: Float[Tensor, "*B L h w"],
    *,
    radius: int,
    beta: float,
    steps: int,
) -> Float[Tensor, "*B L h w"]:
    """Let scores * (1 - boundary) walk on the affinities along paths between pixels.

    Every pixel of the map is a source, also those near its edge. Source: `propagate_to_edge` of
    jiwoon-ahn/irn.
    """
    height, width = boundaries.shape[-2:]
    margin = radius - 1
    # Beyond the map everything is boundary: every pair of the map gets its source, and no score
    # leaves the map.
    padding = (margin, margin, 0, margin)
    walls = functional.pad(boundaries, padding, value=1.0)
    pairs = path_affinities(walls, radius=radius)
    size = walls.shape[-2], walls.shape[-1]
    transition = transition_matrix(pairs, size=size, radius=radius, beta=beta)
    start = functional.pad(scores * (1 - boundaries).unsqueeze(-3), padding)
    return random_walk(transition, start, steps=steps)[..., :height, margin : margin + width]


@torch.no_grad()
def walk_scores(
    network: AffinityNet | BoundaryNet,
    images: Float[Tensor, "B 3 H W"],
    cams: Float[Tensor, "B K H W"],
    *,
    alpha: float,
    radius: int,
    beta: float,
    steps: int,
    pad_to: int = 0,
) -> Float[Tensor, "B K+1 H W"]:
    """Return the scores of background and classes after `steps` steps of the walk.

    With AffinityNet, [(1 - max_c A^c)^alpha, A] walks. With IRN's boundaries, A walks alone and is
    divided by its maximum in the image, then the background is (1 - max_c A^c)^alpha. (irn has a
    constant background of 0.25 instead, which is the threshold that alpha 4.82 implies.)

    Images and CAMs are padded with zeros (the mean colour, no score) to a multiple of the
    backbone's stride.

    Args:
        network: in evaluation mode, on the device of `images`.
        images: normalized.
        cams: of the K classes, in [0, 1].
        alpha: exponent of the background.
        radius: of the pairs, in pixels of the features.
        beta: exponent of the affinities.
        steps: number of steps.
        pad_to: IRN's boundaries are computed on images that are padded to at least this side. Its
            group norms average over the padding too; irn pads to 512.
    """
    height, width = images.shape[2:]
    multiple = network.backbone.stride
    padding = (0, -width % multiple, 0, -height % multiple)
    padded = functional.pad(images, padding)
    scores = functional.pad(with_background(cams, alpha), padding)
    start = block_mean(scores, pool=network.stride)
    if isinstance(network, BoundaryNet):
        # In irn the classes walk alone; the background is made from them after the walk.
        start[:, 0] = 0
        more = (0, max(pad_to - padded.shape[3], 0), 0, max(pad_to - padded.shape[2], 0))
        boundaries = network.boundaries(functional.pad(padded, more))
        # Of the map with the further padding only the part with the image walks.
        boundaries = boundaries[:, : start.shape[2], : start.shape[3]]
        walked = boundary_walk(boundaries, start, radius=radius, beta=beta, steps=steps)
    else:
        pairs = network.affinities(network(padded), radius=radius)
        size = (start.shape[2], start.shape[3])
        transition = transition_matrix(pairs, size=size, radius=radius, beta=beta)
        walked = random_walk(transition, start, steps=steps)
    enlarged = functional.interpolate(
        walked, padded.shape[2:], mode="bilinear", align_corners=False
    )
    full = enlarged[..., :height, :width]
    if isinstance(network, BoundaryNet):
        full = full / full.amax(dim=(1, 2, 3), keepdim=True).clamp(min=EPSILON)
        return with_background(full[:, 1:], alpha)
    return full


def with_background(cams: Float[Tensor, "B K H W"], alpha: float) -> Float[Tensor, "B K+1 H W"]:
    """Return [(1 - max_c A^c)^alpha, A], as `occse.method.crf.with_background` does in numpy."""
    # Without a class the maximum would be over nothing; a zero map makes all of it background.
    nothing = cams.new_zeros(len(cams), 1, *cams.shape[2:])
    best = torch.cat([nothing, cams], dim=1).amax(dim=1, keepdim=True)
    return torch.cat([(1 - best) ** alpha, cams], dim=1)
