"""Image labels that masks give, where nobody has written them down."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from occse.data.dataset import VOID, Dataset


def with_labels_of_masks(dataset: Dataset) -> Dataset:
    """Return `dataset` with the classes that each mask shows as the labels of its image.

    An image of `val` without a mask has none; nothing is trained on it.

    Raises:
        ValueError: an image of `train_aug` has no mask, or one without any class; or a mask is
            damaged.
    """
    trained = set(dataset.splits["train_aug"])
    labels = dict(dataset.labels)
    for name in dict.fromkeys(_names(dataset)):
        if name not in trained and not dataset.mask_path(name).is_file():
            labels[name] = ()
            continue
        labels[name] = _shown(dataset, name)
        if name in trained and not labels[name]:
            raise ValueError(
                f"{dataset.mask_path(name)} shows no class, so its image has no label; "
                f"leave the image out of train{_void_hint(dataset, name)}"
            )
    return replace(dataset, labels=labels)


def _void_hint(dataset: Dataset, name: str) -> str:
    """Return the end of the message on a mask without class, where it has void pixels."""
    if not (dataset.mask(name) == VOID).any():
        return ""
    return (
        f" (its pixels of {VOID} are void: where they are meant as a class, "
        f"`python -m occse data relabel MASKS --out FOLDER {VOID}=1` writes the masks anew)"
    )


def _names(dataset: Dataset) -> Iterator[str]:
    for split in ("train_aug", "train", "val"):
        yield from dataset.splits[split]


def _shown(dataset: Dataset, name: str) -> tuple[int, ...]:
    if not dataset.mask_path(name).is_file():
        raise ValueError(
            f"{dataset.mask_path(name)} is missing; data.labels=masks takes the labels of every "
            "training image from its mask: draw it, leave the image out, or take the labels from "
            "elsewhere (see `python -m occse knobs data.labels`)"
        )
    counts = np.bincount(dataset.mask(name).ravel(), minlength=VOID + 1)
    # Label 0 is the background, and label i + 1 is class i.
    return tuple(int(label) - 1 for label in np.flatnonzero(counts[:VOID]) if label > 0)
