"""`cls_labels.npy` in both dialects, as numpy 1 and 2 write it, and everything that a hostile one
could try.
"""

import io
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from occse.data.npy_dicts.cls_labels import read_cls_labels

CLASSES = 20
PRESENT = {"2007_000032": (0, 14), "2007_000039": (19,), "2011_003276": ()}


def multi_hot(present: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
    array = np.zeros(CLASSES, dtype)
    array[list(present)] = 1
    return array


def text_dialect() -> dict[Any, Any]:
    return {name: multi_hot(present) for name, present in PRESENT.items()}


def integer_dialect() -> dict[Any, Any]:
    return {
        np.int32(name.replace("_", "")): multi_hot(present) for name, present in PRESENT.items()
    }


def npy(program: bytes) -> bytes:
    """A .npy file of one object whose pickle is `program`."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
    return file.getvalue() + program


def wrapped(value: object) -> np.ndarray:
    array = np.empty((), object)
    array[()] = value
    return array


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cls_labels.npy"


@pytest.mark.parametrize("dialect", [text_dialect, integer_dialect])
def test_both_dialects_are_read_as_numpy_saves_them(
    path: Path, dialect: Callable[[], dict[Any, Any]]
) -> None:
    np.save(path, wrapped(dialect()))
    assert read_cls_labels(path, num_classes=CLASSES) == PRESENT


@pytest.mark.parametrize("dialect", [text_dialect, integer_dialect])
@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_older_protocols_are_read(
    path: Path, dialect: Callable[[], dict[Any, Any]], protocol: int
) -> None:
    written(path, npy(pickle.dumps(wrapped(dialect()), protocol)))
    assert read_cls_labels(path, num_classes=CLASSES) == PRESENT


@pytest.mark.parametrize("protocol", [2, 3])  # what numpy 1 wrote
def test_the_module_paths_of_numpy_1_are_read(path: Path, protocol: int) -> None:
    program = pickle.dumps(wrapped(integer_dialect()), protocol)
    assert b"cnumpy._core.multiarray\n" in program
    written(path, npy(program.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")))
    assert read_cls_labels(path, num_classes=CLASSES) == PRESENT


@pytest.mark.parametrize("dtype", ["f8", ">f4", "i8", "u1", "?"])
def test_other_numbers_and_byte_orders_are_read(path: Path, dtype: str) -> None:
    np.save(path, wrapped({np.str_("a_1"): multi_hot((3, 7), dtype)}))
    assert read_cls_labels(path, num_classes=CLASSES) == {"a_1": (3, 7)}


class Payload:
    """An object that runs a command when it is unpickled."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize("function", [os.system, exec, eval, getattr, np.fromfile, bytearray])
def test_nothing_that_the_file_names_is_called(
    path: Path, protocol: int, function: Callable[..., Any]
) -> None:
    victim = path.with_name("victim")
    payload = Payload(function, f"touch {victim}")
    written(path, npy(pickle.dumps(wrapped({"a_1": payload}), protocol)))
    with pytest.raises(
        ValueError, match=r"cls_labels\.npy is not a cls_labels\.npy: it (names|has)"
    ):
        read_cls_labels(path, num_classes=CLASSES)
    assert not victim.exists()


def op(*parts: bytes | str) -> bytes:
    return b"".join(part.encode() if isinstance(part, str) else part for part in parts)


def short(text: str) -> bytes:
    return b"\x8c" + bytes([len(text)]) + text.encode()


# DUP, TUPLE2: 2^60 leaves, each once in memory
BILLION = op(short("x"), *(b"2\x86" for _ in range(60)))
SHARED = op(short("x"), *(b"\x94h" + bytes([i]) + b"\x86" for i in range(60)))
ARRAY = b"cnumpy._core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85C\x01btR"
DTYPE = (
    b"cnumpy\ndtype\n(X\x02\x00\x00\x00%s\x89\x88tR(K\x03X\x01\x00\x00\x00<NNN"
    b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
)


def array_of(shape: bytes, data: bytes, code: bytes = b"f4") -> bytes:
    return op(ARRAY, b"(K\x01", shape, DTYPE % code, b"\x89", data, b"tb")


HOSTILE = {
    "nothing": b"",
    "no stop": b"\x80\x04}",
    "stack underflow": b"\x80\x040.",
    "unknown memo": b"\x80\x04h\x05.",
    "missing mark": b"\x80\x04}u.",
    "a list": b"\x80\x04].",
    "state of a dict": b"\x80\x04}}b.",
    "call of text": op(b"\x80\x04", short("os"), b")R."),
    "call of a class": b"\x80\x04cnumpy\nndarray\n)R.",
    "new object": b"\x80\x04cnumpy\nndarray\n)\x81.",
    "persistent id": b"\x80\x04K\x01Q.",
    "extension": b"\x80\x04\x82\x01.",
    "dup": op(b"\x80\x04}", BILLION, "K\x01s."),
    "key of 2^60 leaves": op(b"\x80\x04}", SHARED, "K\x01s."),
    "type of 2^60 leaves": op(b"\x80\x04cnumpy\ndtype\n", SHARED, b"\x85R."),
    "module of 2^60 leaves": op(b"\x80\x04", SHARED, short("x"), b"\x93."),
    "encoding of 2^60 leaves": op(b"\x80\x04c_codecs\nencode\n", short("x"), SHARED, b"\x86R."),
    "value of 2^60 leaves": op(b"\x80\x04}", short("a_1"), SHARED, "s."),
    "deep key": op(b"\x80\x04}K\x01", b"\x85" * 50_000, "K\x01s."),
    "deep value": op(b"\x80\x04}", short("a_1"), "K\x01", b"\x85" * 50_000, "s."),
    "bytes of 2^62": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 62) + b"x.",
    "text of 2^31": b"\x80\x04X" + struct.pack("<I", (1 << 31) - 1) + b"x.",
    "memo of 2^32": b"\x80\x04}r\xff\xff\xff\xff.",
    "frame of 2^62": b"\x80\x04\x95" + struct.pack("<Q", 1 << 62) + b"}.",
    "integer as text": b"\x80\x04I" + b"9" * 100_000 + b"\n.",
    "array of 2^31": op(
        b"\x80\x04}", short("a_1"), array_of(b"J\xff\xff\xff\x7f\x85", b"C\x04abcd"), "s."
    ),
    "array of 2^2000": op(
        b"\x80\x04}",
        short("a_1"),
        array_of(b"\x8a\xfa" + b"\x7f" * 250 + b"\x85", b"C\x04abcd"),
        "s.",
    ),
    "negative array": op(
        b"\x80\x04}", short("a_1"), array_of(b"J\xff\xff\xff\xff\x85", b"C\x04abcd"), "s."
    ),
    "matrix": op(b"\x80\x04}", short("a_1"), array_of(b"K\x01K\x01\x86", b"C\x04abcd"), "s."),
    "structured type": op(
        b"\x80\x04}", short("a_1"), array_of(b"K\x01\x85", b"C\x04abcd", b"V4"), "s."
    ),
    "objects": op(b"\x80\x04}", short("a_1"), array_of(b"K\x01\x85", b"]K\x01a", b"O8"), "s."),
    "array in itself": op(b"\x80\x04", ARRAY, b"\x94(K\x01)", DTYPE % b"O8", b"\x89]h\x00atb."),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pickles_are_refused(path: Path, name: str) -> None:
    written(path, npy(HOSTILE[name]))
    with pytest.raises(
        ValueError,
        match=r"/cls_labels\.npy is not a cls_labels\.npy: .*expected a dict from image names",
    ):
        read_cls_labels(path, num_classes=CLASSES)


@pytest.mark.parametrize("kept", [0, 5, 60, 128, 200, 400, -1])
def test_files_cut_off_anywhere_are_named(path: Path, kept: int) -> None:
    np.save(path, wrapped(text_dialect()))
    written(path, path.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"/cls_labels\.npy is not a cls_labels"):
        read_cls_labels(path, num_classes=CLASSES)


def test_damaged_files_are_read_or_refused_with_their_name(path: Path) -> None:
    np.save(path, wrapped(integer_dialect()))
    content = np.frombuffer(path.read_bytes(), np.uint8)
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        damaged = content.copy()
        damaged[rng.integers(0, len(content), 3)] = rng.integers(0, 256, 3)
        try:
            read_cls_labels(written(path, damaged.tobytes()), num_classes=CLASSES)
        except ValueError as error:
            assert str(path) in str(error)
            refused += 1
    assert refused > 100


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a_1": np.zeros(21, np.float32)}, r"no array of the shape \(20,\)"),
        ({"a_1": np.full(CLASSES, 0.5, np.float32)}, "labels other than 0 and 1"),
        ({"a_1": np.full(CLASSES, np.nan, np.float32)}, "labels other than 0 and 1"),
        ({"a_1": [0.0] * CLASSES}, "no array of the shape"),
        ({np.int32(7): multi_hot(())}, "a key is '7', neither"),
        ({}, "its dict is empty"),
        ([1], "its object is a list, not a dict"),
    ],
)
def test_dicts_of_something_else_are_refused(path: Path, value: object, message: str) -> None:
    np.save(path, wrapped(value))
    with pytest.raises(ValueError, match=message):
        read_cls_labels(path, num_classes=CLASSES)


def test_arrays_huge_files_and_missing_files_are_refused(path: Path) -> None:
    with pytest.raises(ValueError, match=r"cls_labels\.npy cannot be read"):
        read_cls_labels(path, num_classes=CLASSES)
    np.save(path, np.zeros((3, CLASSES)))
    with pytest.raises(
        ValueError, match=r"an array of shape \(3, 20\) and type float64, not one pickled object"
    ):
        read_cls_labels(path, num_classes=CLASSES)
    with path.open("wb") as file:
        file.truncate(20_000_000_000)
    with pytest.raises(ValueError, match="has 20000000000 bytes"):
        read_cls_labels(path, num_classes=CLASSES)
