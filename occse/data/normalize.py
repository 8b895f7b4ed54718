"""The one way from an image to a network's input."""

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def to_tensor(image: UInt8[np.ndarray, "*B H W 3"]) -> Float[Tensor, "*B 3 H W"]:
    """Scale an RGB image to [0, 1] and normalize it: (image / 255 - mean) / std, so that 0 is the
    mean colour.
    """
    scaled = (
        torch.from_numpy(image)
        .movedim(-1, -3)
        .to(torch.float32, memory_format=torch.contiguous_format)
        / 255
    )
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (scaled - mean) / std
