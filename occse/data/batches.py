"""Images grouped for inference."""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import UInt8

from occse.data.dataset import Dataset


def same_size_batches(
    dataset: Dataset, names: Sequence[str], *, limit: int
) -> Iterator[tuple[list[str], UInt8[np.ndarray, "B H W 3"]]]:
    """Yield consecutive images of one size, at most `limit` together, in the order of `names`."""
    batch: list[str] = []
    images: list[np.ndarray] = []
    for name in names:
        image = dataset.image(name)
        if images and (len(images) == limit or image.shape != images[0].shape):
            yield batch, np.stack(images)
            batch, images = [], []
        batch.append(name)
        images.append(image)
    if images:
        yield batch, np.stack(images)
