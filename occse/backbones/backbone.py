"""What the method asks of a feature extractor."""

from torch import Tensor, nn


class Backbone(nn.Module):
    """Images to feature maps.

    Attributes:
        channels: channels of the three taps.
        stride: pixels of the image per pixel of the last tap.
    """

    channels: tuple[int, int, int]
    stride: int

    def taps(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Three feature maps, shallow to deep; AffinityNet reads them all."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Tensor:
        """The deepest feature map, (B, channels[-1], h, w)."""
        return self.taps(images)[-1]

    def stem_layers(self) -> tuple[nn.Module, ...]:
        """The first layers, whose features suit any task: what `freeze_stem` keeps as they are."""
        raise NotImplementedError

    def load_imagenet(self) -> None:
        """Load weights trained on ImageNet; torchvision downloads them when the machine may."""
        raise ValueError(f"{type(self).__name__} has no ImageNet weights; set init to 'pretrain' or 'random'")
