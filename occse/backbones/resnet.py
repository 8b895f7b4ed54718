"""Torchvision's ResNet-50 with dilation instead of its last two strides."""

from torch import Tensor, nn
from torchvision.models import ResNet50_Weights, resnet50

from occse.backbones.backbone import Backbone


class DilatedResNet(Backbone):
    """ResNet-50 at stride 8: the last two groups are dilated by 2 and 4."""

    channels = (512, 1024, 2048)
    stride = 8

    def __init__(self) -> None:
        super().__init__()
        self.resnet = resnet50(replace_stride_with_dilation=[False, True, True])
        del self.resnet.fc

    def taps(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The outputs of layer2, layer3 and layer4, all at stride 8."""
        net = self.resnet
        stem = net.maxpool(net.relu(net.bn1(net.conv1(images))))
        second = net.layer2(net.layer1(stem))
        third = net.layer3(second)
        return second, third, net.layer4(third)

    def stem_layers(self) -> tuple[nn.Module, ...]:
        """conv1, bn1 and layer1: all before stride 8."""
        return self.resnet.conv1, self.resnet.bn1, self.resnet.layer1

    def load_imagenet(self) -> None:
        """Load torchvision's IMAGENET1K_V1 weights."""
        weights = ResNet50_Weights.IMAGENET1K_V1.get_state_dict(progress=False, check_hash=True)
        self.resnet.load_state_dict({name: value for name, value in weights.items() if not name.startswith("fc.")})
