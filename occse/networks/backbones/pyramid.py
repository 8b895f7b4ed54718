"""Common parts of the backbones from torchvision.

They have maps of four strides, and dilation instead of their last strides. Dilation keeps the
trained function: with the same weights, every fourth pixel (in both directions) of a map at stride
8 has the value that the network of stride 32 computes.
"""

import torch
from torch import Tensor

from occse.networks.backbones.backbone import Backbone


class Pyramid(Backbone):
    """A backbone of four groups of layers: strides 4 and 8, then at most `stride` twice."""

    def maps(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the outputs of the four groups."""
        raise NotImplementedError

    @property
    def level_channels(self) -> tuple[int, ...]:
        """Channels of the outputs of the four groups."""
        return (self.low_channels, *self.channels)

    @property
    def level_stride(self) -> int:
        """The stride of the first group."""
        return 4

    def taps(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the outputs of the last three groups."""
        return self.maps(images)[1:]

    def levels(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs of the four groups."""
        return self.maps(images)

    def low_and_deep(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the outputs of the first group, at stride 4, and of the last."""
        maps = self.maps(images)
        return maps[0], maps[-1]


def check_stride(stride: int) -> None:
    """Raise ValueError unless the stride is 8 or 16, those that dilation can reach here."""
    if stride not in (8, 16):
        raise ValueError(f"a stride of {stride} is not allowed; expected 8 or 16")


def torchvision_weights(name: str) -> dict[str, Tensor]:
    """Return weights by torchvision's name for them, from its cache or its server.

    Args:
        name: such as ResNet50_Weights.IMAGENET1K_V1.

    Raises:
        ValueError: they are damaged, or neither in the cache nor within reach.
    """
    # imported here: it takes a second, which the other networks do not need
    from torchvision.models import get_weight

    weights = get_weight(name)
    try:
        # weights_only: without it torchvision would unpickle any file in its cache.
        state: dict[str, Tensor] = weights.get_state_dict(
            progress=False, check_hash=True, weights_only=True
        )
    except Exception as error:
        raise ValueError(
            f"{name} cannot be loaded: {error}; put {weights.url} "
            f"into {torch.hub.get_dir()}/checkpoints, or set init to 'pretrain' or 'random'"
        ) from error
    return state
