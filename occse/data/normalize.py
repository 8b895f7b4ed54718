"""The conversion of an image to a network's input, the same for every network."""

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

# Mean and standard deviation of ImageNet's RGB values in [0, 1]: every pretrained network of this
# field expects them.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def to_tensor(image: UInt8[np.ndarray, "*B H W 3"]) -> Float[Tensor, "*B 3 H W"]:
    """Return (image / 255 - mean) / std, so that 0 is the mean colour."""
    channels_first = torch.from_numpy(image).movedim(-1, -3)
    scaled = channels_first.to(torch.float32, memory_format=torch.contiguous_format) / 255
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (scaled - mean) / std
