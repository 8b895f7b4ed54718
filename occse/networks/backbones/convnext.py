"""Torchvision's ConvNeXt-T (Liu et al., CVPR 2022) with dilation instead of its last strides."""

from torch import Tensor, nn
from torch.nn import functional

from occse.networks.backbones.pyramid import Pyramid, check_stride, torchvision_weights


class DilatedConvNeXt(Pyramid):
    """ConvNeXt-T at stride 16 (fourth stage dilated by 2) or 8 (third by 2, fourth by 4).

    The classifier of ConvNeXt applies the last layer norm to the spatial mean; here it is applied
    to every pixel. Images are padded with zeros (the mean colour) to a multiple of the stride.
    There is no batch norm. The blocks keep the stochastic depth of 0.1 that they were trained with
    on ImageNet.

    Raises:
        ValueError: the stride is neither 8 nor 16.
    """

    channels = (192, 384, 768)
    low_channels = 96

    def __init__(self, *, stride: int) -> None:
        # imported here: it takes a second, which the other networks do not need
        from torchvision.models import convnext_tiny

        super().__init__()
        check_stride(stride)
        self.stride = stride
        self.convnext = convnext_tiny()
        self.convnext.classifier = self.convnext.classifier[:1]
        features = self.convnext.features
        rate = 1
        # Positions in torchvision's list of layers: the downsamplings before the third and fourth
        # stage.
        for position in (4, 6) if stride == 8 else (6,):
            features[position] = _Dilated(*features[position], rate=rate)
            rate *= 2
            for block in features[position + 1]:
                depthwise = block.block[0]
                # A kernel of 7 x 7 reaches three cells to each side, so it pads by three times the
                # rate.
                depthwise.dilation = (rate, rate)
                depthwise.padding = (3 * rate, 3 * rate)

    def maps(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the outputs of the four stages, the last one normalized."""
        height, width = images.shape[2:]
        images = functional.pad(images, (0, -width % self.stride, 0, -height % self.stride))
        features = self.convnext.features
        first = features[:2](images)
        second = features[2:4](first)
        third = features[4:6](second)
        return first, second, third, self.convnext.classifier(features[6:](third))

    def stem_layers(self) -> tuple[nn.Module, ...]:
        """Return the patch embedding and the first stage: everything before stride 8."""
        return tuple(self.convnext.features[:2])

    def load_imagenet(self) -> None:
        """Load torchvision's IMAGENET1K_V1 weights."""
        weights = torchvision_weights("ConvNeXt_Tiny_Weights.IMAGENET1K_V1")
        kept = {
            name: value for name, value in weights.items() if not name.startswith("classifier.2.")
        }
        self.convnext.load_state_dict(kept)


class _Dilated(nn.Sequential):
    """Layer norm and 2x2 convolution between two stages, dilated by `rate` instead of strided.

    The output has the size of the input. The padding is on the right and below, where the second
    column and row of the strided convolution lie.
    """

    def __init__(self, norm: nn.Module, conv: nn.Conv2d, *, rate: int) -> None:
        super().__init__(norm, conv)
        self.rate = rate
        conv.stride = (1, 1)
        conv.dilation = (rate, rate)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, C, h, w) to (B, 2 C, h, w)."""
        norm, conv = self
        output: Tensor = conv(functional.pad(norm(features), (0, self.rate, 0, self.rate)))
        return output
