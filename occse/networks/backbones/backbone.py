"""What the method asks of a feature extractor."""

from torch import Tensor, nn


class Backbone(nn.Module):
    """Images to feature maps.

    Attributes:
        channels: channels of the three taps. stride: pixels of the image per pixel of the last tap,
        which has ceil(H / stride) x ceil(W / stride) pixels.
    """

    channels: tuple[int, int, int]
    stride: int

    @property
    def low_channels(self) -> int:
        """Channels of the shallow map that `low_and_deep` gives."""
        return self.channels[0]

    @property
    def level_channels(self) -> tuple[int, ...]:
        """Channels of the maps that `levels` gives."""
        return self.channels

    @property
    def level_stride(self) -> int:
        """Pixels of the image per pixel of the first map that `levels` gives."""
        return self.stride

    def taps(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Three feature maps, shallow to deep; AffinityNet reads them all."""
        raise NotImplementedError

    def levels(self, images: Tensor) -> tuple[Tensor, ...]:
        """Feature maps of every level, shallow to deep, the first one the largest; IRN's boundaries
        need them all.

        The taps, unless the backbone has shallower maps.
        """
        return self.taps(images)

    def low_and_deep(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """A shallow map that still has the edges, and the deepest; the decoder of DeepLabv3+ reads
        both.

        The first tap, unless the backbone has a map of a smaller stride.
        """
        shallow, _, deep = self.taps(images)
        return shallow, deep

    def forward(self, images: Tensor) -> Tensor:
        """The deepest feature map, (B, channels[-1], h, w)."""
        return self.taps(images)[-1]

    def stem_layers(self) -> tuple[nn.Module, ...]:
        """The first layers, whose features suit any task: what `freeze_stem` keeps as they are."""
        raise NotImplementedError

    def load_imagenet(self) -> None:
        """Load weights trained on ImageNet; torchvision downloads them when the machine may.

        Raises:
            ValueError: there are none for this backbone, or they are neither on this machine nor
            within its reach.
        """
        raise ValueError(
            f"{type(self).__name__} has no ImageNet weights; set init to 'pretrain' or 'random'"
        )
