"""The random walk that spreads CAMs along AffinityNet's affinities (Ahn and Kwak, CVPR 2018)."""

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped, UInt8
from torch import Tensor
from torch.nn import functional

from occse.affinity import AffinityNet, affinities, block_mean, pair_offsets, pair_views


def transition_matrix(
    affinities: Float[Tensor, "P S"], *, size: tuple[int, int], radius: int, beta: float
) -> Float[Tensor, "N N"]:
    """T = A^beta (element-wise) with columns that sum to 1; A is symmetric, 1 on the diagonal, 0 between far pixels.

    Sparse, compressed by columns: some 55 of N = h * w numbers in a column are not 0, and `T.t()`, which the walk
    multiplies by, is compressed by rows without any copy. `size` is the (h, w) of the features.
    """
    height, width = size
    offsets = pair_offsets(radius)
    middle = len(offsets)
    # One plane per neighbour, first to last in reading order: each pair is seen from its source and from its partner.
    planes = affinities.new_zeros(2 * middle + 1, height, width)
    planes[middle] = 1
    source, partners = pair_views(planes, radius=radius)
    for p, (partner, pairs) in enumerate(zip(partners, affinities, strict=True)):
        source[middle + 1 + p] = partner[middle - 1 - p] = pairs.view(source.shape[1:])
    weights = planes.flatten(1).t() ** beta
    kept = weights != 0
    reach = [dy * width + dx for dy, dx in offsets]
    distances = torch.tensor([*(-each for each in reversed(reach)), 0, *reach], device=kept.device)
    columns = torch.arange(height * width, device=kept.device)[:, None] + distances
    # A is symmetric, so the sums of its columns are those of its rows.
    values = weights / weights.sum(dim=1, keepdim=True)
    return _compressed_rows(kept, columns[kept], values[kept]).t()


def random_walk(
    transition: Float[Tensor, "N N"], scores: Float[Tensor, "L h w"], *, steps: int
) -> Float[Tensor, "L h w"]:
    """scores * T^steps, one sparse step after another; T^steps itself is dense and is never formed."""
    step = transition.t()
    nodes = scores.flatten(1).t().contiguous()
    for _ in range(steps):
        nodes = step @ nodes
    return nodes.t().reshape(scores.shape)


@torch.no_grad()
def walk_labels(
    network: AffinityNet,
    image: Float[Tensor, "3 H W"],
    cam: Float[Tensor, "K H W"],
    classes: Sequence[int],
    *,
    alpha: float,
    beta: float,
    steps: int,
) -> UInt8[np.ndarray, "H W"]:
    """The pseudo label of a normalized image: [(1 - max_c A^c)^alpha, A] after `steps` steps, enlarged, argmax.

    Image and scores are padded with zeros (the mean colour, no score) to a multiple of the network's stride.
    """
    height, width = image.shape[1:]
    stride = network.backbone.stride
    padded = functional.pad(image, (0, -width % stride, 0, -height % stride))
    features = network(padded.unsqueeze(0))
    size = features.shape[2], features.shape[3]
    pairs = affinities(features, radius=network.radius)[0]
    transition = transition_matrix(pairs, size=size, radius=network.radius, beta=beta)
    walked = random_walk(transition, block_mean(_with_background(cam, alpha), pool=stride), steps=steps)
    enlarged = functional.interpolate(walked.unsqueeze(0), padded.shape[1:], mode="bilinear", align_corners=False)[0]
    best = enlarged[:, :height, :width].argmax(dim=0).cpu().numpy()
    label: np.ndarray = np.array([0, *(index + 1 for index in classes)], np.uint8)[best]
    return label


def _with_background(cam: Float[Tensor, "K H W"], alpha: float) -> Float[Tensor, "K+1 H W"]:
    nothing = cam.new_zeros(1, *cam.shape[1:])
    best = torch.cat([nothing, cam]).amax(dim=0, keepdim=True)
    return torch.cat([(1 - best) ** alpha, cam])


def _compressed_rows(kept: Bool[Tensor, "N M"], columns: Shaped[Tensor, " E"], values: Float[Tensor, " E"]) -> Tensor:
    """A sparse N x N matrix with 32-bit indices, which take a walk half the time of 64-bit ones."""
    ends = functional.pad(kept.sum(dim=1).cumsum(0), (1, 0))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state", category=UserWarning)
        return torch.sparse_csr_tensor(
            ends.int(), columns.int(), values, (len(kept), len(kept)), check_invariants=False
        )
