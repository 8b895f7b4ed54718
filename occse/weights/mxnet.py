"""MXNet's NDArray files, read without MXNet: the format, and the names of ResNet38 in it.

Such a file may come from anywhere and copies are damaged now and then, so nothing in it is
believed: every length and count is checked against the size of the file before it is used. Arrays
are views of the mapped file, so that reading allocates next to nothing.

Little-endian, source: apache/mxnet, src/ndarray/ndarray.cc:

    u64 0x112 | u64 0 | u64 N | N arrays | u64 N | N times (u64 length, name)
    array: u32 mark, then the shape by version
        V2 0xF993FAC9, V3 0xF993FACA: i32 storage (0 dense) | u32 ndim | i64 dims[ndim]
        V1 0xF993FAC8:                u32 ndim | i64 dims[ndim]
        legacy:                       the mark is ndim | u32 dims[ndim]
    then i32 device type | i32 device id | i32 dtype | the values in row-major order
"""

import math
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np

from occse.weights.files import MXNET_HEADER

# Marks of an array, by the version of its format (ndarray.cc).
V1 = 0xF993FAC8
# The version that knows sparse arrays too.
V2 = 0xF993FAC9
# The version that knows scalars too.
V3 = 0xF993FACA
DTYPES = {0: "<f4", 1: "<f8", 2: "<f2", 3: "|u1", 4: "<i4", 5: "|i1", 6: "<i8"}
# MXNet writes no array of more dimensions than this.
MAX_DIMS = 32
# Far above any network's number of tensors, far below what would exhaust memory.
MAX_ARRAYS = 100_000
# Mark, one dimension, device type and id, dtype, one value.
MIN_ARRAY_BYTES = 4 + 4 + 8 + 4 + 1
NAME = re.compile(
    r"(arg|aux):"
    r"(conv1a|bn7|(res|bn)([2-7])(?:a|b([1-5]))_branch(1|2a|2b1|2b2))_"
    r"(weight|gamma|beta|moving_mean|moving_var)"
)
CONVOLUTION = {"arg:weight": "weight"}
BATCH_NORM = {
    "arg:gamma": "weight",
    "arg:beta": "bias",
    "aux:moving_mean": "running_mean",
    "aux:moving_var": "running_var",
}


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of an MXNet NDArray file by name, as read-only views of the file.

    Raises:
        ValueError: the file is damaged or of another format; the message names file and position.
        FileNotFoundError: there is no file.
    """
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty")
    data = np.memmap(path, np.uint8, "r")
    try:
        return _Reader(data).read()
    except ValueError as error:
        raise ValueError(f"{path} is damaged, or no MXNet NDArray file: {error}") from None


class _Reader:
    """Position in the bytes of a file; nothing is read before it is known to be there."""

    def __init__(self, data: np.ndarray) -> None:
        self.data = data
        self.position = 0

    def read(self) -> dict[str, np.ndarray]:
        if self.take(len(MXNET_HEADER), "the header") != MXNET_HEADER:
            raise ValueError("it does not begin with 0x112 and 0")
        count = self.count(MIN_ARRAY_BYTES, "arrays")
        if count == 0:
            raise ValueError("it holds no arrays; expected the weights of a network")
        if count > MAX_ARRAYS:
            raise ValueError(f"it promises {count} arrays; at most {MAX_ARRAYS} are read")
        arrays = [self.array(f"array {number} of {count}") for number in range(1, count + 1)]
        num_names = self.count(8, "names")
        if num_names != count:
            raise ValueError(f"it has {count} arrays and {num_names} names; expected as many names")
        named: dict[str, np.ndarray] = {}
        for number, array in enumerate(arrays, start=1):
            name = self.name(f"name {number} of {count}")
            if name in named:
                raise ValueError(f"the name {name!r} is there twice")
            named[name] = array
        if self.position != self.data.size:
            raise ValueError(f"{self.data.size - self.position} bytes follow after the end")
        return named

    def need(self, num_bytes: int, what: str) -> None:
        left = self.data.size - self.position
        if num_bytes > left:
            raise ValueError(
                f"{what} takes {num_bytes} bytes from byte {self.position} on, "
                f"but only {left} follow: the file of {self.data.size} bytes is truncated, "
                "or a length in it is wrong"
            )

    def take(self, num_bytes: int, what: str) -> bytes:
        self.need(num_bytes, what)
        taken: bytes = self.data[self.position : self.position + num_bytes].tobytes()
        self.position += num_bytes
        return taken

    def numbers(self, layout: str, what: str) -> tuple[Any, ...]:
        return struct.unpack(f"<{layout}", self.take(struct.calcsize(f"<{layout}"), what))

    def count(self, bytes_each: int, what: str) -> int:
        (count,) = self.numbers("Q", f"the number of {what}")
        self.need(count * bytes_each, f"the list of {count} {what}")
        return int(count)

    def array(self, what: str) -> np.ndarray:
        shape = self.shape(what)
        _, _, kind = self.numbers("iii", f"the type of {what}")
        if kind not in DTYPES:
            raise ValueError(
                f"{what} has the type {kind}; expected one of {', '.join(map(str, DTYPES))}"
            )
        dtype = np.dtype(DTYPES[kind])
        # Python's integers do not wrap around, however large the dimensions pretend to be.
        count = math.prod(shape)
        self.need(count * dtype.itemsize, f"{what} of the shape {shape} and type {dtype.name}")
        array = np.frombuffer(self.data, dtype, count, self.position).reshape(shape)
        self.position += count * dtype.itemsize
        return array

    def shape(self, what: str) -> tuple[int, ...]:
        (mark,) = self.numbers("I", what)
        if mark in (V2, V3):
            (storage,) = self.numbers("i", what)
            if storage != 0:
                raise ValueError(
                    f"{what} has the storage type {storage}; only dense arrays (0) can be read"
                )
        is_marked = mark in (V1, V2, V3)
        ndim = self.numbers("I", what)[0] if is_marked else mark
        # Scalars came with V3; before, no dimension meant no array.
        least = 0 if mark == V3 else 1
        if not least <= ndim <= MAX_DIMS:
            raise ValueError(f"{what} has {ndim} dimensions; expected {least} to {MAX_DIMS}")
        integer = "q" if is_marked else "I"
        shape = self.numbers(f"{ndim}{integer}", f"the shape of {what}")
        if min(shape, default=1) < 1:
            raise ValueError(f"{what} has the shape {shape}; expected positive dimensions")
        return shape

    def name(self, what: str) -> str:
        length = self.count(1, f"bytes in {what}")
        raw = self.take(length, what)
        try:
            name = raw.decode()
        except UnicodeDecodeError:
            raise ValueError(f"{what} is not UTF-8 text: {raw[:40]!r}") from None
        if not name.isprintable() or not name:
            raise ValueError(f"{what} is {name[:40]!r}; expected printable text")
        return name


def official_name(name: str) -> str | None:
    """Return the official PyTorch code's name of the ResNet38 tensor that MXNet calls `name`.

    `arg:res5b1_branch2a_weight` is `b5_1.conv_branch2a.weight`, `aux:bn7_moving_var` is
    `bn7.running_var`. None where the official code has no such tensor.
    """
    match = NAME.fullmatch(name)
    if match is None:
        return None
    source, layer, _, level, block, branch, ending = match.groups()
    is_norm = layer.startswith("bn")
    weight = (BATCH_NORM if is_norm else CONVOLUTION).get(f"{source}:{ending}")
    if weight is None:
        return None
    if level is None:
        return f"{layer}.{weight}"
    place = f"b{level}_{block}" if block else f"b{level}"
    layer_kind = "bn" if is_norm else "conv"
    return f"{place}.{layer_kind}_branch{branch}.{weight}"
