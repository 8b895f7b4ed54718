import io
import multiprocessing
import os
import pickle
import struct
import threading
import time
import warnings
import zipfile
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from occse.data.array_archive import MAX_BYTES, ArrayReader, ArrayWriter


def random_arrays(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "cam": rng.random((seed % 3, 5, 7)).astype(np.float16),
        "classes": rng.integers(0, 20, seed % 3),
        "labels": rng.integers(0, 256, (40, 50)).astype(np.uint8),
        "threshold": np.array(0.25, np.float32),
        "present": rng.random(9) > 0.5,
        "names": np.array(["a", "bäh", ""]),
    }


def write_archive(path: Path, *, num_images: int = 12) -> dict[str, dict[str, np.ndarray]]:
    images = {f"2007_{seed:06}": random_arrays(seed) for seed in range(num_images)}
    with ArrayWriter(path) as writer:
        for name, arrays in images.items():
            writer.write(name, **arrays)
    return images


def write_member(path: Path, content: bytes, *, member: str = "image/cam.npy") -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member, content)


def npy(header: str, data: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + data


def saved(array: np.ndarray, **options: bool) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def assert_equal(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert one.keys() == other.keys()
    for key, array in one.items():
        assert array.dtype == other[key].dtype
        assert np.array_equal(array, other[key])


def read_sum(task: tuple[ArrayReader, str]) -> int:
    reader, name = task
    return int(reader[name]["labels"].sum())


def test_arrays_come_back_in_any_order(tmp_path: Path) -> None:
    images = write_archive(tmp_path / "a.zip")
    reader = ArrayReader(tmp_path / "a.zip")
    assert reader.names == tuple(images)
    order = np.random.default_rng(0).choice(list(images), 40)
    for name in order:
        assert_equal(reader[str(name)], images[str(name)])


def test_arrays_may_be_changed_by_who_reads_them(tmp_path: Path) -> None:
    write_archive(tmp_path / "a.zip")
    arrays = ArrayReader(tmp_path / "a.zip")["2007_000001"]
    arrays["labels"] += 1
    assert arrays["labels"].flags.c_contiguous


def test_any_memory_order_is_stored(tmp_path: Path) -> None:
    array = np.arange(24.0).reshape(2, 3, 4).transpose(2, 0, 1)[::2]
    with ArrayWriter(tmp_path / "a.zip") as writer:
        writer.write("folder/image", array=array, turned=np.asfortranarray(array))
    arrays = ArrayReader(tmp_path / "a.zip")["folder/image"]
    assert np.array_equal(arrays["array"], array)
    assert np.array_equal(arrays["turned"], array)


def test_the_same_arrays_give_the_same_bytes(tmp_path: Path) -> None:
    write_archive(tmp_path / "a.zip")
    write_archive(tmp_path / "b.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert {info.date_time[0] for info in archive.infolist()} == {1980}


def test_more_members_than_a_plain_zip_can_list(tmp_path: Path) -> None:
    numbers = {f"i{index}": np.array(index) for index in range(66_000)}
    with ArrayWriter(tmp_path / "a.zip") as writer:
        writer.write("all", **numbers)
        writer.write("last", i=np.array(7))
    assert ArrayReader(tmp_path / "a.zip")["last"]["i"] == 7


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_an_opened_reader_serves_other_processes_at_once(tmp_path: Path, method: str) -> None:
    images = write_archive(tmp_path / "a.zip")
    reader = ArrayReader(tmp_path / "a.zip")
    names = list(reader.names) * 5
    with (
        warnings.catch_warnings(),
        ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(method)) as pool,
    ):
        warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
        sums = list(pool.map(read_sum, [(reader, name) for name in names]))
    assert sums == [int(images[name]["labels"].sum()) for name in names]


def test_a_forked_process_opens_the_file_anew(tmp_path: Path) -> None:
    write_archive(tmp_path / "a.zip")
    reader = ArrayReader(tmp_path / "a.zip")
    before = reader.names
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
        child = os.fork()
    if child == 0:  # both read at once through what was one open file
        code = 255
        try:
            code = sum(read_sum((reader, name)) for name in before * 20) % 128
        finally:
            os._exit(code)
    total = sum(read_sum((reader, name)) for name in before * 20)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == total % 128


def test_a_reader_is_pickled_as_its_path(tmp_path: Path) -> None:
    images = write_archive(tmp_path / "a.zip")
    reader = ArrayReader(tmp_path / "a.zip")
    assert reader.names
    other = pickle.loads(pickle.dumps(reader))  # noqa: S301
    assert_equal(other["2007_000003"], images["2007_000003"])


def test_a_name_that_is_not_there_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    write_archive(tmp_path / "a.zip", num_images=2)
    with pytest.raises(ValueError, match=r"a\.zip has no arrays of 'x'; it holds 2 other names"):
        ArrayReader(tmp_path / "a.zip")["x"]
    with pytest.raises(FileNotFoundError, match=r"b\.zip"):
        ArrayReader(tmp_path / "b.zip")["x"]


def test_an_exception_while_writing_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(KeyError), ArrayWriter(tmp_path / "a.zip") as writer:
        writer.write("a", x=np.zeros(3))
        raise KeyError("b")
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_stored_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    huge = np.broadcast_to(np.zeros(1), (MAX_BYTES // 8 + 1,))
    with ArrayWriter(tmp_path / "a.zip") as writer:
        writer.write("a", x=np.zeros(3))
        for name, array, complaint in (
            ("a", np.zeros(3), "'a' is there already"),
            ("", np.zeros(3), "'' is empty"),
            ("b", np.array([None]), "b/x has the type object; allowed are"),
            ("b", np.zeros(2, [("f", "f4")]), "b/x has the type"),
            ("b", huge, "b/x takes .* bytes; at most"),
        ):
            with pytest.raises(ValueError, match=complaint):
                writer.write(name, good=np.zeros(2), x=array)
    assert ArrayReader(tmp_path / "a.zip").names == ("a",)


FLOATS = "{'descr': '<f4', 'fortran_order': False, 'shape': %s, }"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (saved(np.array([{"a": 1}], dtype=object), allow_pickle=True), "type object; allowed are"),
        (npy(FLOATS % "(4,)", b"\0" * 8), r"its header promises \(4,\) float32"),
        (npy(FLOATS % "(1,)", b"\0" * 8), r"its header promises \(1,\) float32"),
        (npy(FLOATS % "(-1, -2)", b"\0" * 8), r"its header promises \(-1, -2\)"),
        (npy(FLOATS % "(1099511627776,)", b"\0" * 8), "at most"),
        (npy(FLOATS % "(4294967296, 4294967296)", b""), "at most"),
        (
            npy("{'descr': '<U0', 'fortran_order': False, 'shape': (1000000000000,), }"),
            "allowed are",
        ),
        (
            npy("{'descr': '|V4', 'fortran_order': False, 'shape': (1,), }", b"\0" * 4),
            "allowed are",
        ),
        (npy("{'descr': '<f4'}"), "damaged"),
        (npy("__import__('os').abort()"), "damaged"),
        (npy("(" * 300), "damaged"),
        (b"\x93NUMPY\x02\x00" + saved(np.zeros(3))[8:], "version"),
        (b"\x93NUM", "damaged"),
        (b"", "damaged"),
        (b"GIF89a" * 9, "damaged"),
    ],
)
def test_hostile_members_are_refused(tmp_path: Path, content: bytes, complaint: str) -> None:
    write_member(tmp_path / "a.zip", content)
    with pytest.raises(ValueError, match=complaint) as raised:
        ArrayReader(tmp_path / "a.zip")["image"]
    assert str(tmp_path / "a.zip") in str(raised.value)


@pytest.mark.parametrize("member", ["cam.npy", "/cam.npy", "image/", "image/a-b.npy", "image/.npy"])
def test_unexpected_members_are_refused(tmp_path: Path, member: str) -> None:
    write_member(tmp_path / "a.zip", saved(np.zeros(3)), member=member)
    with pytest.raises(ValueError, match=r"is unexpected; expected each name/key\.npy once"):
        ArrayReader(tmp_path / "a.zip")["image"]


def test_a_size_that_lies_in_the_zip_directory_is_refused(tmp_path: Path) -> None:
    path, size = tmp_path / "a.zip", 1 << 28
    write_member(path, npy(FLOATS % f"({size // 4},)", b"\0" * 4000))
    content = bytearray(path.read_bytes())
    entry = content.index(b"PK\x01\x02")
    header = len(npy(FLOATS % f"({size // 4},)"))
    struct.pack_into("<I", content, entry + 24, header + size)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.zip is not an archive of arrays, or it is damaged"):
        ArrayReader(path)["image"]


def test_no_truncated_or_changed_file_gives_other_arrays(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    images = write_archive(path, num_images=2)
    whole = path.read_bytes()
    rng = np.random.default_rng(1)
    damaged = [whole[: int(length)] for length in rng.integers(0, len(whole), 60)]
    for position in rng.integers(0, len(whole), 200):
        changed = bytearray(whole)
        changed[position] ^= 1 << int(rng.integers(8))
        damaged.append(bytes(changed))
    for content in damaged:
        path.write_bytes(content)
        reader = ArrayReader(path)
        try:
            found = {name: reader[name] for name in reader.names}
        except ValueError as error:
            assert str(path) in str(error)
            continue
        for name in found.keys() & images.keys():
            for key in found[name].keys() & images[name].keys():
                assert np.array_equal(found[name][key], images[name][key])


def test_threads_that_read_first_at_once_open_the_file_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = write_archive(tmp_path / "arrays.zip")
    together = threading.Barrier(8)
    opened = []

    class Slow(zipfile.ZipFile):
        def __init__(self, path: Path) -> None:
            opened.append(path)
            time.sleep(0.05)
            super().__init__(path)

    reader = ArrayReader(tmp_path / "arrays.zip")
    monkeypatch.setattr(zipfile, "ZipFile", Slow)

    def read(name: str) -> dict[str, np.ndarray]:
        together.wait()
        return reader[name]

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(read, list(images)[:8]))
    assert [arrays["labels"].sum() for arrays in found] == [
        arrays["labels"].sum() for arrays in list(images.values())[:8]
    ]
    assert len(opened) == 1
