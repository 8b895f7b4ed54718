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
    return normalized(torch.from_numpy(image))


def normalized(pixels: UInt8[Tensor, "*B H W 3"]) -> Float[Tensor, "*B 3 H W"]:
    """Return (pixels / 255 - mean) / std, computed on the device of `pixels`.

    Bytes travel to a device in a quarter of the time of the network's input.
    """
    channels_first = pixels.movedim(-1, -3)
    scaled = channels_first.to(torch.float32, memory_format=torch.contiguous_format) / 255
    for channel, mean, std in zip(scaled.unbind(-3), IMAGENET_MEAN, IMAGENET_STD, strict=True):
        # Numbers and not tensors: a tensor of means would be copied to a GPU, which waits for it.
        channel.sub_(mean).div_(std)
    return scaled
