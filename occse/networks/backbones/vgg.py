"""Torchvision's VGG-16 without its last pooling, dilated instead of the pooling before that."""

from torch import Tensor, nn

from occse.networks.backbones.pyramid import Pyramid, check_stride, torchvision_weights

# Positions in torchvision's list of layers: the second to the fourth pooling, and the end of
# conv5_3 with its ReLU.
POOL2 = 9
POOL3 = 16
POOL4 = 23
CONV5_END = 30


class DilatedVgg(Pyramid):
    """The convolutions of VGG-16, conv1_1 to conv5_3, without batch norm.

    At stride 8 the fourth pooling keeps its size and conv5 is dilated by 2. psa's VGG goes on with
    fc6 and fc7 as convolutions; this one does not.

    Raises:
        ValueError: the stride is neither 8 nor 16.
    """

    channels = (256, 512, 512)
    low_channels = 256

    def __init__(self, *, stride: int) -> None:
        # imported here: it takes a second, which the other networks do not need
        from torchvision.models.vgg import cfgs, make_layers

        super().__init__()
        check_stride(stride)
        self.stride = stride
        self.features = make_layers(cfgs["D"], batch_norm=False)[:CONV5_END]
        for layer in self.features:
            if isinstance(layer, nn.MaxPool2d):
                # so that sizes are rounded up, as in the other backbones
                layer.ceil_mode = True
            elif isinstance(layer, nn.Conv2d) and layer.bias is not None:
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(layer.bias)
        if stride == 8:
            self._dilate()

    def _dilate(self) -> None:
        # The padding is on the right and below, where the rest of a cell of the strided pooling
        # lies. Zeros change no maximum, because the input comes from a ReLU.
        self.features[POOL4] = nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.MaxPool2d(2, 1))
        for layer in self.features[POOL4 + 1 :]:
            if isinstance(layer, nn.Conv2d):
                layer.dilation = layer.padding = (2, 2)

    def maps(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the outputs of conv3_3, the third pooling, conv4_3 and conv5_3.

        Their strides are 4, 8, 8 and `stride`.
        """
        first = self.features[:POOL3](images)
        second = self.features[POOL3](first)
        third = self.features[POOL3 + 1 : POOL4](second)
        return first, second, third, self.features[POOL4:](third)

    def stem_layers(self) -> tuple[nn.Module, ...]:
        """Return conv1_1 to conv2_2, which jiwoon-ahn/psa freezes too."""
        return tuple(self.features[:POOL2])

    def load_imagenet(self) -> None:
        """Load torchvision's IMAGENET1K_V1 weights of the convolutions."""
        weights = torchvision_weights("VGG16_Weights.IMAGENET1K_V1")
        self.load_state_dict(
            {name: value for name, value in weights.items() if name.startswith("features.")}
        )
