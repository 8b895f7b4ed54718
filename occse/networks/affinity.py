"""AffinityNet (Ahn and Kwak, CVPR 2018): nearby pixels of one class get similar features.

IRN's class boundaries (`occse.networks.boundary`) are the alternative. A checkpoint names the
network that it belongs to, so `load_affinity_net` reads both.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from occse.networks.backbones import build_backbone
from occse.networks.boundary import BoundaryNet
from occse.networks.checkpoint import load_weights, save_weights
from occse.networks.pairs import pair_views

# psa reduces ResNet38's taps, of 512, 1024 and 4096 channels, to these.
OFFICIAL_WIDTHS = (64, 128, 256)


class AffinityHead(nn.Module):
    """Maps three taps of a backbone to features whose L1 distance gives the affinity.

    All convolutions are 1x1 and have no bias.

    Args:
        channels: of the three taps. Each tap is reduced to the official width, or keeps its own
            number of channels if that is smaller.
    """

    def __init__(self, channels: tuple[int, int, int]) -> None:
        super().__init__()
        widths = [min(pair) for pair in zip(OFFICIAL_WIDTHS, channels, strict=True)]
        self.f8_3, self.f8_4, self.f8_5 = (
            nn.Conv2d(tap, width, 1, bias=False)
            for tap, width in zip(channels, widths, strict=True)
        )
        self.f9 = nn.Conv2d(sum(widths), sum(widths), 1, bias=False)
        # First weights as in psa.
        for conv in (self.f8_3, self.f8_4, self.f8_5):
            nn.init.kaiming_normal_(conv.weight)
        nn.init.xavier_uniform_(self.f9.weight, gain=4)

    def forward(self, taps: Sequence[Float[Tensor, "B _ _ _"]]) -> Float[Tensor, "B D h w"]:
        """Features at the size of the last tap; taps of another size are interpolated."""
        size = taps[-1].shape[2:]
        reduced = [
            functional.elu(conv(tap))
            for conv, tap in zip((self.f8_3, self.f8_4, self.f8_5), taps, strict=True)
        ]
        same_size = [
            tap
            if tap.shape[2:] == size
            else functional.interpolate(tap, size, mode="bilinear", align_corners=False)
            for tap in reduced
        ]
        return functional.elu(self.f9(torch.cat(same_size, dim=1)))


class AffinityNet(nn.Module):
    """A backbone and its `AffinityHead`.

    Args:
        backbone: name of the feature extractor.
    """

    def __init__(self, backbone: str) -> None:
        super().__init__()
        self.architecture = {"network": "psa", "backbone": backbone}
        self.backbone = build_backbone(backbone)
        self.head = AffinityHead(self.backbone.channels)

    @property
    def stride(self) -> int:
        """Pixels of the image per pixel of the features."""
        return self.backbone.stride

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B D h w"]:
        """Features of normalized images, at the backbone's stride."""
        features: Tensor = self.head(self.backbone.taps(images))
        return features

    def affinities(
        self, features: Float[Tensor, "B D h w"], *, radius: int
    ) -> Float[Tensor, "B P S"]:
        """Return the affinities of the pairs of pixels, from this network's features."""
        return affinities(features, radius=radius)


def affinities(features: Float[Tensor, "B D h w"], *, radius: int) -> Float[Tensor, "B P S"]:
    """Return exp(-mean_channels |f_i - f_j|), in (0, 1], by offset and source (psa)."""
    distances: Tensor = _PairDistances.apply(features, radius)
    return torch.exp(-distances)


class _PairDistances(torch.autograd.Function):
    """Computes mean_channels |f_i - f_j|, one offset at a time, forward and backward.

    The differences of all pairs together would take gigabytes, so the backward pass computes them
    a second time. That is also faster than autograd through the slices.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor, radius: int) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(features)
        ctx.radius = radius
        source, partners = pair_views(features, radius=radius)
        return torch.stack(
            [(partner - source).abs_().mean(dim=1).flatten(1) for partner in partners], dim=1
        )

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_distances: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401
        (features,) = ctx.saved_tensors
        grad = torch.zeros_like(features)
        source, partners = pair_views(features, radius=ctx.radius)
        # Views of one tensor: a pixel of many pairs gathers the gradients of all of them.
        grad_source, grad_partners = pair_views(grad, radius=ctx.radius)
        weights = (grad_distances / features.shape[1]).unflatten(2, source.shape[2:])
        for partner, grad_partner, weight in zip(
            partners, grad_partners, weights.unbind(1), strict=True
        ):
            # The derivative of an absolute difference; 0 where the features are equal.
            change = (partner - source).sign_().mul_(weight.unsqueeze(1))
            grad_partner.add_(change)
            grad_source.sub_(change)
        return grad, None


NETWORKS: Mapping[str, Callable[[str], AffinityNet | BoundaryNet]] = MappingProxyType(
    {"psa": AffinityNet, "irn": BoundaryNet}
)


def build_affinity_net(network: str, backbone: str) -> AffinityNet | BoundaryNet:
    """Return an untrained network: "psa" (AffinityNet) or "irn" (class boundaries)."""
    return NETWORKS[network](backbone)


def save_affinity_net(model: AffinityNet | BoundaryNet, path: Path) -> None:
    """Write weights and architecture into one safetensors file."""
    save_weights(model, path, architecture=model.architecture)


def load_affinity_net(path: Path, *, device: str = "cpu") -> AffinityNet | BoundaryNet:
    """Read the network that `save_affinity_net` wrote, in evaluation mode.

    Raises:
        ValueError: the file does not hold such a network.
    """
    return load_weights(path, build_affinity_net, device=device)
