"""`dict/NAME.npy` of the official code: a pickled dict of one image's normalized CAMs by class."""

from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64

from occse.data.npy_dicts.pickled import Value, refusing, saved_array, saved_dict
from occse.data.reading import read_bytes

# Twenty float32 maps of 1,100 x 1,100 take this much.
MAX_BYTES = 100_000_000
# A map takes thirty pickle instructions.
MAX_INSTRUCTIONS = 10_000


def read_class_maps(
    path: Path, *, num_classes: int
) -> tuple[Float32[np.ndarray, "K H W"], Int64[np.ndarray, " K"]]:
    """Read the CAMs of an image, in [0, 1], and their class indices, ascending.

    Raises:
        ValueError: the file is missing, larger than 100 MB or damaged; or it holds anything but a
            dict of numpy arrays, from classes below `num_classes` to maps of one size.
    """
    content = read_bytes(path, limit=MAX_BYTES, expected="a dict of CAMs, saved by numpy")
    expected = (
        f"a dict from classes 0 to {num_classes - 1} to maps of one size with scores from 0 to 1"
    )
    with refusing(path, kind="file of CAMs", expected=expected):
        saved = saved_dict(content, max_instructions=MAX_INSTRUCTIONS)
        classes = np.array(sorted(_class(key, num_classes) for key in saved), np.int64)
        maps = [_map(saved[index]) for index in classes.tolist()]
        sizes = {cam.shape for cam in maps}
        if len(sizes) > 1:
            raise ValueError(f"it has maps of the sizes {sorted(sizes)}")
        return np.stack(maps), classes


def _class(key: str | int, num_classes: int) -> int:
    if type(key) is not int or not 0 <= key < num_classes:
        raise ValueError(f"a key is {str(key)[:50]!r}, not a class")
    return key


def _map(value: Value) -> Float32[np.ndarray, "H W"]:
    array = saved_array(value)
    if array is None or array.ndim != 2 or array.dtype.kind != "f":
        raise ValueError("a class has no map of floating-point numbers")
    if not (np.isfinite(array).all() and array.min() >= 0 and array.max() <= 1):
        raise ValueError(f"a map goes from {array.min():g} to {array.max():g}")
    return array.astype(np.float32)
