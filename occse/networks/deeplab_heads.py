"""The heads of the DeepLabs: from a backbone's shallow and deepest feature map to class scores."""

from typing import get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from occse.networks.backbones import Backbone
from occse.networks.names import HeadName

# Dilations of the four branches, as in the paper (Chen et al., TPAMI 2018).
DEEPLABV2_RATES = (6, 12, 18, 24)
# Dilations at stride 16, as in the paper (Chen et al., ECCV 2018). They grow as the stride falls,
# so that the field of view stays the same.
DEEPLABV3_RATES = (6, 12, 18)
# Channels of DeepLabv3+'s ASPP and decoder, and of its shallow map in the decoder (same paper).
DEEPLABV3_WIDTH = 256
DECODER_LOW_WIDTH = 48


def build_head(
    name: str, backbone: Backbone, *, num_labels: int, width: int, dilation: int
) -> nn.Module:
    """Return an untrained head for the maps of `backbone`.

    `width` and `dilation` apply to "largefov" alone.

    Raises:
        ValueError: there is no head of that name.
    """
    if name == "largefov":
        return LargeFov(backbone.channels[-1], num_labels, width=width, dilation=dilation)
    if name == "aspp":
        return SummedAspp(backbone.channels[-1], num_labels)
    if name == "deeplabv3plus":
        rates = [rate * 16 // backbone.stride for rate in DEEPLABV3_RATES]
        return EncoderDecoder(backbone.low_channels, backbone.channels[-1], num_labels, rates=rates)
    raise ValueError(f"no head {name!r}; the heads are {', '.join(get_args(HeadName))}")


class LargeFov(nn.Module):
    """DeepLab-LargeFOV as in SEAM: 3x3 dilated and 1x1 convolution, dropout, 1x1 to the labels.

    The first two convolutions have batch norms and ReLUs.
    """

    def __init__(self, channels: int, num_labels: int, *, width: int, dilation: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            _convolution(channels, width, 3, dilation=dilation),
            _convolution(width, width, 1),
            nn.Dropout(0.5),
            nn.Conv2d(width, num_labels, 1),
        )
        _initialize(self)

    def forward(
        self, low: Float[Tensor, "B _ _ _"], deep: Float[Tensor, "B D h w"]
    ) -> Float[Tensor, "B L h w"]:
        """Return scores at the size of `deep`; `low` is not used."""
        scores: Tensor = self.layers(deep)
        return scores


class SummedAspp(nn.Module):
    """DeepLabv2's atrous spatial pyramid pooling: the sum of four dilated 3x3 convolutions."""

    def __init__(self, channels: int, num_labels: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Conv2d(channels, num_labels, 3, padding=rate, dilation=rate)
            for rate in DEEPLABV2_RATES
        )
        # First weights as in kazuto1011/deeplab-pytorch.
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            else:
                nn.init.normal_(parameter, std=0.01)

    def forward(
        self, low: Float[Tensor, "B _ _ _"], deep: Float[Tensor, "B D h w"]
    ) -> Float[Tensor, "B L h w"]:
        """Return scores at the size of `deep`; `low` is not used."""
        return torch.stack([branch(deep) for branch in self.branches]).sum(0)


class EncoderDecoder(nn.Module):
    """DeepLabv3+ (Chen et al., ECCV 2018).

    The ASPP of `deep` is enlarged and joined to `low`, which is reduced to 48 channels; two 3x3
    convolutions and a 1x1 convolution follow. The convolutions are ordinary ones; the paper's
    Xception variant has separable ones.
    """

    def __init__(
        self, low_channels: int, channels: int, num_labels: int, *, rates: list[int]
    ) -> None:
        # imported here: it takes a second, which the other heads do not need
        from torchvision.models.segmentation.deeplabv3 import ASPP

        super().__init__()
        self.aspp = ASPP(channels, rates, DEEPLABV3_WIDTH)
        self.low = _convolution(low_channels, DECODER_LOW_WIDTH, 1)
        self.decoder = nn.Sequential(
            _convolution(DEEPLABV3_WIDTH + DECODER_LOW_WIDTH, DEEPLABV3_WIDTH, 3),
            _convolution(DEEPLABV3_WIDTH, DEEPLABV3_WIDTH, 3),
            nn.Conv2d(DEEPLABV3_WIDTH, num_labels, 1),
        )
        _initialize(self)

    def forward(
        self, low: Float[Tensor, "B E v u"], deep: Float[Tensor, "B D h w"]
    ) -> Float[Tensor, "B L v u"]:
        """Return scores at the size of `low`."""
        context = functional.interpolate(
            self.aspp(deep), low.shape[2:], mode="bilinear", align_corners=False
        )
        scores: Tensor = self.decoder(torch.cat([context, self.low(low)], dim=1))
        return scores


def _convolution(inputs: int, outputs: int, size: int, *, dilation: int = 1) -> nn.Sequential:
    padding = dilation * (size // 2)
    conv = nn.Conv2d(inputs, outputs, size, padding=padding, dilation=dilation, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


def _initialize(head: nn.Module) -> None:
    for module in head.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
