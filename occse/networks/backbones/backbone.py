"""The interface between the method and a feature extractor."""

from torch import Tensor, nn


class Backbone(nn.Module):
    """Maps images to feature maps.

    Attributes:
        channels: channels of the three taps.
        stride: pixels of the image per pixel of the last tap, which has
            ceil(H / stride) x ceil(W / stride) pixels.
    """

    channels: tuple[int, int, int]
    stride: int

    @property
    def low_channels(self) -> int:
        """Channels of the shallow map of `low_and_deep`."""
        return self.channels[0]

    @property
    def level_channels(self) -> tuple[int, ...]:
        """Channels of the maps of `levels`."""
        return self.channels

    @property
    def level_stride(self) -> int:
        """Pixels of the image per pixel of the first map of `levels`."""
        return self.stride

    def taps(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return three feature maps, shallow to deep, for AffinityNet."""
        raise NotImplementedError

    def levels(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return feature maps, shallow to deep, for IRN's boundaries. The first is the largest.

        They are the taps, unless the backbone has shallower maps.
        """
        return self.taps(images)

    def low_and_deep(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return a shallow map, which still has the edges, and the deepest, for DeepLabv3+.

        The shallow map is the first tap, unless the backbone has a map of a smaller stride.
        """
        shallow, _, deep = self.taps(images)
        return shallow, deep

    def forward(self, images: Tensor) -> Tensor:
        """Return the deepest feature map, (B, channels[-1], h, w)."""
        return self.taps(images)[-1]

    def stem_layers(self) -> tuple[nn.Module, ...]:
        """Return the first layers, whose features suit any task; `freeze_stem` freezes them."""
        raise NotImplementedError

    def load_imagenet(self) -> None:
        """Load weights that were trained on ImageNet, from torchvision's cache or its server.

        Raises:
            ValueError: there are none for this backbone, or they are neither in the cache nor
                within reach.
        """
        raise ValueError(
            f"{type(self).__name__} has no ImageNet weights; set init to 'pretrain' or 'random'"
        )
