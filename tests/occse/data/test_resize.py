"""Resizing as Pillow and as OpenCV do it; the arrays were recorded with OpenCV 5.0.0."""

import numpy as np
import pytest
import torch
from parity_inputs import parity

from occse.data.normalize import to_tensor
from occse.data.resize import (
    opencv_cubic,
    opencv_image,
    opencv_labels,
    resize,
    resize_labels,
    scaled_size,
)

OPENCV = parity("opencv_resize")
SCALES = list(enumerate(OPENCV["scales"].tolist()))


@pytest.mark.parametrize(("number", "scale"), SCALES)
def test_opencv_cubic_of_normalized_images_has_parity(number: int, scale: float) -> None:
    ours = opencv_cubic(to_tensor(OPENCV["image"]), scale).movedim(0, -1)
    np.testing.assert_allclose(ours, OPENCV[f"normalized_{number}"], rtol=0, atol=2e-5)


@pytest.mark.parametrize(("number", "scale"), SCALES)
def test_opencv_image_has_parity_up_to_one_level(number: int, scale: float) -> None:
    ours, theirs = opencv_image(OPENCV["image"], scale), OPENCV[f"image_{number}"]
    difference = np.abs(ours.astype(int) - theirs)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-3


@pytest.mark.parametrize(("number", "scale"), SCALES)
def test_opencv_labels_have_parity(number: int, scale: float) -> None:
    np.testing.assert_array_equal(
        opencv_labels(OPENCV["labels"], scale), OPENCV[f"labels_{number}"]
    )


def test_opencv_cubic_keeps_a_map_at_scale_one_and_a_constant_at_any() -> None:
    maps = torch.rand(2, 7, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(opencv_cubic(maps, 1.0), maps)
    constant = torch.full((1, 7, 9), 0.3, dtype=torch.float64)
    expected = torch.full((1, 12, 15), 0.3, dtype=torch.float64)
    torch.testing.assert_close(opencv_cubic(constant, 1.7), expected, rtol=0, atol=1e-6)


def test_resize_smooths_where_opencv_aliases() -> None:
    """At a third of the size OpenCV reads every third pixel of stripes that are one pixel wide."""
    stripes = np.zeros((18, 18, 3), np.uint8)
    stripes[:, ::2] = 255
    pillow = resize(stripes, scaled_size((18, 18), 1 / 3))
    assert opencv_image(stripes, 1 / 3)[0, :, 0].tolist() == [0, 255, 0, 255, 0, 255]
    assert 60 < pillow.min() <= pillow.max() < 195


def test_labels_of_both_keep_their_values_and_differ_by_half_a_pixel() -> None:
    labels = np.arange(20, dtype=np.uint8)[None].repeat(4, axis=0)
    assert resize_labels(labels, (2, 10))[0].tolist() == list(range(1, 20, 2))
    assert opencv_labels(labels, 0.5)[0].tolist() == list(range(0, 20, 2))


def test_sizes_are_rounded_half_to_even() -> None:
    assert scaled_size((375, 500), 0.5) == (188, 250)
    assert scaled_size((5, 7), 0.5) == (2, 4)
