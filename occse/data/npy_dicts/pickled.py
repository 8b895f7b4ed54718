"""A reader of dicts of numpy arrays that were saved with `numpy.save`, which pickles them.

A pickle is a program, so such a file is not unpickled. This module interprets the few instructions
that numpy writes for such a dict. It imports and calls nothing that the file names, and it takes no
memory that the file does not fill.

`pickle.Unpickler` with an allow-list in `find_class` and a bound on the file does not suffice. It
still hashes every key, and a key of nested tuples, 200 bytes in the file, has 2^60 leaves and is
hashed for years. It takes memory by the indices in the file, and a memo index of 2^32 asks for 64
GB. The tests have both files.
"""

import io
import math
import pickletools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, TypeAlias

import numpy as np

from occse.data.npy_dicts.torch_tensors import storage, view

# Image labels have one dimension, a CAM has two, and irn's CAMs of all classes have three.
MAX_DIMENSIONS = 3
# The names that numpy's pickles import, and their meaning here. numpy 1 keeps its core in
# numpy.core, numpy 2 in numpy._core. Before protocol 3, bytes are encoded text.
NAMES = {
    "numpy.core.multiarray _reconstruct": "array",
    "numpy._core.multiarray _reconstruct": "array",
    "numpy.core.multiarray scalar": "scalar",
    "numpy._core.multiarray scalar": "scalar",
    "numpy ndarray": "class",
    "numpy dtype": "dtype",
    "_codecs encode": "encode",
    "torch._utils _rebuild_tensor_v2": "tensor",
    "torch.storage _load_from_bytes": "storage",
    "collections OrderedDict": "hooks",
}
# Types of arrays: numbers by kind and bytes, and text by its length.
NUMBERS = frozenset(("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "b1"))
TEXT = re.compile("U[0-9]{1,4}")
# Instructions that push a constant, the argument that they carry, or a tuple of the last values.
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
LITERALS = frozenset(
    {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"}
    | {"BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"}
)
TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}

# A value that a pickle made. It must never be printed or hashed: nested tuples can make that take
# forever.
Value: TypeAlias = Any


def saved_dict(content: bytes, *, max_instructions: int) -> dict[str | int, Value]:
    """Return the dict, of at least one entry, in the .npy file `content`.

    `saved_array` converts its values. Hostile bytes raise exceptions of any kind, so calls belong
    into a `refusing` block.

    Args:
        content: of the file.
        max_instructions: bound on the length of the pickle.
    """
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f".npy of version {version}")
    read_header = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    shape, _, dtype = read_header(file)
    if shape != () or dtype.kind != "O":
        raise ValueError(
            f"it is an array of shape {shape} and type {dtype}, not one pickled object"
        )
    found = _interpret(content[file.tell() :], max_instructions)
    saved = found.content if isinstance(found, _Array) else found
    if not isinstance(saved, dict):
        raise UnpicklingError(f"its object is a {type(saved).__name__}, not a dict")
    if not saved:
        raise ValueError("its dict is empty")
    return saved


def saved_array(value: Value) -> np.ndarray | None:
    """Return a value of a `saved_dict` as an array; None if it is something else."""
    content = value.content if isinstance(value, _Array) else None
    return content if isinstance(content, np.ndarray) else None


@contextmanager
def refusing(path: Path, *, kind: str, expected: str) -> Iterator[None]:
    """Turn any exception that hostile bytes cause into one ValueError that names the file."""
    try:
        yield
    except Exception as error:
        reason = (
            error
            if isinstance(error, ValueError | UnpicklingError)
            else f"it is damaged ({error!r})"
        )
        raise ValueError(f"{path} is not a {kind}: {reason}; expected {expected}") from None


@dataclass(frozen=True)
class _Global:
    """A name that the pickle would import. It is not imported."""

    meaning: str


class _DType:
    """The type of an array while its pickle is read.

    The pickle has its code, such as `f4`, first, and its byte order later (`build`).
    """

    def __init__(self, code: Value) -> None:
        if not isinstance(code, str) or not (
            code in NUMBERS or code == "O8" or TEXT.fullmatch(code)
        ):
            raise UnpicklingError("it has an array of another type than numbers or text")
        self.code = code
        self.order = "|"

    def build(self, state: Value) -> None:
        """Set the byte order."""
        if state[1] not in ("<", ">", "|"):
            raise UnpicklingError("it has an array of an unknown byte order")
        self.order = state[1]

    def values(self, data: Value, shape: tuple[int, ...], *, columns_first: bool) -> np.ndarray:
        """Return `data` as an array of `MAX_DIMENSIONS` at most. All of its bytes must be there."""
        if type(data) is not bytes or not all(type(side) is int and side > 0 for side in shape):
            raise UnpicklingError(
                "it has an array of objects, or with a side that is not a positive number"
            )
        if len(shape) > MAX_DIMENSIONS:
            raise UnpicklingError(
                f"it has an array of {len(shape)} dimensions; allowed are {MAX_DIMENSIONS}"
            )
        size = int(self.code[1:]) * (4 if self.code[0] == "U" else 1)
        num_bytes = size * math.prod(shape)
        if self.code == "O8" or len(data) != num_bytes or not data:
            raise UnpicklingError(f"it has an array of {len(data)} bytes that promises {num_bytes}")
        return np.frombuffer(data, np.dtype(self.order + self.code)).reshape(
            shape, order="F" if columns_first else "C"
        )


class _Array:
    """An array while its pickle is read: numbers, or the single object that numpy.save wrapped."""

    content: Value = None

    def build(self, state: Value) -> None:
        """Check the content and keep it."""
        _, shape, dtype, columns_first, data = state
        if dtype.code == "O8" and shape == () and type(data) is list and len(data) == 1:
            self.content = data[0]
        else:
            self.content = dtype.values(data, shape, columns_first=columns_first is True)


def _interpret(program: bytes, max_instructions: int) -> Value:
    """Return the object that the pickle `program` describes, of plain types and numpy's arrays."""
    machine = _Machine()
    for number, (opcode, argument, _) in enumerate(pickletools.genops(program)):
        # An empty list is one byte of the file and fifty of memory, so a bound on the file is not
        # enough.
        if number >= max_instructions:
            raise UnpicklingError(f"it has more than {max_instructions} instructions")
        machine.step(opcode.name, argument)
    return machine.pop()


class _Machine:
    """The stack of a pickle, and the instructions that numpy's dicts need. Others are refused."""

    def __init__(self) -> None:
        self.stack: list[Value] = []
        self.marks: list[int] = []
        self.memo: dict[int, Value] = {}

    def pop(self) -> Value:
        return self.stack.pop()

    def step(self, name: str, argument: Value) -> None:
        if name in ("PROTO", "FRAME", "STOP"):
            return
        if name in CONSTANTS:
            self.stack.append(CONSTANTS[name])
        elif name in LITERALS:
            self.stack.append(argument)
        elif name in TUPLES:
            self.stack.append(tuple(reversed([self.pop() for _ in range(TUPLES[name])])))
        elif name in ("MEMOIZE", "BINPUT", "LONG_BINPUT"):
            self.memo[len(self.memo) if argument is None else argument] = self.stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[argument])
        else:
            self._rare(name, argument)

    def _rare(self, name: str, argument: Value) -> None:
        match name:
            case "MARK":
                self.marks.append(len(self.stack))
            case "TUPLE":
                self.stack.append(tuple(self._since_mark()))
            case "EMPTY_LIST":
                self.stack.append([])
            case "EMPTY_DICT":
                self.stack.append({})
            case "APPEND" | "APPENDS":
                items = self._since_mark() if name == "APPENDS" else [self.pop()]
                self._top(list).extend(items)
            case "SETITEM" | "SETITEMS":
                items = self._since_mark() if name == "SETITEMS" else [self.pop(), self.pop()][::-1]
                self._top(dict).update(_pairs(items))
            case "GLOBAL":
                self.stack.append(_global(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                attribute, module = self.pop(), self.pop()
                self.stack.append(_global(module, attribute))
            case "REDUCE":
                arguments, function = self.pop(), self.pop()
                self.stack.append(_reduce(function, arguments))
            case "BUILD":
                state = self.pop()
                target = self.stack[-1]
                if not isinstance(target, _Array | _DType):
                    raise UnpicklingError(f"it gives a state to a {type(target).__name__}")
                target.build(state)
            case _:
                raise UnpicklingError(
                    f"it has the pickle instruction {name}, which no dict of arrays needs"
                )

    def _since_mark(self) -> list[Value]:
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def _top(self, kind: type) -> Value:
        if type(self.stack[-1]) is not kind:
            raise UnpicklingError(
                f"it fills a {type(self.stack[-1]).__name__} as if it were a {kind.__name__}"
            )
        return self.stack[-1]


def _pairs(items: list[Value]) -> Iterator[tuple[str | int, Value]]:
    for key, value in zip(items[::2], items[1::2], strict=True):
        # The hash of nested tuples can take forever.
        if not isinstance(key, str | int):
            raise UnpicklingError(f"it has a {type(key).__name__} as key")
        yield key, value


def _global(module: Value, attribute: Value) -> _Global:
    if type(module) is not str or type(attribute) is not str:
        raise UnpicklingError("it imports by something else than a name")
    name = f"{module} {attribute}"
    if name not in NAMES:
        shown = name[:100].replace(" ", ".")
        raise UnpicklingError(f"it names {shown!r}; allowed are the names of numpy's arrays")
    return _Global(NAMES[name])


def _as_bytes(value: Value) -> bytes:
    if type(value) is not bytes:
        raise UnpicklingError("it has a storage without bytes")
    return value


def _reduce(function: Value, arguments: Value) -> Value:
    match function.meaning if isinstance(function, _Global) else "":
        case "array":
            return _Array()
        case "dtype":
            return _DType(arguments[0])
        case "scalar":
            dtype, data = arguments
            return dtype.values(data, (), columns_first=False).item()
        case "encode":
            text, encoding = arguments
            if encoding != "latin1":
                raise UnpicklingError("it encodes text in another way than numpy")
            return text.encode("latin1")
        case "storage":
            (content,) = arguments
            return storage(_as_bytes(content))
        case "tensor":
            tensor = _Array()
            tensor.content = view(*arguments[:4])
            return tensor
        case "hooks":
            # A tensor has an empty dict of hooks, which nothing here reads.
            return None
    raise UnpicklingError("it calls a function that numpy's arrays do not need")
