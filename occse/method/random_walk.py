"""The random walk that spreads CAMs along affinities (Ahn and Kwak, CVPR 2018), and IRN's on class
boundaries.
"""

import warnings

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor
from torch.nn import functional

from occse.networks.affinity import AffinityNet
from occse.networks.boundary import BoundaryNet, path_affinities
from occse.networks.pairs import EPSILON, block_mean, pair_offsets, pair_views


def transition_matrix(
    affinities: Float[Tensor, "*B P S"], *, size: tuple[int, int], radius: int, beta: float
) -> Float[Tensor, "N N"]:
    """T = A^beta (element-wise) with columns that sum to 1; A is symmetric, 1 on the diagonal, 0
    between far pixels.

    Sparse, compressed by columns: some 55 of N numbers in a column are not 0, and `T.t()`, which
    the walk multiplies by, is compressed by rows without any copy. `size` is the (h, w) of the
    features. The pixels of a batch are one graph of N = B * h * w nodes, without an edge from image
    to image."""
    height, width = size
    offsets = pair_offsets(radius)
    middle = len(offsets)
    # One plane per neighbour, first to last in reading order: each pair is seen from its source and
    # from its partner.
    planes = affinities.new_zeros(*affinities.shape[:-2], 2 * middle + 1, height, width)
    planes[..., middle, :, :] = 1
    source, partners = pair_views(planes, radius=radius)
    for p, (partner, pairs) in enumerate(zip(partners, affinities.unbind(-2), strict=True)):
        pairs = pairs.reshape(*pairs.shape[:-1], *source.shape[-2:])
        source[..., middle + 1 + p, :, :] = partner[..., middle - 1 - p, :, :] = pairs
    weights = planes.flatten(-2).movedim(-1, -2).reshape(-1, 2 * middle + 1) ** beta
    kept = weights != 0
    reach = [dy * width + dx for dy, dx in offsets]
    distances = torch.tensor([*(-each for each in reversed(reach)), 0, *reach], device=kept.device)
    columns = torch.arange(len(kept), device=kept.device)[:, None] + distances
    # A is symmetric, so the sums of its columns are those of its rows.
    values = weights / weights.sum(dim=1, keepdim=True)
    return _compressed_rows(kept, columns[kept], values[kept]).t()


def random_walk(
    transition: Float[Tensor, "N N"], scores: Float[Tensor, "*B L h w"], *, steps: int
) -> Float[Tensor, "*B L h w"]:
    """scores * T^steps, one sparse step after another; T^steps itself is dense and is never formed."""
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
    """scores * (1 - boundary) walks on affinities along paths, between all pixels of the map
    (jiwoon-ahn/irn).
    """
    height, width = boundaries.shape[-2:]
    margin = radius - 1
    # Beyond the map all is boundary: every pair of the map has its source, and nothing leaves.
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
) -> Float[Tensor, "B K+1 H W"]:
    """The scores of background and classes after `steps` steps, for normalized images and their
    CAMs in [0, 1].

    With AffinityNet [(1 - max_c A^c)^alpha, A] walks. With IRN's boundaries A walks alone and is
    divided by its maximum in the image, then the background is (1 - max_c A^c)^alpha; irn's
    constant 0.25 wins where alpha 4.82 does. Image and CAMs are padded with zeros (the mean colour,
    no score) to a multiple of the backbone's stride."""
    height, width = images.shape[2:]
    multiple = network.backbone.stride
    padding = (0, -width % multiple, 0, -height % multiple)
    padded, scores = (
        functional.pad(images, padding),
        functional.pad(_with_background(cams, alpha), padding),
    )
    start = block_mean(scores, pool=network.stride)
    if isinstance(network, BoundaryNet):
        start[:, 0] = 0
        walked = boundary_walk(
            network.boundaries(padded), start, radius=radius, beta=beta, steps=steps
        )
    else:
        pairs = network.affinities(network(padded), radius=radius)
        transition = transition_matrix(
            pairs, size=(start.shape[2], start.shape[3]), radius=radius, beta=beta
        )
        walked = random_walk(transition, start, steps=steps)
    full = functional.interpolate(walked, padded.shape[2:], mode="bilinear", align_corners=False)[
        ..., :height, :width
    ]
    if isinstance(network, BoundaryNet):
        full = full / full.amax(dim=(1, 2, 3), keepdim=True).clamp(min=EPSILON)
        return _with_background(full[:, 1:], alpha)
    return full


def _with_background(cams: Float[Tensor, "B K H W"], alpha: float) -> Float[Tensor, "B K+1 H W"]:
    nothing = cams.new_zeros(len(cams), 1, *cams.shape[2:])
    best = torch.cat([nothing, cams], dim=1).amax(dim=1, keepdim=True)
    return torch.cat([(1 - best) ** alpha, cams], dim=1)


def _compressed_rows(
    kept: Bool[Tensor, "N M"], columns: Shaped[Tensor, " E"], values: Float[Tensor, " E"]
) -> Tensor:
    """A sparse N x N matrix with 32-bit indices, which take a walk half the time of 64-bit ones."""
    ends = functional.pad(kept.sum(dim=1).cumsum(0), (1, 0))
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="Sparse CSR tensor support is in beta state", category=UserWarning
        )
        return torch.sparse_csr_tensor(
            ends.int(), columns.int(), values, (len(kept), len(kept)), check_invariants=False
        )
