"""DeepLab with a large field of view: the segmentation network and its multi-scale inference."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from occse.backbones import build_backbone
from occse.checkpoint import load_weights, save_weights
from occse.images import to_tensor

VOID = 255


class DeepLab(nn.Module):
    """DeepLab-LargeFOV: a backbone and a head with one dilated 3x3 convolution.

    The head is SEAM's (YudeWang/semantic-segmentation-codebase): 3x3 dilated, ReLU, dropout, 1x1, batch norm, ReLU,
    dropout, 1x1.

    Args:
        backbone: name of the feature extractor.
        num_classes: C, without background.
        width: channels of the head.
        dilation: of the 3x3 convolution.
    """

    def __init__(self, backbone: str, num_classes: int, width: int, dilation: int) -> None:
        super().__init__()
        self.architecture = {"backbone": backbone, "num_classes": num_classes, "width": width, "dilation": dilation}
        self.backbone = build_backbone(backbone)
        self.head = nn.Sequential(
            nn.Conv2d(self.backbone.channels[-1], width, 3, padding=dilation, dilation=dilation),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Conv2d(width, width, 1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Conv2d(width, num_classes + 1, 1),
        )

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B L h w"]:
        """Class scores (L = C + 1, background first) at the backbone's stride."""
        scores: Tensor = self.head(self.backbone(images))
        return scores


def save_deeplab(model: DeepLab, path: Path) -> None:
    """Write weights and architecture into one safetensors file."""
    save_weights(model, path, architecture=model.architecture)


def load_deeplab(path: Path, *, device: str = "cpu") -> DeepLab:
    """The network that `save_deeplab` wrote, in evaluation mode.

    Raises:
        ValueError: the file is no such network.
    """
    return load_weights(path, DeepLab, device=device)


def segmentation_loss(scores: Float[Tensor, "B L h w"], labels: Int[Tensor, "B H W"]) -> Float[Tensor, ""]:
    """Cross entropy at the size of the labels, mean over the pixels that are not void (0 where all are)."""
    full = functional.interpolate(scores, labels.shape[1:], mode="bilinear", align_corners=False)
    total = functional.cross_entropy(full, labels, ignore_index=VOID, reduction="sum")
    return total / (labels != VOID).sum().clamp(min=1)


@torch.inference_mode()
def multi_scale_scores(
    network: Callable[[Tensor], Tensor],
    images: UInt8[np.ndarray, "B H W 3"],
    *,
    scales: Sequence[float],
    flip: bool,
    device: str,
) -> Float[Tensor, "B L H W"]:
    """Class probabilities: the scores of every scale and its mirror image, averaged before the softmax."""
    size = images.shape[1:3]
    total = torch.zeros(())
    for scale in scales:
        batch = torch.stack([to_tensor(_resize(image, scale)) for image in images]).to(device)
        scores = network(torch.cat([batch, batch.flip(-1)]) if flip else batch)
        scores = functional.interpolate(scores, size, mode="bilinear", align_corners=False).cpu()
        straight, mirrored = scores[: len(images)], scores[len(images) :].flip(-1)
        total = total + (straight + mirrored if flip else straight)
    return (total / (len(scales) * (2 if flip else 1))).softmax(1)


def _resize(image: UInt8[np.ndarray, "H W 3"], scale: float) -> UInt8[np.ndarray, "h w 3"]:
    height, width = image.shape[:2]
    size = (round(width * scale), round(height * scale))
    return np.array(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
