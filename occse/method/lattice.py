"""Gaussian filtering of images on a permutohedral lattice (Adams, Baek and Davis, 2010), in torch.

A dense CRF sums over all pairs of pixels, weighted by a Gaussian of the distance of their features.
The lattice makes this sum linear in the number of pixels, in three steps. Splatting spreads the
value of each pixel over the d + 1 corners of the simplex that contains its features. Blurring mixes
neighbouring corners along each of the d + 1 axes. Slicing reads the values back at the pixels.

The lattice here is that of pydensecrf to the last vertex, so the two give the same marginals but
for rounding. Only torch operations are used: it runs on every device of torch, without a compiled
extension.
"""

import math

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from occse.method.sparse import compressed_rows

# Guards the division by the norm of a pixel, as in pydensecrf.
TINY = 1e-20
# pydensecrf builds its lattice for four pixels at once. If their number is not a multiple of four,
# it fills up with pixels whose features are 0, and these add vertices to the lattice.
LANES = 4


class Lattice:
    """A normalized Gaussian filter over the pixels of several images.

    Args:
        features: of each pixel, divided by their standard deviations. Pixels of different images do
            not influence each other.
    """

    def __init__(self, features: Float[Tensor, "B N D"]) -> None:
        num_images, num_pixels, dims = features.shape
        missing = -num_pixels % LANES
        # One pixel of features 0 adds the same vertices as three of them.
        padded = torch.nn.functional.pad(features.float(), (0, 0, 0, min(missing, 1)))
        corners, ranks, weights = _simplices(padded.flatten(0, 1))
        # The image is part of a vertex's key, so pixels of two images never share a vertex.
        images = torch.arange(num_images, device=features.device).repeat_interleave(padded.shape[1])
        keys, steps = _keys(corners, ranks, images, num_images)
        vertices, positions = torch.unique(keys, return_inverse=True)
        self.num_vertices = len(vertices)
        self.axes = [_neighbours(vertices, step) for step in steps]
        real = (torch.arange(padded.shape[1], device=features.device) < num_pixels).repeat(
            num_images
        )
        self.positions = positions[real]
        self.weights = weights[real]
        self.splat = self._splat_matrix()
        # Blurring multiplies the sum of a constant by this factor's inverse (pydensecrf).
        self.gain = 1 / (1 + 2.0**-dims)
        ones = torch.ones(len(self.positions), 1, device=features.device)
        self.norm = 1 / torch.sqrt(self._filter(ones) + TINY)

    def __call__(
        self, values: Float[Tensor, "P C"], *, columns: int | None = None
    ) -> Float[Tensor, "P C"]:
        """Filter each column of `values`, which has the pixels of all images one after another.

        Args:
            values: one row per pixel, one column per label.
            columns: number of columns that are filtered together, which bounds the memory; None:
                all of them. The result does not depend on it.
        """
        if columns is None or columns >= values.shape[1]:
            return self._filter(values * self.norm) * self.norm
        filtered = torch.empty_like(values)
        for first in range(0, values.shape[1], columns):
            part = slice(first, first + columns)
            filtered[:, part] = self._filter(values[:, part] * self.norm) * self.norm
        return filtered

    def _splat_matrix(self) -> Tensor:
        """Return the sparse (vertices + 1) x pixels matrix of the weights; its last row is empty.

        A sparse product adds in a fixed order, so the result does not differ from run to run, as
        additions into a tensor do on a GPU.
        """
        flat = self.positions.flatten()
        order = torch.argsort(flat, stable=True)
        counts = torch.bincount(flat, minlength=self.num_vertices + 1)
        pixels = order // self.positions.shape[1]
        shape = (self.num_vertices + 1, len(self.positions))
        return compressed_rows(counts, pixels, self.weights.flatten()[order], shape=shape)

    def _filter(self, values: Float[Tensor, "P C"]) -> Float[Tensor, "P C"]:
        # Row `num_vertices` stands for all vertices that do not exist. It is 0 and stays 0.
        # Splat, blur along each axis, slice: the three steps of the paper.
        heights = self.splat @ values
        for before, after in self.axes:
            sums = heights[before] + heights[after]
            heights[:-1] += sums.mul_(0.5)
        sliced = torch.zeros_like(values)
        for corner in range(self.positions.shape[1]):
            weight = self.weights[:, corner : corner + 1] * self.gain
            sliced.addcmul_(weight, heights[self.positions[:, corner]])
        return sliced


def _simplices(
    features: Float[Tensor, "P D"],
) -> tuple[Float[Tensor, "P E"], Int[Tensor, "P E"], Float[Tensor, "P E"]]:
    """Return the simplex of each pixel on the plane of d + 1 coordinates whose sum is 0.

    It is given by its corner of remainder 0, by the rank of each coordinate's distance from that
    corner, and by the barycentric weights of the pixel. E = d + 1.
    """
    num_pixels, dims = features.shape
    size = dims + 1
    elevated = _elevate(features)
    # The closest point whose coordinates are multiples of d + 1; halves are rounded to even, as the
    # SSE code of pydensecrf does.
    multiples = torch.round(elevated * _float32(1 / size))
    corner = multiples * size
    distance = elevated - corner
    rank = torch.zeros_like(elevated)
    for first in range(dims):
        for second in range(first + 1, size):
            behind = (distance[:, first] < distance[:, second]).float()
            rank[:, first] += behind
            rank[:, second] += 1 - behind
    # The point may be off the plane. Coordinates whose rank leaves 0 to d move by one multiple.
    rank += multiples.sum(dim=1, keepdim=True)
    wrap = size * ((rank < 0).float() - (rank > dims).float())
    rank, corner = rank + wrap, corner + wrap
    ranks = rank.long()
    share = (elevated - corner) * _float32(1 / size)
    weights = features.new_zeros(num_pixels, size + 1)
    weights.scatter_add_(1, dims - ranks, share)
    weights.scatter_add_(1, size - ranks, -share)
    weights[:, 0] += 1 + weights[:, size]
    return corner, ranks, weights[:, :size]


def _elevate(features: Float[Tensor, "P D"]) -> Float[Tensor, "P E"]:
    """Return the features on the plane, scaled so that one blur has a standard deviation of 1."""
    num_pixels, dims = features.shape
    deviation = _float32(math.sqrt(2 / 3) * (dims + 1))
    elevated = features.new_empty(num_pixels, dims + 1)
    total = features.new_zeros(num_pixels)
    for axis in range(dims, 0, -1):
        scale = _float32(deviation / math.sqrt((axis + 1) * axis))
        scaled = features[:, axis - 1] * scale
        elevated[:, axis] = total - axis * scaled
        total = total + scaled
    elevated[:, 0] = total
    return elevated


def _keys(
    corner: Float[Tensor, "P E"],
    ranks: Int[Tensor, "P E"],
    images: Int[Tensor, " P"],
    num_images: int,
) -> tuple[Int[Tensor, "P E"], Int[Tensor, " E"]]:
    """Return one integer for each corner of each simplex, and the step of each axis.

    The first d coordinates and the number of the image fill the bits of the integer, so vertices
    are sorted and found as integers.

    Raises:
        ValueError: the coordinates of the images do not fit into 63 bits.
    """
    size = corner.shape[1]
    dims = size - 1
    device = corner.device
    base = corner[:, :dims].long()
    lowest = base.min() - 2 * size
    bits = int(base.max() + 3 * size - lowest).bit_length()
    if bits * dims + (num_images - 1).bit_length() > 62:
        raise ValueError(
            f"{num_images} images with {bits}-bit coordinates do not fit one lattice; "
            "expected fewer images or larger standard deviations"
        )
    shifts = torch.tensor([1 << (bits * axis) for axis in range(dims)], device=device)
    order = torch.arange(size, device=device)
    # The offset of the corner of remainder r, for a coordinate of rank k: r, or r - (d + 1).
    fits = order[None, :] <= dims - order[:, None]
    offsets = torch.where(fits, order[:, None], order[:, None] - size)
    coordinates = (base - lowest)[:, None, :] + offsets[:, ranks[:, :dims]].movedim(0, 1)
    keys = (coordinates * shifts).sum(dim=2) + (images << (bits * dims))[:, None]
    # Along axis j all coordinates change by -1, coordinate j by d. The last axis has no coordinate.
    steps = torch.full((size, dims), -1, device=device)
    steps.fill_diagonal_(dims)
    return keys, (steps * shifts).sum(dim=1)


def _neighbours(
    vertices: Int[Tensor, " M"], step: Int[Tensor, ""]
) -> tuple[Int[Tensor, " M"], Int[Tensor, " M"]]:
    """Return the positions of the vertices before and after each vertex along one axis.

    The position M stands for a vertex that does not exist.
    """
    return _find(vertices, vertices + step), _find(vertices, vertices - step)


def _find(vertices: Int[Tensor, " M"], wanted: Int[Tensor, " M"]) -> Int[Tensor, " M"]:
    last = len(vertices) - 1
    positions = torch.searchsorted(vertices, wanted).clamp_(max=last)
    exists: Bool[Tensor, " M"] = vertices[positions] == wanted
    missing: Shaped[Tensor, " M"] = torch.full_like(positions, last + 1)
    return torch.where(exists, positions, missing)


def _float32(value: float) -> float:
    """Round to float32, because pydensecrf stores its factors so."""
    return torch.tensor(value, dtype=torch.float32).item()
