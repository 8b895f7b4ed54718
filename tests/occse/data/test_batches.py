"""Images grouped by size for inference, and their views."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from occse.data.batches import read_batches, same_size_batches, views_of
from occse.data.dataset import Dataset
from occse.data.normalize import to_tensor
from occse.data.resize import opencv_cubic, resize

SIZES = {"a": (4, 6), "b": (6, 4), "c": (4, 6), "d": (5, 5), "e": (6, 4), "f": (4, 6)}


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    (tmp_path / "JPEGImages").mkdir()
    for value, (name, size) in enumerate(SIZES.items()):
        image = Image.fromarray(np.full((*size, 3), 40 * value, np.uint8))
        image.save(tmp_path / "JPEGImages" / f"{name}.jpg")
    return Dataset(root=tmp_path, classes=("x",), splits={}, labels={})


def test_images_are_grouped_by_size_over_the_whole_split(dataset: Dataset) -> None:
    grouped = list(same_size_batches(dataset, list(SIZES), limit=2))
    assert grouped == [["a", "c"], ["f"], ["b", "e"], ["d"]]


def test_large_images_make_smaller_batches(dataset: Dataset) -> None:
    assert next(same_size_batches(dataset, list(SIZES), limit=3, pixels=2 * 24)) == ["a", "c"]
    assert list(same_size_batches(dataset, ["a", "c"], limit=3, pixels=1)) == [["a"], ["c"]]


def test_no_names_give_no_batches(dataset: Dataset) -> None:
    assert list(same_size_batches(dataset, [], limit=4)) == []


@pytest.mark.parametrize("threads", [1, 3])
def test_batches_are_read_with_their_views_in_order(dataset: Dataset, threads: int) -> None:
    groups = [["a", "c"], ["b"], ["d"]]
    found = list(read_batches(dataset, groups, scales=(0.5, 1.0), device="cpu", threads=threads))
    assert [batch.names for batch in found] == groups
    for batch in found:
        expected = np.stack([dataset.image(name) for name in batch.names])
        np.testing.assert_array_equal(batch.images, expected)
        half, whole = batch.views
        assert torch.equal(whole.on("cpu"), to_tensor(expected))
        sides = (round(expected.shape[1] * 0.5), round(expected.shape[2] * 0.5))
        resized = to_tensor(np.stack([resize(image, sides) for image in expected]))
        assert torch.equal(half.on("cpu"), resized)


def test_views_of_opencv_are_scaled_after_the_normalization() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 7, 9, 3)).astype(np.uint8)
    (view,) = views_of(images, [1.5], resampling="opencv")
    assert torch.equal(view.on("cpu"), opencv_cubic(to_tensor(images), 1.5))
