"""The files of a data set as a whole: their digest, their counts and their faults."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from occse.data.dataset import Dataset
from occse.data.reading import num_bytes

# The splits that are scored.
MASKED_SPLITS = ("train", "val")
# Images without labels and masks, for the evaluation server.
TEST_SPLIT = "test"


def masked_names(dataset: Dataset) -> list[str]:
    """Return the images whose masks are read, ascending: those of `train` and `val`."""
    lists = [dataset.splits.get(split, ()) for split in MASKED_SPLITS]
    return sorted(set[str]().union(*lists))


def tree_digest(dataset: Dataset) -> str:
    """Return a SHA-256 (hex) of the files behind a data set.

    It covers the classes, the splits, the image labels (whatever file they come from), and the
    sizes in bytes of the images and of the masks of `train` and `val`. For masks that are drawn
    from `sources`, it covers the content of those files. Images are not read, so all of VOC takes
    seconds.

    Raises:
        ValueError: one of those files is missing.
    """
    digest = hashlib.sha256(f"{dataset.classes}\n".encode())
    for split, names in sorted(dataset.splits.items()):
        digest.update(f"{split} {' '.join(names)}\n".encode())
    for path in dataset.sources:
        digest.update(f"{path.name} {_sha256(path)}\n".encode())
    masked = set(masked_names(dataset)) if not dataset.sources else set()
    for name, present in sorted(dataset.labels.items()):
        sizes = [num_bytes(dataset.image_path(name))]
        if name in masked:
            sizes.append(num_bytes(dataset.mask_path(name)))
        digest.update(f"{name} {present} {sizes}\n".encode())
    for name in dataset.splits.get(TEST_SPLIT, ()):
        digest.update(f"{name} {num_bytes(dataset.image_path(name))}\n".encode())
    return digest.hexdigest()


def faults(dataset: Dataset) -> Iterator[str]:
    """Yield the faults of the files. The header of every image and all of every mask are read."""
    for name in (*dataset.labels, *dataset.splits.get(TEST_SPLIT, ())):
        try:
            dataset.size(name)
        except ValueError as error:
            yield str(error)
    for name in masked_names(dataset):
        try:
            dataset.mask(name)
        except ValueError as error:
            yield str(error)


def describe(dataset: Dataset, *, published: Mapping[str, int]) -> Iterator[str]:
    """Yield lines for people: images by split, by number of classes, and by class.

    `published` has the known numbers of images by split; they are shown where they differ.
    """
    yield from (f"note: {note}" for note in dataset.notes)
    width = max(map(len, (*dataset.splits, *dataset.classes)))
    for split, names in dataset.splits.items():
        known = published.get(split, len(names))
        difference = f" (published: {known:,})" if known != len(names) else ""
        yield f"{split:<{width}}  {len(names):>7,} images{difference}"
    trained = dataset.splits["train_aug"]
    numbers = Counter(len(dataset.labels[name]) for name in trained)
    yield "train_aug, images by number of classes:"
    for number, images in sorted(numbers.items()):
        yield f"{number:>{width}}  {images:>7,}  {100 * images / len(trained):.1f} %"
    yield f"{'images by class':<{width}}  " + "  ".join(f"{split:>9}" for split in dataset.splits)
    counts = [_images_by_class(dataset, names) for names in dataset.splits.values()]
    for index, label in enumerate(dataset.classes):
        yield f"{label:<{width}}  " + "  ".join(f"{count[index]:>9,}" for count in counts)


def _images_by_class(dataset: Dataset, names: Iterable[str]) -> Counter[int]:
    counts: Counter[int] = Counter()
    for name in names:
        counts.update(dataset.labels.get(name, ()))
    return counts


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
