"""The files of a data set as a whole: their digest, their counts and their faults."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from occse.data.dataset import Dataset
from occse.data.file_digests import sha256_of_all

# The splits that are scored.
MASKED_SPLITS = ("train", "val")
# Images without labels and masks, for the evaluation server.
TEST_SPLIT = "test"


def masked_names(dataset: Dataset) -> list[str]:
    """Return the images whose masks are read, ascending: those of `train` and `val`."""
    lists = [dataset.scored(split) for split in MASKED_SPLITS]
    return sorted(set[str]().union(*lists))


def tree_digest(dataset: Dataset) -> str:
    """Return a SHA-256 (hex) of the files behind a data set.

    It covers the classes, the splits, the image labels (whatever file they come from), and the
    content of the images and of the masks of `train`, or of the `sources` that masks are drawn
    from. Contents are hashed once, see `sha256_of_all`. The images and masks of `val` and `test`
    are left out: `split_digest` covers them for the stage that reads them. Names and labels of
    `val` are in, and all of COCO's annotations, because the artifact of the data holds them: its
    index names the images of all splits and their labels, and COCO's masks are drawn into it. An
    index of `val` that is not part of its identity would be that of whatever tree came first, and
    `seg` scores with it: which images, and which of them show several classes.

    Raises:
        ValueError: one of those files is missing.
    """
    digest = hashlib.sha256(f"{dataset.classes}\n".encode())
    for split, names in sorted(dataset.splits.items()):
        digest.update(f"{split} {' '.join(names)}\n".encode())
    for path, sha256 in zip(dataset.sources, sha256_of_all(dataset.sources), strict=True):
        digest.update(f"{path.name} {sha256}\n".encode())
    for name, present in sorted(dataset.labels.items()):
        # Whether an image has a mask counts for all splits: it decides which images are scored.
        digest.update(f"{name} {present} {name in dataset.unmasked}\n".encode())
    trained = {*dataset.splits["train_aug"], *dataset.splits["train"]}
    _add_files(digest, dataset, sorted(trained), masked=dataset.scored("train"))
    return digest.hexdigest()


def split_digest(dataset: Dataset, split: str) -> str:
    """Return a SHA-256 (hex) of the images of a split, and of its masks where they are files.

    Raises:
        ValueError: one of those files is missing.
    """
    digest = hashlib.sha256()
    masked = dataset.scored(split) if split in MASKED_SPLITS else ()
    _add_files(digest, dataset, sorted(dataset.splits.get(split, ())), masked=masked)
    return digest.hexdigest()


def _add_files(
    digest: "hashlib._Hash", dataset: Dataset, names: Sequence[str], *, masked: Iterable[str]
) -> None:
    """Add the content of the images `names`, and of those of their masks that are files."""
    with_mask = [] if dataset.masks_drawn else sorted(masked)
    images = sha256_of_all(dataset.image_path(name) for name in names)
    masks = sha256_of_all(dataset.mask_path(name) for name in with_mask)
    for name, sha256 in (*zip(names, images, strict=True), *zip(with_mask, masks, strict=True)):
        digest.update(f"{name} {sha256}\n".encode())


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


def doubts_of(dataset: Dataset) -> Iterator[str]:
    """Yield what makes a data set doubtful, as far as lists and labels tell; no file is read."""
    counts = _images_by_class(dataset, dataset.splits["train_aug"])
    never = [name for index, name in enumerate(dataset.classes) if not counts[index]]
    if never:
        yield (
            f"no training image has the class {', '.join(never)}, so its score will be 0: leave it "
            "out of the classes, or mend the labels"
        )
    everywhere = [
        name
        for index, name in enumerate(dataset.classes)
        if counts[index] == len(dataset.splits["train_aug"]) > 1
    ]
    if everywhere:
        yield (
            f"every training image has the class {', '.join(everywhere)}: nothing tells it from "
            "the background; it may be the background itself, which is not a class"
        )


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
