"""IRN's class boundaries (Ahn et al., CVPR 2019): two pixels are of one class unless a boundary
lies between them.

The network learns its boundaries from the affinities alone, as in jiwoon-ahn/irn: no boundary is
ever labelled. IRN's other branch, the displacement field, tells instances of a class apart; label
maps do not need it, and it is not here."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from occse.networks.backbones import build_backbone
from occse.networks.pairs import pair_offsets, view_at

WIDTH, GROUPS = 32, 4


class BoundaryHead(nn.Module):
    """Every level of a backbone, reduced to 32 channels and enlarged to the size of the first, to
    one score.
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
    """A backbone, kept as it is, and the `BoundaryHead` that learns; "resnet50_s16" has irn's five
    levels and strides.

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
        """Training mode, but for the backbone: its batch norms keep their statistics."""
        super().train(mode)
        self.backbone.eval()
        return self

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B h w"]:
        """Boundary scores of normalized images, before the sigmoid."""
        scores: Tensor = self.head(self.backbone.levels(images))
        rows, columns = (-(-side // self.stride) for side in images.shape[2:])
        return scores[:, :rows, :columns]  # ConvNeXt pads its images

    def affinities(self, scores: Float[Tensor, "B h w"], *, radius: int) -> Float[Tensor, "B P S"]:
        """Affinities of the pairs of pixels of the boundary map that the network gave."""
        return path_affinities(torch.sigmoid(scores), radius=radius)

    def boundaries(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B h w"]:
        """Boundaries in [0, 1], from the mean score of image and mirror image."""
        return torch.sigmoid((self(images) + self(images.flip(-1)).flip(-1)) / 2)


def path(dy: int, dx: int) -> list[tuple[int, int]]:
    """The pixels from (0, 0) to (dy, dx), both included, whose distance to the line between them is
    below 1.
    """
    columns = range(min(0, dx), max(0, dx) + 1)
    return [
        (y, x) for y in range(dy + 1) for x in columns if (dy * x - dx * y) ** 2 < dy**2 + dx**2
    ]


def path_affinities(boundaries: Float[Tensor, "*B h w"], *, radius: int) -> Float[Tensor, "*B P S"]:
    """1 - the highest boundary on the path between the two pixels of a pair, by offset and source."""
    reach = range(1 - radius, radius)
    views = {
        (dy, dx): view_at(boundaries, (dy, dx), radius=radius)
        for dy in range(radius)
        for dx in reach
    }
    # max, not amax: its gradient keeps the places of the maxima instead of every value on every
    # path.
    highest = [
        torch.stack([views[at] for at in path(*offset)]).max(dim=0).values
        for offset in pair_offsets(radius)
    ]
    return 1 - torch.stack(highest, dim=-3).flatten(-2)
