"""CAMs of other methods, a file NAME.npy for each image, as psa, OC-CSE, SEAM and irn leave them.

psa's dictionary goes from class index to map. irn's has `keys` (class indices), `high_res` (maps at
the image's size) and `cam` (maps at the network's stride); some of them are tensors of torch.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64

from occse.data.npy_dicts.pickled import Value, refusing, saved_array, saved_dict
from occse.data.reading import read_bytes

# Eighty float32 maps of 1,000 x 1,000, twice.
MAX_BYTES = 700_000_000
# A map takes thirty pickle instructions.
MAX_INSTRUCTIONS = 10_000
# Rounding of float16 and of divisions by the maximum.
ABOVE_ONE = 1e-3
KEYS = "keys"
MAPS = ("high_res", "cam")


def read_cams(
    path: Path, *, num_classes: int
) -> tuple[Float32[np.ndarray, "K h w"], Int64[np.ndarray, " K"]]:
    """Read the CAMs of an image, in [0, 1], and their class indices, ascending.

    Values below 0, which SEAM's normalization leaves, become 0.

    Raises:
        ValueError: the file is missing, larger than 700 MB or damaged; or it is neither psa's nor
            irn's dictionary; or a map is above 1 or not finite.
    """
    content = read_bytes(path, limit=MAX_BYTES, expected="a dict of CAMs, saved by numpy")
    expected = (
        f"psa's dict from classes 0 to {num_classes - 1} to maps, or irn's with {KEYS} and "
        f"{' or '.join(MAPS)}; scores from 0 to 1"
    )
    with refusing(path, kind="file of CAMs", expected=expected):
        saved = saved_dict(content, max_instructions=MAX_INSTRUCTIONS)
        classes, maps = _of_irn(saved) if KEYS in saved else _of_psa(saved)
        if len(set(classes)) < len(classes) or len(classes) != len(maps):
            raise ValueError(f"it has {len(maps)} maps for the classes {classes[:50]}")
        if min(classes) < 0 or max(classes) >= num_classes:
            raise ValueError(f"it has the classes {classes[:50]}")
        order = np.argsort(classes)
        cams = np.asarray(maps, np.float32)[order]
        if not np.isfinite(cams).all() or cams.max() > 1 + ABOVE_ONE:
            raise ValueError(f"its maps go from {cams.min():g} to {cams.max():g}")
        return np.clip(cams, 0, 1), np.array(classes, np.int64)[order]


def _of_psa(saved: Mapping[str | int, Value]) -> tuple[list[int], np.ndarray]:
    classes = [key for key in saved if type(key) is int]
    if len(classes) < len(saved):
        other = next(key for key in saved if type(key) is not int)
        raise ValueError(f"a key is {str(other)[:50]!r}, not a class")
    maps = [_numbers(saved[index], "f", dimensions=2) for index in classes]
    if len({cam.shape for cam in maps}) > 1:
        raise ValueError(f"it has maps of the sizes {sorted({cam.shape for cam in maps})}")
    return classes, np.stack(maps)


def _of_irn(saved: Mapping[str | int, Value]) -> tuple[list[int], np.ndarray]:
    keys = _numbers(saved[KEYS], "iu", dimensions=1)
    found = [name for name in MAPS if name in saved]
    if not found:
        raise ValueError(f"it has {KEYS}, but neither {' nor '.join(MAPS)}")
    return keys.tolist(), _numbers(saved[found[0]], "f", dimensions=3)


def _numbers(value: Value, kinds: str, *, dimensions: int) -> np.ndarray:
    array = saved_array(value)
    if array is None or array.ndim != dimensions or array.dtype.kind not in kinds:
        raise ValueError(f"a value is not an array of numbers of {dimensions} dimensions")
    return array
