"""Lists of image ids of MS COCO, with which other programs say which images they use."""

import re
from collections.abc import Mapping
from pathlib import Path

from occse.data.reading import numbered_lines

# An id as a number with or without leading zeros, the name of an image, or its file.
SUFFIX = re.compile(r"\.(?:jpe?g|png|npy)$", re.IGNORECASE)


def read_ids(path: Path, names: Mapping[int, str]) -> set[int]:
    """Return the ids of the images that a text file lists, one a line.

    Args:
        path: of the file.
        names: image names by id, of the instances file.

    Raises:
        ValueError: the file cannot be read or is empty, names an image twice, or one that is not
            in the instances file.
    """
    by_name = {name: image for image, name in names.items()}
    lines: dict[int, int] = {}
    for number, line in numbered_lines(path, expected="a list of image ids, one a line"):
        text = SUFFIX.sub("", line)
        # Names first: an image may be called by a number that is another one's id.
        image = by_name.get(text)
        # Ids of MS COCO have at most twelve digits.
        if image is None and text.isascii() and text.isdecimal() and len(text) <= 12:
            image = int(text)
        if image is None or image not in names:
            raise ValueError(
                f"{path}:{number}: {line[:100]!r} is not an image of the instances file; "
                "expected an id such as 9 or 000000000009, or a name such as "
                "COCO_train2014_000000000009"
            )
        if image in lines:
            raise ValueError(
                f"{path}:{number}: {line[:100]} is listed twice, first on line {lines[image]}"
            )
        lines[image] = number
    if not lines:
        raise ValueError(f"{path} lists no image; expected one id per line")
    return set(lines)
