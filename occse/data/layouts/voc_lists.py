"""VOC's split lists, and `train_aug` made from SBD where there is no list of it."""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Literal

from occse.data.reading import composed, numbered_lines

# A bare id, or a line of a segmentation list: image path and mask path. An id is the name of a file
# without its suffix. Artifacts are named after it, so it has no slash and begins with no dot.
LINE = re.compile(
    r"(?:/?JPEGImages/)?((?!\.)[^/\\\x00-\x1f\x7f]+?)"
    r"(?:\.(?:jpe?g|png)(?:\s+/?SegmentationClass\w*/\1\.png)?)?",
    re.IGNORECASE,
)
TrainedList = Literal[
    "train_aug",  # VOC and SBD
    "train",  # VOC alone, or a user's own list
]
# Folders with the lists of SBD, below VOC2012 or one of the two folders above it: as the archive
# unpacks, or moved into a folder of its own.
SBD_FOLDERS = (
    "benchmark_RELEASE/dataset",
    "benchmark_RELEASE",
    *("SBD/benchmark_RELEASE/dataset", "SBD/benchmark_RELEASE", "SBD/dataset", "SBD/"),
    *("sbd/benchmark_RELEASE/dataset", "sbd/benchmark_RELEASE", "sbd/dataset", "sbd/"),
)


def list_path(root: Path, split: str) -> Path:
    """Return the path of the list of a split."""
    return root / "ImageSets" / "Segmentation" / f"{split}.txt"


def read_lists(
    root: Path, splits: Sequence[str], *, trained: TrainedList = "train_aug"
) -> tuple[dict[str, tuple[str, ...]], dict[str, Path]]:
    """Return image names by split, and the file or folder that each split comes from.

    Without a list, `train_aug` is VOC train + SBD train + SBD val - VOC val, sorted by name. SBD
    is searched below and beside the tree (`benchmark_RELEASE`, or `SBD`). Without SBD the names
    are those of the masks in `SegmentationClassAug`.

    Args:
        root: the folder VOC2012, or one in its layout.
        splits: names of the lists.
        trained: "train": the list `train` is that of the training images as well.

    Raises:
        ValueError: a list is missing, empty, no text, or names an image twice; `train` is no
            subset of `train_aug`, or other splits overlap.
    """
    sources = {split: list_path(root, split) for split in splits}
    if trained == "train" and "train_aug" in sources:
        sources["train_aug"] = sources["train"]
    derived = "train_aug" in sources and not sources["train_aug"].is_file()
    lists = {
        split: read_list(path)
        for split, path in sources.items()
        if not derived or split != "train_aug"
    }
    if derived:
        lists["train_aug"], sources["train_aug"] = _train_aug(
            root, train=lists["train"], val=lists["val"]
        )
    _check_overlap(lists, sources)
    return lists, sources


def read_list(path: Path) -> tuple[str, ...]:
    """Read the image names of a list, in its order.

    A line is a bare id, or the paths of an image and its mask.

    Raises:
        ValueError: the list is missing or empty, names an image twice, or has another kind of
            line.
    """
    names: dict[str, int] = {}
    if not path.is_file():
        raise ValueError(f"{path} is missing; expected the list of a split, one image id per line")
    for number, line in numbered_lines(path, expected="the list of a split"):
        match = LINE.fullmatch(line)
        if match is None:
            raise ValueError(
                f"{path}:{number}: {line[:200]!r} names no image; expected an id such as "
                "2007_000032 or '/JPEGImages/2007_000032.jpg /SegmentationClass/2007_000032.png'"
            )
        name = composed(match[1])
        if name in names:
            raise ValueError(
                f"{path}:{number}: {name} is listed twice, first on line {names[name]}"
            )
        names[name] = number
    if not names:
        raise ValueError(f"{path} lists no image; expected one id per line")
    return tuple(names)


def _train_aug(
    root: Path, *, train: Sequence[str], val: Sequence[str]
) -> tuple[tuple[str, ...], Path]:
    for folder in _sbd_folders(root):
        if all((folder / f"{split}.txt").is_file() for split in ("train", "val")):
            both = {*read_list(folder / "train.txt"), *read_list(folder / "val.txt")}
            return tuple(sorted((both | set(train)) - set(val))), folder
    masks = root / "SegmentationClassAug"
    if masks.is_dir():
        masked = {path.stem for path in masks.glob("*.png")}
        return tuple(sorted((masked | set(train)) - set(val))), masks
    raise ValueError(
        f"{list_path(root, 'train_aug')} is missing; data.trained=train trains on the list train "
        "alone, as trees of your own do. Otherwise expected that list, which VOC does not bring "
        "(the 10,582 images of VOC and SBD that are not in VOC's val), or SBD "
        f"(benchmark_RELEASE/dataset with train.txt and val.txt) in {root.absolute().parent} "
        f"or beside it, or the masks of all of these images in {masks}"
    )


def _sbd_folders(root: Path) -> Iterator[Path]:
    for base in (root, *list(root.absolute().parents)[:2]):
        yield from (base / folder for folder in SBD_FOLDERS)


def _check_overlap(lists: Mapping[str, Sequence[str]], sources: Mapping[str, Path]) -> None:
    """Raise ValueError unless `train` is part of `train_aug` and other splits are disjoint."""
    for first, second in combinations(lists, 2):
        shared = set(lists[first]) & set(lists[second])
        if {first, second} == {"train", "train_aug"}:
            outside = sorted(set(lists["train"]) - shared)
            if outside:
                raise ValueError(
                    f"{sources['train']} names {outside[0]} (and {len(outside) - 1} more) that "
                    f"{sources['train_aug'].name} lacks; expected train to be a subset of train_aug"
                )
        elif shared:
            raise ValueError(
                f"{sources[first]} and {sources[second]} share {min(shared)} "
                f"(and {len(shared) - 1} more); expected disjoint splits"
            )
