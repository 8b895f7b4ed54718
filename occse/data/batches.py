"""Images grouped for inference."""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import UInt8

from occse.data.dataset import Dataset


def same_size_batches(
    dataset: Dataset, names: Sequence[str], *, limit: int
) -> Iterator[tuple[list[str], UInt8[np.ndarray, "B H W 3"]]]:
    """Yield images of one size, at most `limit` together.

    The images are grouped by size over all `names`, because neighbours in a data set such as VOC
    rarely have the same size. Sizes come in the order of their first image, images of one size in
    the order of `names`. Sizes are read from the headers of the files; only the images of one batch
    are in memory.
    """
    by_size: dict[tuple[int, int], list[str]] = {}
    for name in names:
        by_size.setdefault(dataset.size(name), []).append(name)
    for group in by_size.values():
        for first in range(0, len(group), limit):
            batch = group[first : first + limit]
            yield batch, np.stack([dataset.image(name) for name in batch])
