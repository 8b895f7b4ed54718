"""MXNet's files: every version and type, and nothing in a hostile one is believed."""

import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from mxnet_writer import TYPES, VERSIONS, mxnet_names, write_mxnet

from occse.weights.mxnet import official_name, read_arrays

PARITY = Path(__file__).parents[2] / "parity"
OFFICIAL = (PARITY / "resnet38_names.txt").read_text().split()


def example() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {"arg:a": (3, 2, 5), "aux:é b": (7,), "arg:c": (1, 1, 1, 1, 2), "arg:d": (4, 4)}
    return {
        name: (rng.standard_normal(shape) * 50).astype(np.float32) for name, shape in shapes.items()
    }


@pytest.fixture
def intact(tmp_path: Path) -> bytes:
    write_mxnet(tmp_path / "intact.params", example())
    return (tmp_path / "intact.params").read_bytes()


def read(raw: bytes, folder: Path) -> dict[str, np.ndarray]:
    path = folder / "fed.params"
    path.write_bytes(raw)
    return read_arrays(path)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", TYPES)
def test_every_version_and_type_is_read_as_it_was_written(
    version: str, kind: str, tmp_path: Path
) -> None:
    written = {name: array.astype(kind) for name, array in example().items()}
    write_mxnet(tmp_path / "x.params", written, version=version)
    found = read_arrays(tmp_path / "x.params")
    assert list(found) == list(written)
    for name, array in written.items():
        assert found[name].dtype == array.dtype
        assert np.array_equal(found[name], array)


def test_only_the_latest_version_has_scalars(tmp_path: Path) -> None:
    scalar = {"arg:s": np.array(2.5, np.float32)}
    write_mxnet(tmp_path / "x.params", scalar, version="V3")
    assert read_arrays(tmp_path / "x.params")["arg:s"] == 2.5
    write_mxnet(tmp_path / "x.params", scalar, version="V2")
    with pytest.raises(ValueError, match="array 1 of 1 has 0 dimensions; expected 1 to 32"):
        read_arrays(tmp_path / "x.params")


def test_a_file_cut_anywhere_is_refused(intact: bytes, tmp_path: Path) -> None:
    for length in range(len(intact)):
        with pytest.raises(ValueError, match=r"fed\.params is"):
            read(intact[:length], tmp_path)


@pytest.mark.parametrize("seed", range(4))
def test_flipped_bits_never_allocate_or_fail_otherwise(
    seed: int, intact: bytes, tmp_path: Path
) -> None:
    rng = np.random.default_rng(seed)
    refused = 0
    tracemalloc.start()
    for _ in range(120):
        raw = bytearray(intact)
        for bit in rng.integers(0, 8 * len(raw), size=rng.integers(1, 4)):
            raw[bit // 8] ^= 1 << (bit % 8)
        try:
            found = read(bytes(raw), tmp_path)
        except ValueError as error:
            assert str(tmp_path / "fed.params") in str(error)
            refused += 1
        else:
            assert sum(array.nbytes for array in found.values()) <= len(raw)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert refused > 40
    assert peak < 4 << 20


def test_random_bytes_after_the_header_are_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for size in (8, 64, 1000):
        for count in (1, 2):
            raw = struct.pack("<QQQ", 0x112, 0, count) + rng.bytes(size)
            with pytest.raises(ValueError, match=r"fed\.params is damaged"):
                read(raw, tmp_path)


HUGE = 2**63


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (struct.pack("<Q", HUGE), "the list of 9223372036854775808 arrays takes"),
        (struct.pack("<QI3Q", 1, 0xF993FAC8, HUGE - 1, 0, 0), "dimensions; expected 1 to 32"),
        (
            struct.pack("<QII2qiii", 1, 0xF993FAC8, 2, 2**62, 4, 1, 0, 0),
            r"takes 73786976294838206464 bytes",
        ),
        (
            struct.pack("<QII2qiii", 1, 0xF993FAC8, 2, -1, -1, 1, 0, 0),
            r"\(-1, -1\); expected positive dimensions",
        ),
        (
            struct.pack("<QIi5q", 1, 0xF993FAC9, 1, *range(5)),
            r"storage type 1; only dense arrays \(0\)",
        ),
        (
            struct.pack("<Q2I4i", 1, 1, 1, 1, 0, 7, 0),
            "has the type 7; expected one of 0, 1, 2, 3, 4, 5, 6",
        ),
        (struct.pack("<Q2I4iQ", 1, 1, 1, 1, 0, 0, 0, 0), "1 arrays and 0 names"),
        (struct.pack("<Q2I4iQQ", 1, 1, 1, 1, 0, 0, 0, 1, HUGE), "bytes in name 1 of 1 takes"),
        (struct.pack("<Q2I4iQQ2s", 1, 1, 1, 1, 0, 0, 0, 1, 2, b"\xff\xfe"), "not UTF-8 text"),
        (struct.pack("<Q2I4iQQ2s", 1, 1, 1, 1, 0, 0, 0, 1, 2, b"a\0"), "expected printable text"),
        (struct.pack("<Q2I4iQQ", 1, 1, 1, 1, 0, 0, 0, 1, 0), "expected printable text"),
        (
            struct.pack("<Q2I4iQQ2s", 1, 1, 1, 1, 0, 0, 0, 1, 1, b"ab"),
            "1 bytes follow after the end",
        ),
    ],
)
def test_a_lie_is_named(body: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        read(struct.pack("<QQ", 0x112, 0) + body, tmp_path)


def test_a_name_twice_is_refused(tmp_path: Path) -> None:
    write_mxnet(
        tmp_path / "x.params", {"arg:a": np.ones(2, np.float32), "arg:b": np.ones(2, np.float32)}
    )
    raw = (tmp_path / "x.params").read_bytes().replace(b"arg:b", b"arg:a")
    with pytest.raises(ValueError, match="the name 'arg:a' is there twice"):
        read(raw, tmp_path)


def test_another_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is empty"):
        read(b"", tmp_path)
    with pytest.raises(ValueError, match="does not begin with 0x112"):
        read(b"<!DOCTYPE html><html><body>Sign in to download", tmp_path)


def test_the_names_are_those_of_the_official_code() -> None:
    expected = mxnet_names()
    assert len(expected) == 191
    assert {name: official_name(name) for name in expected} == expected
    assert sorted(expected.values()) == sorted(set(OFFICIAL) - {"fc8.weight"})


@pytest.mark.parametrize(
    "name",
    [
        "arg:linear1000_weight",
        "arg:linear1000_bias",
        "conv1a_weight",
        "aux:conv1a_weight",
        "arg:conv1a_gamma",
        "arg:bn7_weight",
        "aux:bn7_gamma",
        "arg:bn7_moving_var",
        "arg:res8a_branch1_weight",
        "arg:res2b0_branch2a_weight",
        "arg:res2a_branch2a_weight ",
        "arg:res2a_branch2a_weight\n",
        "",
    ],
)
def test_other_names_are_no_tensor_of_the_backbone(name: str) -> None:
    assert official_name(name) is None
