"""`cls_labels.npy`, the image labels that other repositories of this field bring: a pickled dict of numpy arrays.

A pickle is a program, so it is not unpickled: the few instructions that numpy writes for such a dict are interpreted
here, nothing that the file names is imported or called, and no memory is taken that the file does not fill.
"""

import io
import pickletools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, TypeAlias

import numpy as np

from occse.data.reading import read_bytes

MAX_BYTES = 16_000_000  # VOC's 17,125 images take 4
# numpy 1 keeps its core in numpy.core, numpy 2 in numpy._core; before protocol 3, bytes are encoded text
NAMES = {
    f"{core}.multiarray {name}": meaning
    for core in ("numpy.core", "numpy._core")
    for name, meaning in (("_reconstruct", "array"), ("scalar", "scalar"))
} | {"numpy ndarray": "class", "numpy dtype": "dtype", "_codecs encode": "encode"}
NUMBERS = frozenset(f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)) | {"f2", "f4", "f8", "b1"}
TEXT = re.compile("U[0-9]{1,4}")
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
LITERALS = frozenset(
    {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"}
    | {"BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"}
)
TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}

Value: TypeAlias = Any
"""What a pickle may make. Never print or hash one: tuples of tuples of tuples can make that take forever."""


def read_cls_labels(path: Path, *, num_classes: int) -> dict[str, tuple[int, ...]]:
    """Class indices that are present, ascending, by image name.

    Both dialects are read: names as text (jiwoon-ahn/psa), and names as integers such as 2007000032 for 2007_000032
    (jiwoon-ahn/irn).

    Raises:
        ValueError: the file is missing, larger than 16 MB or damaged; it holds anything but a dict from names to
            arrays of `num_classes` zeros and ones, or names something else than numpy's arrays.
    """
    content = read_bytes(path, limit=MAX_BYTES, expected="a dict of image labels, saved by numpy")
    try:
        labels = _saved_dict(content)
        return {_name(key): _present(value, num_classes) for key, value in labels.items()}
    except Exception as error:  # whatever hostile bytes make numpy's header, pickletools and the stack raise
        reason = error if isinstance(error, ValueError | UnpicklingError) else f"it is damaged ({error!r})"
        raise ValueError(
            f"{path} is no cls_labels.npy: {reason}; expected a dict from image names to {num_classes} zeros and ones"
        ) from None


def _saved_dict(content: bytes) -> dict[str | int, Value]:
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f".npy of version {version}")
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read_header(file)
    if shape != () or dtype.kind != "O":
        raise ValueError(f"it is an array of shape {shape} and type {dtype}, no single pickled object")
    array = _interpret(content[file.tell() :])
    labels = array.content if isinstance(array, _Array) else array
    if not isinstance(labels, dict):
        raise UnpicklingError(f"its object is a {type(labels).__name__}, no dict")
    if not labels:
        raise ValueError("it has no image")
    return labels


def _name(key: str | int) -> str:
    if isinstance(key, str):
        return key
    if 10**9 <= key < 10**10:
        return f"{str(key)[:4]}_{str(key)[4:]}"
    raise ValueError(f"a key is {str(key)[:50]!r}, neither an image name nor one as an integer such as 2007000032")


def _present(value: Value, num_classes: int) -> tuple[int, ...]:
    array = value.content if isinstance(value, _Array) else None
    if not isinstance(array, np.ndarray) or array.shape != (num_classes,):
        raise ValueError(f"an image has no array of the shape ({num_classes},)")
    if not np.isin(array, (0, 1)).all():
        raise ValueError("an image has labels other than 0 and 1")
    return tuple(np.flatnonzero(array).tolist())


@dataclass(frozen=True)
class _Global:
    """A name that the pickle would import; never imported here."""

    meaning: str


class _DType:
    """The type of an array while its pickle is read: a code such as `f4`, its byte order comes later."""

    def __init__(self, code: Value) -> None:
        if not isinstance(code, str) or not (code in NUMBERS or code == "O8" or TEXT.fullmatch(code)):
            raise UnpicklingError("it has an array of another type than numbers or text")
        self.code, self.order = code, "|"

    def build(self, state: Value) -> None:
        """Take the byte order."""
        if state[1] not in ("<", ">", "|"):
            raise UnpicklingError("it has an array of an unknown byte order")
        self.order = state[1]

    def values(self, data: Value, shape: tuple[int, ...]) -> np.ndarray:
        """The array of at most one dimension that `data` holds; its bytes must be all there."""
        if type(data) is not bytes or len(shape) > 1 or not all(type(side) is int for side in shape):
            raise UnpicklingError("it has an array of objects or of several dimensions")
        size = int(self.code[1:]) * (4 if self.code[0] == "U" else 1)
        num_bytes = size * (shape[0] if shape else 1)
        if self.code == "O8" or len(data) != num_bytes or not data:
            raise UnpicklingError(f"it has an array of {len(data)} bytes that promises {num_bytes}")
        return np.frombuffer(data, np.dtype(self.order + self.code)).reshape(shape)


class _Array:
    """An array while its pickle is read: numbers, or the one object that numpy.save wrapped."""

    content: Value = None

    def build(self, state: Value) -> None:
        """Take the content, checked."""
        _, shape, dtype, _, data = state
        if dtype.code == "O8" and shape == () and type(data) is list and len(data) == 1:
            self.content = data[0]
        else:
            self.content = dtype.values(data, shape)


def _interpret(program: bytes) -> Value:
    """What the pickle `program` describes, as long as it is made of plain types and numpy's arrays."""
    machine = _Machine()
    for opcode, argument, _ in pickletools.genops(program):
        machine.step(opcode.name, argument)
    return machine.pop()


class _Machine:
    """The stack of a pickle and the instructions that numpy's dicts need; every other instruction is refused."""

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
                state, target = self.pop(), self.stack[-1]
                if not isinstance(target, _Array | _DType):
                    raise UnpicklingError(f"it gives a state to a {type(target).__name__}")
                target.build(state)
            case _:
                raise UnpicklingError(f"it has the pickle instruction {name}, which no dict of arrays needs")

    def _since_mark(self) -> list[Value]:
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def _top(self, kind: type) -> Value:
        if type(self.stack[-1]) is not kind:
            raise UnpicklingError(f"it fills a {type(self.stack[-1]).__name__} as if it were a {kind.__name__}")
        return self.stack[-1]


def _pairs(items: list[Value]) -> Iterator[tuple[str | int, Value]]:
    for key, value in zip(items[::2], items[1::2], strict=True):
        if not isinstance(key, str | int):  # the hash of nested tuples can take forever
            raise UnpicklingError(f"it has a {type(key).__name__} as key")
        yield key, value


def _global(module: Value, attribute: Value) -> _Global:
    if type(module) is not str or type(attribute) is not str:
        raise UnpicklingError("it imports by something else than a name")
    if (name := f"{module} {attribute}") not in NAMES:
        raise UnpicklingError(f"it names {name[:100].replace(' ', '.')!r}; allowed are numpy's arrays and plain types")
    return _Global(NAMES[name])


def _reduce(function: Value, arguments: Value) -> Value:
    match function.meaning if isinstance(function, _Global) else "":
        case "array":
            return _Array()
        case "dtype":
            return _DType(arguments[0])
        case "scalar":
            dtype, data = arguments
            return dtype.values(data, ()).item()
        case "encode":
            text, encoding = arguments
            if encoding != "latin1":
                raise UnpicklingError("it encodes text in another way than numpy")
            return text.encode("latin1")
    raise UnpicklingError("it calls what is no function of numpy's arrays")
