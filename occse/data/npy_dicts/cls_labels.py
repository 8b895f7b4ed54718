"""`cls_labels.npy` of jiwoon-ahn/psa and jiwoon-ahn/irn: a pickled dict of image labels."""

from pathlib import Path

import numpy as np

from occse.data.npy_dicts.pickled import Value, refusing, saved_array, saved_dict
from occse.data.reading import read_bytes

# The labels of VOC's 17,125 images take 4 MB.
MAX_BYTES = 16_000_000
# The labels of VOC's 17,125 images take 300,000 pickle instructions.
MAX_INSTRUCTIONS = 2_000_000


def read_cls_labels(path: Path, *, num_classes: int) -> dict[str, tuple[int, ...]]:
    """Read the indices of the present classes, ascending, by image name.

    Names are text (jiwoon-ahn/psa), or integers such as 2007000032 for 2007_000032
    (jiwoon-ahn/irn).

    Raises:
        ValueError: the file is missing, larger than 16 MB or damaged; or it holds anything but a
            dict of numpy arrays, from names to `num_classes` zeros and ones.
    """
    content = read_bytes(path, limit=MAX_BYTES, expected="a dict of image labels, saved by numpy")
    expected = f"a dict from image names to {num_classes} zeros and ones"
    with refusing(path, kind="cls_labels.npy", expected=expected):
        labels = saved_dict(content, max_instructions=MAX_INSTRUCTIONS)
        return {_name(key): _present(value, num_classes) for key, value in labels.items()}


def _name(key: str | int) -> str:
    if isinstance(key, str):
        return key
    if 10**9 <= key < 10**10:
        return f"{str(key)[:4]}_{str(key)[4:]}"
    raise ValueError(
        f"a key is {str(key)[:50]!r}, neither an image name "
        "nor one as an integer such as 2007000032"
    )


def _present(value: Value, num_classes: int) -> tuple[int, ...]:
    array = saved_array(value)
    if array is None or array.shape != (num_classes,):
        raise ValueError(f"an image has no array of the shape ({num_classes},)")
    if not np.isin(array, (0, 1)).all():
        raise ValueError("an image has labels other than 0 and 1")
    return tuple(np.flatnonzero(array).tolist())
