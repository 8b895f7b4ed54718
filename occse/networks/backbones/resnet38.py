"""The wide ResNet-38 of the paper (Wu, Shen and van den Hengel, 2016).

Its parameters have the names that they have in the official weight files.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

from torch import Tensor, nn
from torch.nn import functional

from occse.networks.backbones.backbone import Backbone

Value = TypeVar("Value")

# The layers of the backbone: in a group of blocks such as b3, b3_1, b3_2 the first has no number.
_LAYERS = {
    "conv1a",
    *("b2", "b2_1", "b2_2"),
    *("b3", "b3_1", "b3_2"),
    *("b4", "b4_1", "b4_2", "b4_3", "b4_4", "b4_5"),
    *("b5", "b5_1", "b5_2"),
    *("b6", "b7", "bn7"),
}
# Layers behind the backbone in jiwoon-ahn/psa's files, the classifier's and AffinityNet's, and our
# names for them.
_HEADS = {
    "fc8": "head",
    "f8_3": "head.f8_3",
    "f8_4": "head.f8_4",
    "f8_5": "head.f8_5",
    "f9": "head.f9",
}


class Block(nn.Module):
    """Pre-activation residual block of two 3x3 convolutions.

    The first convolution has the stride, and a dilation of its own.
    """

    def __init__(
        self,
        inputs: int,
        width: int,
        outputs: int,
        *,
        stride: int = 1,
        first_dilation: int = 1,
        dilation: int = 1,
    ) -> None:
        super().__init__()
        self.bn_branch2a = nn.BatchNorm2d(inputs)
        self.conv_branch2a = nn.Conv2d(
            inputs, width, 3, stride, first_dilation, first_dilation, bias=False
        )
        self.bn_branch2b1 = nn.BatchNorm2d(width)
        self.conv_branch2b1 = nn.Conv2d(width, outputs, 3, 1, dilation, dilation, bias=False)
        # A block that keeps the shape adds its input. Other blocks project their activated input.
        same_shape = inputs == outputs and stride == 1
        self.conv_branch1 = (
            None if same_shape else nn.Conv2d(inputs, outputs, 1, stride, bias=False)
        )

    def activate(self, features: Tensor) -> Tensor:
        """Return relu(batch norm), the input of the block's convolutions."""
        return _activate(self.bn_branch2a, features)

    def forward(self, features: Tensor, activated: Tensor) -> Tensor:
        """Map (B, inputs, h, w), and its `activate`, to (B, outputs, h / stride, w / stride).

        Sides are rounded up.
        """
        shortcut = features if self.conv_branch1 is None else self.conv_branch1(activated)
        residual: Tensor = self.conv_branch2b1(
            _activate(self.bn_branch2b1, self.conv_branch2a(activated))
        )
        return shortcut + residual


class Bottleneck(nn.Module):
    """Pre-activation bottleneck: 1x1, dilated 3x3 and 1x1 convolution.

    There is 2-d dropout before the last two convolutions.
    """

    def __init__(self, inputs: int, outputs: int, *, dilation: int, dropout: float) -> None:
        super().__init__()
        self.bn_branch2a = nn.BatchNorm2d(inputs)
        self.conv_branch2a = nn.Conv2d(inputs, outputs // 4, 1, bias=False)
        self.bn_branch2b1 = nn.BatchNorm2d(outputs // 4)
        self.conv_branch2b1 = nn.Conv2d(
            outputs // 4, outputs // 2, 3, 1, dilation, dilation, bias=False
        )
        self.bn_branch2b2 = nn.BatchNorm2d(outputs // 2)
        self.conv_branch2b2 = nn.Conv2d(outputs // 2, outputs, 1, bias=False)
        self.conv_branch1 = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.dropout = nn.Dropout2d(dropout)

    def activate(self, features: Tensor) -> Tensor:
        """Return relu(batch norm), the input of the block's convolutions."""
        return _activate(self.bn_branch2a, features)

    def forward(self, activated: Tensor) -> Tensor:
        """Map the `activate` of (B, inputs, h, w) to (B, outputs, h, w)."""
        residual: Tensor = self.conv_branch2a(activated)
        residual = self.conv_branch2b1(self.dropout(_activate(self.bn_branch2b1, residual)))
        residual = self.conv_branch2b2(self.dropout(_activate(self.bn_branch2b2, residual)))
        shortcut: Tensor = self.conv_branch1(activated)
        return shortcut + residual


class ResNet38(Backbone):
    """ResNet-38 at stride 8, with 105 M parameters. Dilation stands for its last strides."""

    channels = (512, 1024, 4096)
    stride = 8

    def __init__(self) -> None:
        super().__init__()
        self.conv1a = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        self.b2 = Block(64, 128, 128, stride=2)
        self.b2_1 = Block(128, 128, 128)
        self.b2_2 = Block(128, 128, 128)
        self.b3 = Block(128, 256, 256, stride=2)
        self.b3_1 = Block(256, 256, 256)
        self.b3_2 = Block(256, 256, 256)
        self.b4 = Block(256, 512, 512, stride=2)
        self.b4_1 = Block(512, 512, 512)
        self.b4_2 = Block(512, 512, 512)
        self.b4_3 = Block(512, 512, 512)
        self.b4_4 = Block(512, 512, 512)
        self.b4_5 = Block(512, 512, 512)
        # Dilation starts behind the first convolution of b5, as in the official network.
        self.b5 = Block(512, 512, 1024, dilation=2)
        self.b5_1 = Block(1024, 512, 1024, first_dilation=2, dilation=2)
        self.b5_2 = Block(1024, 512, 1024, first_dilation=2, dilation=2)
        self.b6 = Bottleneck(1024, 2048, dilation=4, dropout=0.3)
        self.b7 = Bottleneck(2048, 4096, dilation=4, dropout=0.5)
        self.bn7 = nn.BatchNorm2d(4096)

    def taps(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return psa's conv4, conv5 and conv6, all activated and at stride 8.

        They are the inputs of b5 and b6, and the output of bn7.
        """
        features = self.conv1a(images)
        for block in self._until_b5():
            features = block(features, block.activate(features))
        conv4 = self.b5.activate(features)
        features = self.b5(features, conv4)
        for block in (self.b5_1, self.b5_2):
            features = block(features, block.activate(features))
        conv5 = self.b6.activate(features)
        features = self.b6(conv5)
        return conv4, conv5, _activate(self.bn7, self.b7(self.b7.activate(features)))

    def stem_layers(self) -> tuple[nn.Module, ...]:
        """Return conv1a and the three blocks at stride 2, which psa and OC-CSE freeze."""
        return self.conv1a, self.b2, self.b2_1, self.b2_2

    def _until_b5(self) -> Iterator[Block]:
        yield from (self.b2, self.b2_1, self.b2_2)
        yield from (self.b3, self.b3_1, self.b3_2)
        yield from (self.b4, self.b4_1, self.b4_2, self.b4_3, self.b4_4, self.b4_5)


def _activate(norm: nn.BatchNorm2d, features: Tensor) -> Tensor:
    # In place, because the gradients need the input of the norm and not its output.
    return functional.relu(norm(features), inplace=True)


def from_official(state: Mapping[str, Value]) -> dict[str, Value]:
    """Return an official state dict under our names, those of `Classifier` and `AffinityNet`.

    conv1a.weight becomes backbone.conv1a.weight, fc8.weight becomes head.weight, and f9.weight
    becomes head.f9.weight. Other names stay as they are and are left over when the result is
    loaded. The official files are psa's res38_cls.pth and res38_aff.pth and OC-CSE's od_cam.pth;
    some lack `num_batches_tracked`, which torch fills in.

    Raises:
        ValueError: two names would become one.
    """
    return _renamed(state, _our_name)


def to_official(state: Mapping[str, Value]) -> dict[str, Value]:
    """Return our state dict under the names of the official files: `from_official` inverted.

    Raises:
        ValueError: two names would become one.
    """
    return _renamed(state, _official_name)


def _our_name(official: str) -> str:
    layer, _, rest = official.partition(".")
    if layer in _LAYERS:
        return f"backbone.{official}"
    return f"{_HEADS[layer]}.{rest}" if layer in _HEADS else official


def _official_name(ours: str) -> str:
    module, _, parameter = ours.rpartition(".")
    for official, head in _HEADS.items():
        if module == head:
            return f"{official}.{parameter}"
    inner = ours.removeprefix("backbone.")
    return inner if inner.partition(".")[0] in _LAYERS else ours


def _renamed(state: Mapping[str, Value], name_of: Callable[[str], str]) -> dict[str, Value]:
    renamed: dict[str, Value] = {}
    for name, value in state.items():
        new = name_of(name)
        if new in renamed:
            raise ValueError(f"two entries of the state dict mean {new!r}; one of them is {name!r}")
        renamed[new] = value
    return renamed
