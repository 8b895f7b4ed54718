import numpy as np
import torch

from occse.data.normalize import to_tensor


def test_mean_color_is_zero_and_channels_come_first() -> None:
    image = np.zeros((2, 4, 5, 3), np.uint8)
    image[..., 0], image[..., 1], image[..., 2] = 124, 116, 104
    tensor = to_tensor(image)
    assert tensor.shape == (2, 3, 4, 5)
    assert tensor.is_contiguous()
    assert tensor.abs().max() < 0.01


def test_each_channel_has_its_own_scale() -> None:
    tensor = to_tensor(np.full((1, 1, 3), 255, np.uint8)).flatten()
    torch.testing.assert_close(tensor, torch.tensor([2.2489, 2.4286, 2.6400]), atol=1e-4, rtol=0)
