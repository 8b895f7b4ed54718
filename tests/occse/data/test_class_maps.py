"""`dict/NAME.npy` of the official code, as numpy 1 and 2 write it, and what a hostile one could
try.
"""

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_cls_labels import Payload, array_of, npy, op, wrapped, written

from occse.data.npy_dicts.class_maps import read_class_maps

SIZE = (3, 4)


def maps() -> dict[Any, Any]:
    rng = np.random.default_rng(0)
    return {14: rng.random(SIZE, np.float32), 3: rng.random(SIZE, np.float32)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "2007_000032.npy"


@pytest.mark.parametrize("protocol", [None, 2, 3, 4])
def test_maps_are_read_as_numpy_saves_them(path: Path, protocol: int | None) -> None:
    saved = maps()
    if protocol is None:
        np.save(path, saved)  # type: ignore[arg-type]
    else:
        program = pickle.dumps(wrapped(saved), protocol).replace(
            b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"
        )
        written(path, npy(program))
    cam, classes = read_class_maps(path, num_classes=20)
    assert classes.tolist() == [3, 14]
    assert cam.dtype == np.float32
    np.testing.assert_array_equal(cam, np.stack([saved[3], saved[14]]))


@pytest.mark.parametrize("dtype", ["f2", ">f4", "f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_other_types_and_orders_are_read(path: Path, dtype: str, order: Any) -> None:
    expected = np.arange(12).reshape(SIZE) / 16
    np.save(path, {0: np.array(expected, dtype, order=order)})  # type: ignore[arg-type]
    np.testing.assert_array_equal(read_class_maps(path, num_classes=1)[0][0], expected)


def test_nothing_that_the_file_names_is_called(path: Path) -> None:
    victim = path.with_name("victim")
    written(path, npy(pickle.dumps(wrapped({0: Payload(os.system, f"touch {victim}")}))))
    with pytest.raises(
        ValueError, match=r"2007_000032\.npy is not a file of CAMs: it names '\w+\.system'"
    ):
        read_class_maps(path, num_classes=20)
    assert not victim.exists()


def entry(shape: bytes, data: bytes, code: bytes = b"f4") -> bytes:
    return op(b"\x80\x04}K\x00", array_of(shape, data, code), "s.")


PROMISES = {
    "more bytes than there are": entry(b"M\x00\xffM\x00\xff\x86", b"C\x04abcd"),
    "a product that overflows 64 bits": entry(
        b"\x8a\x05\x00\x00\x00\x00\x01\x8a\x05\x00\x00\x00\x00\x01\x86", b"C\x04abcd"
    ),
    "two negative sides": entry(b"J\xff\xff\xff\xffJ\xff\xff\xff\xff\x86", b"C\x04abcd"),
    "a side of nothing": entry(b"K\x00K\x01\x86", b"C\x00"),
    "a side that is not a number": entry(
        b"G\x3f\xf0\x00\x00\x00\x00\x00\x00K\x01\x86", b"C\x04abcd"
    ),
    "three dimensions": entry(b"K\x01K\x01K\x01\x87", b"C\x04abcd"),
    "a shape that is not a tuple": entry(b"K\x01", b"C\x04abcd"),
    "objects": entry(b"K\x01K\x01\x86", b"]K\x01a", b"O8"),
    "bytes of another type": entry(b"K\x01K\x01\x86", b"\x8c\x04abcd"),
    "a million lists": b"\x80\x04" + b"]" * 1_000_000 + b".",
    "a map in a map": op(
        b"\x80\x04}K\x00}K\x00", array_of(b"K\x01K\x01\x86", b"C\x04\0\0\0\0"), "ss."
    ),
}


@pytest.mark.parametrize("name", PROMISES)
def test_files_that_promise_what_they_do_not_hold_are_refused(path: Path, name: str) -> None:
    written(path, npy(PROMISES[name]))
    with pytest.raises(
        ValueError,
        match=r"2007_000032\.npy is not a file of CAMs: .*expected a dict from classes 0 to 19",
    ):
        read_class_maps(path, num_classes=20)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({}, "its dict is empty"),
        ({20: np.zeros(SIZE, np.float32)}, "a key is '20', not a class"),
        ({-1: np.zeros(SIZE, np.float32)}, "a key is '-1', not a class"),
        ({True: np.zeros(SIZE, np.float32)}, "a key is 'True', not a class"),
        ({"dog": np.zeros(SIZE, np.float32)}, "a key is 'dog', not a class"),
        ({0: np.zeros(3, np.float32)}, "no map of floating-point numbers"),
        ({0: np.zeros(SIZE, np.int64)}, "no map of floating-point numbers"),
        ({0: 0.5}, "no map of floating-point numbers"),
        ({0: np.full(SIZE, np.nan, np.float32)}, "from nan to nan"),
        ({0: np.full(SIZE, 1.5, np.float32)}, r"from 1\.5 to 1\.5"),
        (
            {0: np.zeros(SIZE, np.float32), 1: np.zeros((4, 3), np.float32)},
            r"sizes \[\(3, 4\), \(4, 3\)\]",
        ),
    ],
)
def test_what_is_no_cam_is_refused(path: Path, value: Any, message: str) -> None:
    np.save(path, value)
    with pytest.raises(ValueError, match=message):
        read_class_maps(path, num_classes=20)


@pytest.mark.parametrize("kept", [0, 100, 180, 220, -1])
def test_files_cut_off_anywhere_are_named(path: Path, kept: int) -> None:
    np.save(path, maps())  # type: ignore[arg-type]
    written(path, path.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"/2007_000032\.npy is not a file of CAMs"):
        read_class_maps(path, num_classes=20)


def test_damaged_files_are_read_or_refused_with_their_name(path: Path) -> None:
    np.save(path, maps())  # type: ignore[arg-type]
    content, rng, refused = np.frombuffer(path.read_bytes(), np.uint8), np.random.default_rng(0), 0
    for _ in range(300):
        damaged = content.copy()
        damaged[rng.integers(0, len(content), 3)] = rng.integers(0, 256, 3)
        try:
            read_class_maps(written(path, damaged.tobytes()), num_classes=20)
        except ValueError as error:
            assert str(path) in str(error)
            refused += 1
    assert refused > 100
