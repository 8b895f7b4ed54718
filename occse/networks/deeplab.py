"""DeepLab: the segmentation network and its multi-scale inference."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from torch.nn import functional

from occse.data.batches import View, views_of
from occse.data.view_names import Resampling
from occse.networks.backbones import build_backbone
from occse.networks.checkpoint import load_weights, save_weights
from occse.networks.deeplab_heads import build_head

Merge = Literal[
    "mean",  # the mean of the scores, then the softmax (SEAM)
    "max",  # the maximum of the probabilities (MCTformer)
]

# The label of pixels without loss, in every layout of masks.
VOID = 255
# Scores that are enlarged at once: those of one image of VOC, which a CPU's caches hold in part.
ENLARGED_BYTES = 16 << 20


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


def multi_scale_scores(
    network: Callable[[Tensor], Tensor],
    images: UInt8[np.ndarray, "B H W 3"],
    *,
    scales: Sequence[float],
    flip: bool,
    merge: Merge = "mean",
    resampling: Resampling = "pillow",
    align_corners: bool = False,
    device: str,
) -> Float[Tensor, "B L H W"]:
    """Return class probabilities on `device`, merged over scales and, with `flip`, mirror images.

    Args:
        network: maps normalized images on `device` to scores (B, L, h, w).
        images: RGB images of one size, 8 bits per channel.
        scales: factors of the image size, rounded to whole pixels; bicubic.
        flip: add the mirror image at every scale.
        merge: how the passes are merged (see `merged_scores`).
        resampling: "pillow" resizes the 8-bit images. "opencv" resizes the normalized images
            without antialiasing, as SEAM does.
        align_corners: that of the network.
        device: where the network lives.
    """
    return merged_scores(
        network,
        views_of(images, scales, resampling=resampling),
        size=(images.shape[1], images.shape[2]),
        flip=flip,
        merge=merge,
        align_corners=align_corners,
        device=device,
    )


@torch.inference_mode()
def merged_scores(
    network: Callable[[Tensor], Tensor],
    views: Sequence[View],
    *,
    size: tuple[int, int],
    flip: bool,
    merge: Merge,
    align_corners: bool,
    device: str,
) -> Float[Tensor, "B L H W"]:
    """Return class probabilities of images on `device`, merged over the passes.

    There is one pass per view and, with `flip`, one more for its mirror image.

    Args:
        network: maps normalized images on `device` to scores (B, L, h, w).
        views: the images at every scale.
        size: (height, width) of the images.
        flip: add the mirror image at every scale.
        merge: "mean" averages the scores before the softmax, as SEAM does. "max" takes the maximum
            of the probabilities, as MCTformer does; these no longer sum to 1.
        align_corners: that of the network.
        device: where the network lives.
    """
    merged: Tensor | None = None
    for view in views:
        inputs = view.on(device)
        scores = network(torch.cat([inputs, inputs.flip(-1)]) if flip else inputs)
        if merged is None:
            # In the layout of the scores: a CPU adds two layouts at a tenth of the speed.
            layout = torch.contiguous_format
            if scores.is_contiguous(memory_format=torch.channels_last):
                layout = torch.channels_last
            merged = torch.empty(
                (len(inputs), scores.shape[1], *size),
                dtype=scores.dtype,
                device=scores.device,
                memory_format=layout,
            ).zero_()
        # Image by image, or a few: full-size scores of a whole batch, of both mirror images, would
        # take several times the memory of the merged ones.
        at_once = max(1, ENLARGED_BYTES // (4 * scores.shape[1] * size[0] * size[1]))
        for first in range(0, len(inputs), at_once):
            total = merged[first : first + at_once]
            for mirrored in (False, True) if flip else (False,):
                start = first + (len(inputs) if mirrored else 0)
                part = scores[start : start + len(total)]
                if align_corners:
                    # SEAM's network enlarges its scores to the size of its input, and the test
                    # enlarges these to the size of the image: on this grid two steps are not the
                    # same as one.
                    part = enlarge(part, inputs.shape[2:], align_corners=True)
                full = enlarge(part, size, align_corners=align_corners)
                _merge(total, full.flip(-1) if mirrored else full, merge)
    assert merged is not None, "there is at least one scale"
    if merge == "max":
        return merged
    num_passes = 2 * len(views) if flip else len(views)
    # One after the other: a softmax of all images at once would take their memory a second time.
    for image in merged:
        image.copy_(image.div_(num_passes).softmax(0))
    return merged


def _merge(total: Float[Tensor, "B L H W"], scores: Float[Tensor, "B L H W"], merge: Merge) -> None:
    """Merge the scores of one pass into those of all passes before, in place."""
    if merge == "mean":
        total += scores
    else:
        torch.maximum(total, scores.softmax(1), out=total)
