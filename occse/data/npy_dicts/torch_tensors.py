"""Tensors of torch inside a pickled dictionary, read without torch and without unpickling.

A tensor is pickled as a view (offset, size, strides) of a storage, and the storage as the bytes
that `torch.save` writes in its format of before 1.6: five pickles (a magic number, a version, facts
of the machine, the kind of the storage, its key), then the number of elements in eight bytes, then
the elements.
"""

import io
import math
import pickletools
from collections.abc import Sequence
from pickle import UnpicklingError
from typing import Any

import numpy as np

# The element types by the name of the storage's class.
STORAGES = {
    "torch FloatStorage": "<f4",
    "torch DoubleStorage": "<f8",
    "torch HalfStorage": "<f2",
    "torch LongStorage": "<i8",
    "torch IntStorage": "<i4",
    "torch ByteStorage": "<u1",
}
# As above.
NUM_PICKLES = 5
# The five pickles of a storage have some 60 instructions.
MAX_INSTRUCTIONS = 1000
# Batch, class, height, width.
MAX_DIMENSIONS = 4


def storage(content: bytes) -> np.ndarray:
    """Return the elements of a storage, as a one-dimensional array.

    Raises:
        UnpicklingError: it is not a storage of numbers, or its length is not what it says.
    """
    file = io.BytesIO(content)
    names: list[str] = []
    instructions = 0
    for _ in range(NUM_PICKLES):
        for opcode, argument, _ in pickletools.genops(file):
            instructions += 1
            if instructions > MAX_INSTRUCTIONS:
                raise UnpicklingError("it has a storage of too many pickle instructions")
            if opcode.name == "GLOBAL":
                names.append(str(argument))
    if len(names) != 1 or names[0] not in STORAGES:
        raise UnpicklingError("it has a storage of another kind than numbers")
    number = int.from_bytes(file.read(8), "little")
    dtype = np.dtype(STORAGES[names[0]])
    data = file.read()
    if len(data) != number * dtype.itemsize:
        raise UnpicklingError(
            f"it has a storage of {len(data)} bytes that promises {number} numbers"
        )
    return np.frombuffer(data, dtype)


def view(elements: object, offset: object, size: object, strides: object) -> np.ndarray:
    """Return a tensor: the view of a storage from `offset`, of `size`, with `strides` in elements.

    Raises:
        UnpicklingError: it reaches beyond the storage, or shows elements more than once.
    """
    if not isinstance(elements, np.ndarray):
        raise UnpicklingError("it has a tensor without a storage")
    (start,) = _counts([offset])
    sides, steps = _counts(size), _counts(strides)
    if len(sides) != len(steps) or len(sides) > MAX_DIMENSIONS:
        raise UnpicklingError(f"it has a tensor of {len(sides)} dimensions")
    last = start + sum((side - 1) * step for side, step in zip(sides, steps, strict=True))
    if not math.prod(sides) or math.prod(sides) > len(elements) or last >= len(elements):
        raise UnpicklingError("it has a tensor that reaches beyond its storage")
    in_bytes = [step * elements.itemsize for step in steps]
    return np.lib.stride_tricks.as_strided(elements[start:], sides, in_bytes, writeable=False)


def _counts(values: Any) -> Sequence[int]:  # noqa: ANN401 - from a pickle
    if not isinstance(values, list | tuple) or not all(
        type(value) is int and value >= 0 for value in values
    ):
        raise UnpicklingError("it has a tensor whose size is not a number")
    return values
