"""DeepLab: the segmentation network and its multi-scale inference."""

from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from occse.data.normalize import to_tensor
from occse.networks.backbones import build_backbone
from occse.networks.checkpoint import load_weights, save_weights
from occse.networks.deeplab_heads import build_head

# The label of pixels without loss, in every layout of masks.
VOID = 255


class DeepLab(nn.Module):
    """A backbone and one of DeepLab's heads.

    Args:
        backbone: name of the feature extractor.
        num_classes: C, without background.
        head: "largefov", "aspp" (DeepLabv2) or "deeplabv3plus".
        width: channels of the head "largefov"; the other heads have fixed widths.
        dilation: of the 3x3 convolution of the head "largefov".
    """

    def __init__(
        self,
        backbone: str,
        num_classes: int,
        head: str = "largefov",
        *,
        width: int = 512,
        dilation: int = 12,
    ) -> None:
        super().__init__()
        self.architecture = {
            "backbone": backbone,
            "num_classes": num_classes,
            "head": head,
            "width": width,
            "dilation": dilation,
        }
        self.backbone = build_backbone(backbone)
        self.head = build_head(
            head, self.backbone, num_labels=num_classes + 1, width=width, dilation=dilation
        )

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B L h w"]:
        """Return class scores for L = C + 1 labels, background first.

        They have the backbone's stride; with the head "deeplabv3plus", that of its shallow map.
        """
        scores: Tensor = self.head(*self.backbone.low_and_deep(images))
        return scores


def save_deeplab(model: DeepLab, path: Path) -> None:
    """Write weights and architecture into one safetensors file."""
    save_weights(model, path, architecture=model.architecture)


def load_deeplab(path: Path, *, device: str = "cpu") -> DeepLab:
    """Read the network that `save_deeplab` wrote, in evaluation mode.

    Raises:
        ValueError: the file does not hold a DeepLab.
    """
    return load_weights(path, DeepLab, device=device)


def segmentation_loss(
    scores: Float[Tensor, "B L h w"], labels: Int[Tensor, "B H W"]
) -> Float[Tensor, ""]:
    """Return the cross entropy at the size of the labels, mean over the pixels that are not void.

    It is 0 if all pixels are void.
    """
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
    merge: Literal["mean", "max"] = "mean",
    device: str,
) -> Float[Tensor, "B L H W"]:
    """Return class probabilities, merged over the passes: scales and, with `flip`, mirror images.

    Args:
        network: maps normalized images on `device` to scores (B, L, h, w).
        images: RGB images of one size, 8 bits per channel.
        scales: factors of the image size, rounded to whole pixels; bicubic.
        flip: add the mirror image at every scale.
        merge: "mean" averages the scores before the softmax, as SEAM does. "max" takes the maximum
            of the probabilities, as MCTformer does; these no longer sum to 1.
        device: where the network lives.
    """
    passes = _passes(network, images, scales=scales, flip=flip, device=device)
    if merge == "max":
        return reduce(torch.maximum, (scores.softmax(1) for scores in passes))
    num_passes = 2 * len(scales) if flip else len(scales)
    return (reduce(torch.add, passes) / num_passes).softmax(1)


def _passes(
    network: Callable[[Tensor], Tensor],
    images: UInt8[np.ndarray, "B H W 3"],
    *,
    scales: Sequence[float],
    flip: bool,
    device: str,
) -> Iterator[Float[Tensor, "B L H W"]]:
    """Yield scores at image size, of each scale and of its mirror image (mirrored back)."""
    for scale in scales:
        batch = torch.stack([to_tensor(_resize(image, scale)) for image in images]).to(device)
        scores = network(torch.cat([batch, batch.flip(-1)]) if flip else batch)
        scores = functional.interpolate(
            scores, images.shape[1:3], mode="bilinear", align_corners=False
        ).cpu()
        yield scores[: len(images)]
        if flip:
            yield scores[len(images) :].flip(-1)


def _resize(image: UInt8[np.ndarray, "H W 3"], scale: float) -> UInt8[np.ndarray, "h w 3"]:
    height, width = image.shape[:2]
    size = (round(width * scale), round(height * scale))
    return np.array(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
