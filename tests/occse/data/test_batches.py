"""Images grouped by size for inference."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from occse.data.batches import same_size_batches
from occse.data.dataset import Dataset

SIZES = {"a": (4, 6), "b": (6, 4), "c": (4, 6), "d": (5, 5), "e": (6, 4), "f": (4, 6)}


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    (tmp_path / "JPEGImages").mkdir()
    for value, (name, size) in enumerate(SIZES.items()):
        image = Image.fromarray(np.full((*size, 3), 40 * value, np.uint8))
        image.save(tmp_path / "JPEGImages" / f"{name}.jpg")
    return Dataset(root=tmp_path, classes=("x",), splits={}, labels={})


def test_images_are_grouped_by_size_over_the_whole_split(dataset: Dataset) -> None:
    batches = list(same_size_batches(dataset, list(SIZES), limit=2))
    assert [names for names, _ in batches] == [["a", "c"], ["f"], ["b", "e"], ["d"]]
    for names, images in batches:
        assert images.shape == (len(names), *SIZES[names[0]], 3)
        for name, image in zip(names, images, strict=True):
            np.testing.assert_array_equal(image, dataset.image(name))


def test_no_names_give_no_batches(dataset: Dataset) -> None:
    assert list(same_size_batches(dataset, [], limit=4)) == []
