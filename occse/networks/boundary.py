"""IRN's class boundaries (Ahn et al., CVPR 2019): a boundary separates pixels of two classes.

The network learns boundaries from affinity labels alone, as in jiwoon-ahn/irn; nobody labels a
boundary. IRN's other branch, the displacement field, separates instances of one class. Label maps
do not need it, so it is not implemented here.
"""

from collections.abc import Sequence
from itertools import product

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from occse.networks.backbones import build_backbone
from occse.networks.pairs import pair_offsets, view_at

# irn reduces every level to 32 channels and normalizes them in 4 groups.
WIDTH = 32
GROUPS = 4


class BoundaryHead(nn.Module):
    """Maps the levels of a backbone to one boundary score per pixel of the first level.

    Every level is reduced to 32 channels and enlarged to the size of the first one.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            nn.Sequential(nn.Conv2d(level, WIDTH, 1, bias=False), nn.GroupNorm(GROUPS, WIDTH))
            for level in channels
        )
        self.score = nn.Conv2d(WIDTH * len(channels), 1, 1)

    def forward(self, levels: Sequence[Float[Tensor, "B _ _ _"]]) -> Float[Tensor, "B h w"]:
        """Scores before the sigmoid."""
        size = levels[0].shape[2:]
        enlarged = [
            functional.interpolate(reduce(level), size, mode="bilinear", align_corners=False)
            for reduce, level in zip(self.levels, levels, strict=True)
        ]
        scores: Tensor = self.score(functional.relu(torch.cat(enlarged, dim=1)))
        return scores.squeeze(1)


class BoundaryNet(nn.Module):
    """A frozen backbone and a `BoundaryHead` that is trained.

    Args:
        backbone: name of the feature extractor.
    """

    def __init__(self, backbone: str) -> None:
        super().__init__()
        self.architecture = {"network": "irn", "backbone": backbone}
        self.backbone = build_backbone(backbone).requires_grad_(False)
        self.head = BoundaryHead(self.backbone.level_channels)

    @property
    def stride(self) -> int:
        """Pixels of the image per pixel of the boundary map."""
        return self.backbone.level_stride

    def train(self, mode: bool = True) -> "BoundaryNet":
        """Set the training mode of the head. The backbone's batch norms keep their statistics."""
        super().train(mode)
        self.backbone.eval()
        return self

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B h w"]:
        """Boundary scores of normalized images, before the sigmoid."""
        scores: Tensor = self.head(self.backbone.levels(images))
        rows, columns = (-(-side // self.stride) for side in images.shape[2:])
        # ConvNeXt pads its images, so its maps may have rows and columns beyond the image.
        return scores[:, :rows, :columns]

    def affinities(self, scores: Float[Tensor, "B h w"], *, radius: int) -> Float[Tensor, "B P S"]:
        """Return the affinities of the pairs of pixels, from this network's scores."""
        return path_affinities(torch.sigmoid(scores), radius=radius)

    def boundaries(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B h w"]:
        """Return boundaries in [0, 1], from the mean score of image and mirror image (irn)."""
        return torch.sigmoid((self(images) + self(images.flip(-1)).flip(-1)) / 2)


def path(dy: int, dx: int) -> list[tuple[int, int]]:
    """Return the pixels between (0, 0) and (dy, dx), both included, that lie near their line.

    A pixel lies near the line if its distance to it is below 1. `dy` is not negative.
    """
    rows, columns = range(dy + 1), range(min(0, dx), max(0, dx) + 1)
    box = product(rows, columns)
    # The distance to the line is |dy x - dx y| / sqrt(dy^2 + dx^2); squared, it stays in integers.
    return [(y, x) for y, x in box if (dy * x - dx * y) ** 2 < dy**2 + dx**2]


def path_affinities(boundaries: Float[Tensor, "*B h w"], *, radius: int) -> Float[Tensor, "*B P S"]:
    """Return 1 - the highest boundary on the path between the pixels of a pair (irn).

    The result is indexed by offset and source.
    """
    views = {
        offset: view_at(boundaries, offset, radius=radius)
        for offset in product(range(radius), range(1 - radius, radius))
    }
    # max, not amax: its gradient keeps the positions of the maxima, that of amax keeps every value
    # on every path.
    highest = [
        torch.stack([views[at] for at in path(*offset)]).max(dim=0).values
        for offset in pair_offsets(radius)
    ]
    return 1 - torch.stack(highest, dim=-3).flatten(-2)
