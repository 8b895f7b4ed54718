"""Torchvision's ResNets with dilation instead of their last strides."""

from torch import Tensor, nn

from occse.networks.backbones.pyramid import Pyramid, check_stride, torchvision_weights


class DilatedResNet(Pyramid):
    """ResNet-50 or ResNet-101 at stride 16 (layer4 dilated by 2) or 8 (layer3 by 2, layer4 by 4).

    Without `dilate` the last stride is dropped and nothing is dilated, as in the ResNet-50 of
    jiwoon-ahn/irn; the stride is then 16.

    Raises:
        ValueError: the stride is neither 8 nor 16.
    """

    channels = (512, 1024, 2048)
    low_channels = 256

    def __init__(self, depth: int, *, stride: int, dilate: bool = True) -> None:
        # imported here: it takes a second, which the other networks do not need
        from torchvision.models import resnet50, resnet101

        super().__init__()
        check_stride(stride)
        self.depth = depth
        self.stride = stride
        build = {50: resnet50, 101: resnet101}[depth]
        self.resnet = build(replace_stride_with_dilation=[False, stride == 8, True])
        del self.resnet.fc
        if not dilate:
            # torchvision drops a stride only where it dilates, so the dilation is taken back.
            for block in self.resnet.layer4:
                block.conv2.dilation = block.conv2.padding = (1, 1)

    @property
    def level_channels(self) -> tuple[int, ...]:
        """Channels of the first pooling and of layer1 to layer4."""
        return (64, *super().level_channels)

    def maps(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the outputs of layer1 to layer4."""
        return self._layers(self._pooled(images))

    def levels(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return irn's five levels: the first pooling, of stride 4, and layer1 to layer4."""
        pooled = self._pooled(images)
        return pooled, *self._layers(pooled)

    def _pooled(self, images: Tensor) -> Tensor:
        net = self.resnet
        pooled: Tensor = net.maxpool(net.relu(net.bn1(net.conv1(images))))
        return pooled

    def _layers(self, pooled: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        net = self.resnet
        first = net.layer1(pooled)
        second = net.layer2(first)
        third = net.layer3(second)
        return first, second, third, net.layer4(third)

    def stem_layers(self) -> tuple[nn.Module, ...]:
        """Return conv1, bn1 and layer1: everything before stride 8."""
        return self.resnet.conv1, self.resnet.bn1, self.resnet.layer1

    def load_imagenet(self) -> None:
        """Load torchvision's IMAGENET1K_V1 weights: the training recipe of the paper's time."""
        weights = torchvision_weights(f"ResNet{self.depth}_Weights.IMAGENET1K_V1")
        self.resnet.load_state_dict(
            {name: value for name, value in weights.items() if not name.startswith("fc.")}
        )
