"""Outlines of objects in MS COCO's files: polygons and run lengths, drawn by pycocotools.

pycocotools trusts its input; here every outline is checked before it is given to it.
"""

import warnings
from dataclasses import dataclass
from types import ModuleType
from typing import TypeAlias

import numpy as np

# pycocotools computes with 32-bit integers and takes memory by the perimeter of a polygon.
MAX_COORDINATE = 1e6
MAX_PERIMETER = 1e6

Polygons: TypeAlias = list[list[float]]


@dataclass(frozen=True, slots=True)
class RunLengths:
    """Lengths of runs that are alternately outside and inside an object, column by column.

    `counts` is a list, or pycocotools' compressed text of it (`decompress`).
    """

    size: tuple[int, int]
    counts: list[int] | str


Segmentation: TypeAlias = Polygons | RunLengths


def inside(segmentation: Segmentation, *, height: int, width: int) -> np.ndarray:
    """Return the pixels of an object, (height, width) booleans, as pycocotools' `annToMask` does.

    Raises:
        ValueError: the outline is not a closed polygon near the image, or the runs do not add up to
            the image.
    """
    tools = _pycocotools()
    if isinstance(segmentation, RunLengths):
        counts = segmentation.counts
        if isinstance(counts, str):
            counts = decompress(counts, most=height * width + 1)
        if (
            segmentation.size != (height, width)
            or min(counts, default=-1) < 0
            or sum(counts) != height * width
        ):
            raise ValueError(f"has runs that do not add up to {height} x {width}")
        runs = tools.frPyObjects({"size": [height, width], "counts": counts}, height, width)
    else:
        # Two points enclose nothing, and pycocotools takes four numbers for a box.
        polygons = [_checked(polygon) for polygon in segmentation if len(polygon) > 4]
        if not polygons:
            return np.zeros((height, width), bool)
        runs = tools.merge(tools.frPyObjects(polygons, height, width))
    # pycocotools creates arrays in a way that numpy has deprecated.
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="__array__ implementation", category=DeprecationWarning
        )
        return np.asarray(tools.decode(runs)).astype(bool)


def decompress(text: str, *, most: int) -> list[int]:
    """Return the run lengths that pycocotools compressed into `text`.

    A number takes one character for every five bits, from the lowest; bit 5 says that another
    character follows, and the sign is that of the last one. From the fourth number on, the
    difference to the number before the last is stored. pycocotools decodes such text without any
    bound, so it is not given to it.

    Args:
        text: characters from "0" (0) to "o" (63).
        most: largest allowed number of runs.

    Raises:
        ValueError: the text ends within a number, or has another character, or too many numbers.
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - ord("0")
        # Run lengths are below 2^31: seven characters hold any difference of two of them.
        if not 0 <= bits < 64 or shift > 30 or len(counts) >= most:
            raise ValueError("has compressed runs that are damaged")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value = shift = 0
    if shift:
        raise ValueError("has compressed runs that are cut off")
    return counts


def _checked(polygon: list[float]) -> list[float]:
    points = np.array(polygon)
    if points.size % 2 or not (np.abs(points) <= MAX_COORDINATE).all():
        raise ValueError("has a polygon with half a point, or one far off")
    steps = np.diff(points.reshape(-1, 2), axis=0, append=points[None, :2])
    if np.abs(steps).max(axis=1).sum() > MAX_PERIMETER:
        raise ValueError(f"has a polygon longer than {MAX_PERIMETER:.0f} pixels")
    return polygon


def _pycocotools() -> ModuleType:
    try:
        from pycocotools import mask
    except ImportError:
        raise ValueError(
            "masks of MS COCO need pycocotools, which is not installed; install occse[coco]"
        ) from None
    module: ModuleType = mask
    return module
