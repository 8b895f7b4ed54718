"""The classifier of the paper: a backbone, a 1x1 convolution without bias, a spatial mean."""

from collections.abc import Sequence
from pathlib import Path

from jaxtyping import Float
from torch import Tensor, nn

from occse.networks.backbones import build_backbone
from occse.networks.checkpoint import load_weights, save_weights


class Classifier(nn.Module):
    """Maps images to raw class activation maps. The ordinary classifier and CGNet are of this kind.

    Args:
        backbone: name of the feature extractor.
        num_classes: C, without background.
        dropout: share of the feature channels that are dropped before the head during training. A
            checkpoint does not keep it.
    """

    def __init__(self, backbone: str, num_classes: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.architecture = {"backbone": backbone, "num_classes": num_classes}
        self.backbone = build_backbone(backbone)
        self.dropout = nn.Dropout2d(dropout)
        self.head = nn.Conv2d(self.backbone.channels[-1], num_classes, 1, bias=False)
        # as psa and OC-CSE do
        nn.init.xavier_uniform_(self.head.weight)

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B C h w"]:
        """Return `cams`: the signed maps f^c at the backbone's stride."""
        cams: Tensor = self.head(self.dropout(self.backbone(images)))
        return cams


def logits(cams: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C"]:
    """Return class scores before the sigmoid: the spatial mean of the raw maps, without ReLU."""
    return cams.mean((2, 3))


def save_classifier(model: Classifier, path: Path, *, classes: Sequence[str] = ()) -> None:
    """Write weights and architecture into one safetensors file."""
    save_weights(model, path, architecture=model.architecture, classes=classes)


def load_classifier(path: Path, *, device: str = "cpu") -> Classifier:
    """Read the classifier that `save_classifier` wrote, in evaluation mode.

    Raises:
        ValueError: the file does not hold a classifier.
    """
    return load_weights(path, Classifier, device=device)
