"""DeepLab: the segmentation network and its multi-scale inference."""

from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from torch.nn import functional

from occse.data.normalize import to_tensor
from occse.data.resize import opencv_cubic, resize, scaled_size
from occse.data.view_names import Resampling
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
        align_corners: the grid on which the scores are enlarged. SEAM's network puts the corner
            cells on the corner pixels (True).
    """

    def __init__(
        self,
        backbone: str,
        num_classes: int,
        head: str = "largefov",
        *,
        width: int = 512,
        dilation: int = 12,
        align_corners: bool = False,
    ) -> None:
        super().__init__()
        self.architecture = {
            "backbone": backbone,
            "num_classes": num_classes,
            "head": head,
            "width": width,
            "dilation": dilation,
            "align_corners": align_corners,
        }
        self.align_corners = align_corners
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


def save_deeplab(model: DeepLab, path: Path, *, classes: Sequence[str] = ()) -> None:
    """Write weights and architecture into one safetensors file."""
    save_weights(model, path, architecture=model.architecture, classes=classes)


def load_deeplab(path: Path, *, device: str = "cpu") -> DeepLab:
    """Read the network that `save_deeplab` wrote, in evaluation mode.

    Raises:
        ValueError: the file does not hold a DeepLab.
    """
    return load_weights(path, DeepLab, device=device)


def segmentation_loss(
    scores: Float[Tensor, "B L h w"],
    labels: Int[Tensor, "B H W"],
    *,
    align_corners: bool = False,
) -> Float[Tensor, ""]:
    """Return the cross entropy at the size of the labels, mean over the pixels that are not void.

    It is 0 if all pixels are void. `align_corners` is that of the network.
    """
    full = enlarge(scores, labels.shape[1:], align_corners=align_corners)
    total = functional.cross_entropy(full, labels, ignore_index=VOID, reduction="sum")
    return total / (labels != VOID).sum().clamp(min=1)


def enlarge(
    scores: Float[Tensor, "B L h w"], size: tuple[int, int] | torch.Size, *, align_corners: bool
) -> Float[Tensor, "B L H W"]:
    """Return the scores at (H, W) `size`, bilinear."""
    return functional.interpolate(scores, size, mode="bilinear", align_corners=align_corners)


@torch.inference_mode()
def multi_scale_scores(
    network: Callable[[Tensor], Tensor],
    images: UInt8[np.ndarray, "B H W 3"],
    *,
    scales: Sequence[float],
    flip: bool,
    merge: Literal["mean", "max"] = "mean",
    resampling: Resampling = "pillow",
    align_corners: bool = False,
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
        resampling: "pillow" resizes the 8-bit images. "opencv" resizes the normalized images
            without antialiasing, as SEAM does.
        align_corners: that of the network.
        device: where the network lives.
    """
    passes = _passes(
        network,
        images,
        scales=scales,
        flip=flip,
        resampling=resampling,
        align_corners=align_corners,
        device=device,
    )
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
    resampling: Resampling,
    align_corners: bool,
    device: str,
) -> Iterator[Float[Tensor, "B L H W"]]:
    """Yield scores at image size, of each scale and of its mirror image (mirrored back)."""
    for scale in scales:
        batch = _rescale(images, scale, resampling).to(device)
        scores = network(torch.cat([batch, batch.flip(-1)]) if flip else batch)
        if align_corners:
            # SEAM's network enlarges its scores to the size of its input, and the test enlarges
            # these to the size of the image: on this grid two steps are not the same as one.
            scores = enlarge(scores, batch.shape[2:], align_corners=True)
        scores = enlarge(scores, images.shape[1:3], align_corners=align_corners).cpu()
        yield scores[: len(images)]
        if flip:
            yield scores[len(images) :].flip(-1)


def _rescale(
    images: UInt8[np.ndarray, "B H W 3"], scale: float, resampling: Resampling
) -> Float[Tensor, "B 3 _ _"]:
    if resampling == "opencv":
        return opencv_cubic(to_tensor(images), scale)
    size = scaled_size(images.shape[1:3], scale)
    return to_tensor(np.stack([resize(image, size) for image in images]))
