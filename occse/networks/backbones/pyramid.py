"""What the networks of torchvision share: maps of four strides, dilation instead of the last
strides, weights by name.

Dilation keeps the trained function: with the same weights, a map at stride 8 has, at every fourth
pixel of each side, what the network of stride 32 computes."""

import torch
from torch import Tensor

from occse.networks.backbones.backbone import Backbone


class Pyramid(Backbone):
    """A backbone of four groups of layers; the first has stride 4, the second 8, the others
    `stride` at most.
    """

    def maps(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The outputs of the four groups."""
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
        """The outputs of the last three groups."""
        return self.maps(images)[1:]

    def levels(self, images: Tensor) -> tuple[Tensor, ...]:
        """The outputs of the four groups."""
        return self.maps(images)

    def low_and_deep(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The outputs of the first group, at stride 4, and of the last."""
        maps = self.maps(images)
        return maps[0], maps[-1]


def check_stride(stride: int) -> None:
    """Refuse what no network here can be dilated to.

    Raises:
        ValueError: `stride` is neither 8 nor 16.
    """
    if stride not in (8, 16):
        raise ValueError(f"a stride of {stride} is not allowed; expected 8 or 16")


def torchvision_weights(name: str) -> dict[str, Tensor]:
    """The weights that torchvision calls `name`, such as ResNet50_Weights.IMAGENET1K_V1, from its
    cache or its server.

    Raises:
        ValueError: they are damaged, or neither in the cache nor within reach.
    """
    from torchvision.models import get_weight  # a second that other networks need not wait for

    weights = get_weight(name)
    try:
        # weights_only: torchvision would unpickle whatever lies in the cache
        state: dict[str, Tensor] = weights.get_state_dict(
            progress=False, check_hash=True, weights_only=True
        )
    except Exception as error:
        raise ValueError(
            f"{name} cannot be loaded: {error}; put {weights.url} into {torch.hub.get_dir()}/checkpoints, "
            "or set init to 'pretrain' or 'random'"
        ) from error
    return state
