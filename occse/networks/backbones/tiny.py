"""A residual network of about 0.1 M parameters and stride 4, for the embedded data set."""

from torch import Tensor, nn
from torch.nn import functional

from occse.networks.backbones.backbone import Backbone


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut."""

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, dilation, dilation, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, dilation, dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, inputs, h, w) to (B, outputs, h / stride, w / stride)."""
        residual = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(features)))))
        return functional.relu(residual + self.shortcut(features))


class Tiny(Backbone):
    """A strided stem and three residual blocks, of which the last one is dilated."""

    channels = (24, 32, 64)
    stride = 4

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()
        )
        self.layer1 = ResidualBlock(16, 24, stride=2)
        self.layer2 = ResidualBlock(24, 32)
        self.layer3 = ResidualBlock(32, 64, dilation=2)

    def taps(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the outputs of the three blocks, all at stride 4."""
        first = self.layer1(self.stem(images))
        second = self.layer2(first)
        return first, second, self.layer3(second)

    def stem_layers(self) -> tuple[nn.Module, ...]:
        """Return the strided convolution with its batch norm."""
        return (self.stem,)
