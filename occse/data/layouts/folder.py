"""The layout of a user's own data: a folder of images, a table of image labels, and masks."""

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator

from occse.data.dataset import MASK_SUFFIXES, VOID, Dataset
from occse.data.layouts.labels_of_masks import with_labels_of_masks
from occse.data.reading import check_root, composed, numbered_lines, read_text
from occse.naming.counts import number

# The columns of labels.csv that are read; other columns are allowed.
COLUMNS = ("image", "split", "labels")
SPLITS = ("train", "val")
# Names in class lists, in lower case, that are no class: LabelMe and VOC tools write them.
NOT_CLASSES = frozenset({"background", "_background_", "__background__", "__ignore__"})
SUFFIXES = (".jpg", ".jpeg", ".png")
LabelSource = Literal[
    "csv",  # the column `labels` of labels.csv
    "masks",  # the classes that the masks show
]
# Image names become names of files and archive members, so they have no slash and no control
# character, and do not begin with a dot.
NAME = re.compile(r"(?!\.)[^/\\\x00-\x1f\x7f]+")


def read_folder(root: Path, *, labels: LabelSource = "csv") -> Dataset:
    """Read the data set below `root`.

    - `classes.txt` has one class per line. The first is label 1 in a mask, 0 is background and 255
      is void.
    - `labels.csv` has the columns `image` (a file in `images`, with or without suffix), `split`
      (`train` or `val`) and `labels` (classes, separated by semicolons). An image may have several
      rows; their labels are joined.
    - `images` holds JPEG or PNG files.
    - `masks` holds PNG files, palette or grey, with the names of their images.

    All of `train` is trained on (split `train_aug`). Its images with a mask are scored (split
    `train`), and so are the images of `val` with a mask; those without are segmented only. Without
    any mask nothing is scored, and `masks` may be missing.

    File names and the names in `labels.csv` are compared in Unicode's composed form, because some
    systems store "ü" as two characters.

    Args:
        root: the folder.
        labels: "masks" takes the image labels from the masks, so that every image of `train` needs
            one; the column `labels` may then be missing.

    Raises:
        ValueError: a file is missing or unreadable, names an unknown class, split or image, or
            contradicts itself; or an image of `train` has no label.
    """
    check_root(root)
    needed = ("classes.txt", "labels.csv", "images")
    if missing := [name for name in needed if not (root / name).exists()]:
        raise ValueError(f"{root} lacks {', '.join(missing)}; expected {', '.join(needed)}")
    classes = _read_classes(root / "classes.txt")
    files = image_files(root / "images")
    splits, named = read_table(
        root / "labels.csv",
        classes=classes,
        named_by="classes.txt",
        files=files,
        folder=root / "images",
        suffixes=SUFFIXES,
        with_labels=labels == "csv",
    )
    masked = {
        composed(path.stem) for path in (root / "masks").glob("*") if path.suffix in MASK_SUFFIXES
    }
    scored = {
        split: tuple(name for name in names if name in masked) for split, names in splits.items()
    }
    dataset = Dataset(
        root=root,
        classes=classes,
        splits={"train_aug": splits["train"], "train": scored["train"], "val": splits["val"]},
        labels=named,
        files={name: f"images/{files[name]}" for name in named},
        masks=root / "masks",
        # Images of train without a mask need no entry: the split `train` has only those with one.
        unmasked=frozenset(splits["val"]).difference(masked),
        notes=tuple(_notes(root / "masks", splits, scored, loose=len(masked - named.keys()))),
    )
    if labels == "masks":
        dataset = with_labels_of_masks(dataset)
    _check(root, splits, dataset.labels)
    return dataset


def _notes(
    masks: Path,
    splits: Mapping[str, Sequence[str]],
    scored: Mapping[str, Sequence[str]],
    *,
    loose: int,
) -> Iterator[str]:
    if loose:
        yield f"{number(loose, 'mask')} of no image in labels.csv"
    others = sorted(path.name for path in masks.glob("*") if path.suffix not in MASK_SUFFIXES)
    if others:
        yield (
            f"{number(len(others), 'file')} in {masks}, the first {others[0]}, not read: "
            "expected NAME.png"
        )
    if not scored["train"]:
        yield "no image of train has a mask: CAMs and pseudo labels are not scored"
    elif len(scored["train"]) < len(splits["train"]):
        there = f"{len(scored['train'])} of the {len(splits['train'])} images of train"
        yield f"{there} have a mask: the others are not scored"
    lacking = len(splits["val"]) - len(scored["val"])
    if lacking:
        yield f"{number(lacking, 'image')} of val without mask: segmented and not scored"


def is_class(name: str) -> bool:
    """Tell if `name` can be that of a class: printable, without semicolon, no background."""
    return name.isprintable() and ";" not in name and name.lower() not in NOT_CLASSES


def _checked_class(name: str) -> str:
    if not name or name != name.strip() or not is_class(name):
        raise ValueError(
            f"{name!r} is not a class; expected printable characters without semicolons, and "
            "not the background, which is always label 0"
        )
    return name


ClassName = Annotated[str, AfterValidator(_checked_class)]
"""Name of a class in a knob."""


def _read_classes(path: Path) -> tuple[str, ...]:
    classes: list[str] = []
    for place, line in numbered_lines(path, expected="one class per line"):
        if line in classes or not is_class(line):
            raise ValueError(
                f"{path}:{place}: {line[:100]!r}; expected every class once, in printable "
                "characters without semicolons, and without the background, which is always label "
                "0: with its line every label of a mask would be that of the class before"
            )
        classes.append(line)
    if not 1 <= len(classes) < VOID:
        raise ValueError(
            f"{path} has {len(classes)} classes; expected 1 to {VOID - 1}, one per line"
        )
    return tuple(classes)


def image_files(folder: Path) -> dict[str, str]:
    """Return files by image name, which is the file's name without suffix."""
    files: dict[str, str] = {}
    for path in sorted(folder.iterdir()):
        name = composed(path.stem)
        if path.suffix.lower() not in SUFFIXES:
            continue
        if name in files:
            raise ValueError(
                f"{folder} has {files[name]} and {path.name}; expected one file per name"
            )
        files[name] = path.name
    return files


def read_table(
    path: Path,
    *,
    classes: Sequence[str],
    named_by: str,
    files: Mapping[str, str],
    folder: Path,
    suffixes: Sequence[str],
    with_labels: bool = True,
) -> tuple[dict[str, tuple[str, ...]], dict[str, tuple[int, ...]]]:
    """Return image names by split, in the order of the file, and class indices by image name.

    Args:
        path: of labels.csv.
        classes: names of the classes.
        named_by: the file or the knob that names them, for messages.
        files: file names by image name.
        folder: of these files, for messages.
        suffixes: of these files, for messages.
        with_labels: read the column `labels`; otherwise no image has a class.

    Raises:
        ValueError: the table is damaged, has no image of a split, or names an unknown image, split
            or class.
    """
    columns = COLUMNS if with_labels else COLUMNS[:2]
    position = {composed(label): index for index, label in enumerate(classes)}
    names = {composed(file): name for name, file in files.items()} | {name: name for name in files}
    split_of: dict[str, str] = {}
    found: dict[str, set[int]] = {}
    for line, row in _rows(path, columns):
        image, split = (composed(row[column].strip()) for column in COLUMNS[:2])
        listed = composed(row["labels"]) if with_labels else ""
        labels = [label.strip() for label in listed.split(";") if label.strip()]
        if image not in names or not NAME.fullmatch(names[image]):
            near = [file for file in files.values() if _stem(file) == _stem(image)]
            there = f" (there is {near[0]})" if near else ""
            if NAME.fullmatch(image) and (folder / image).is_file():
                there = " that is read (the file is there: convert it)"
            raise ValueError(
                f"{path}:{line}: no image {image[:100]!r} in {folder}{there}; expected the name "
                f"of a {', '.join(suffixes)} file there, in quotes if it has a comma"
            )
        if split not in SPLITS:
            raise ValueError(
                f"{path}:{line}: the split {split[:100]!r}; expected {' or '.join(SPLITS)}"
            )
        if unknown := [label for label in labels if label not in position]:
            raise ValueError(
                f"{path}:{line}: the class {unknown[0][:100]!r}; "
                f"{named_by} has {', '.join(classes)}"
            )
        if split_of.setdefault(names[image], split) != split:
            raise ValueError(
                f"{path}:{line}: {image} is in {split_of[names[image]]} and in {split}"
            )
        found.setdefault(names[image], set()).update(position[label] for label in labels)
    by_split: dict[str, list[str]] = {split: [] for split in SPLITS}
    for name, split in split_of.items():
        by_split[split].append(name)
    splits = {split: tuple(names) for split, names in by_split.items()}
    for split in SPLITS:
        if not splits[split]:
            raise ValueError(
                f"{path} has no image in the split {split}; expected at least one of train and one "
                "of val (a mask of it is only needed for a score)"
            )
    return splits, {name: tuple(sorted(present)) for name, present in found.items()}


def _stem(file: str) -> str:
    """Return a file's name without its suffix, as a file system without cases compares it."""
    return composed(Path(file).stem).casefold()


def _rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    reader = csv.DictReader(
        read_text(path, expected="a table of image labels").splitlines(), strict=True
    )
    try:
        header = [(column or "").strip() for column in reader.fieldnames or ()]
        if missing := [column for column in columns if header.count(column) != 1]:
            raise ValueError(
                f"{path} lacks the column {missing[0]}; "
                f"expected {','.join(columns)} in its first line, not {','.join(header)[:100]}"
            )
        reader.fieldnames = header
        for row in reader:
            # `DictReader` puts surplus values under the key None, and None for missing ones.
            if None in row or None in row.values():
                raise ValueError(
                    f"{path}:{reader.line_num}: expected {len(header)} values, as in the first line"
                )
            yield reader.line_num, row
    except csv.Error as error:
        raise ValueError(
            f"{path}:{reader.line_num}: {error}; expected comma-separated values"
        ) from None


def _check(
    root: Path, splits: Mapping[str, Sequence[str]], labels: Mapping[str, Sequence[int]]
) -> None:
    if bare := [name for name in splits["train"] if not labels[name]]:
        raise ValueError(
            f"{root / 'labels.csv'}: {bare[0]} (and {len(bare) - 1} more) of train has no label; "
            "without a class there is nothing to train on: label it or leave it out, "
            "or take labels from masks with data.labels=masks"
        )
