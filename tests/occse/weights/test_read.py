"""Weight files in every format, intact, damaged and hostile."""

import collections
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from mxnet_writer import mxnet_names, write_mxnet
from safetensors.torch import save_file
from torch import Tensor
from torchvision.models import (
    ConvNeXt_Tiny_Weights,
    ResNet50_Weights,
    ResNet101_Weights,
    VGG16_Weights,
)

from occse.weights import files as module
from occse.weights.files import TORCHVISION, digest, file_format, find_weights, known_file
from occse.weights.read import read_weights


def example() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    tensors = {
        name: torch.randn(3, 5, generator=generator)
        for name in ("conv1a.weight", "b2.bn_branch2a.weight")
    }
    return {
        **tensors,
        "b2.bn_branch2a.num_batches_tracked": torch.tensor(7),
        "half": torch.ones(2).half(),
    }


def save_zip(tensors: object, path: Path) -> None:
    torch.save(tensors, path)


def save_legacy(tensors: object, path: Path) -> None:
    torch.save(tensors, path, _use_new_zipfile_serialization=False)


def save_safetensors(tensors: dict[str, Tensor], path: Path) -> None:
    save_file(tensors, path)


SAVERS = [save_zip, save_legacy, save_safetensors]


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert set(found) == set(expected)
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


@pytest.mark.parametrize("save", SAVERS)
def test_every_format_is_told_by_its_bytes_and_read(
    save: Callable[..., None], tmp_path: Path
) -> None:
    save(example(), tmp_path / "no-suffix")
    assert_same(read_weights(tmp_path / "no-suffix"), example())


@pytest.mark.parametrize("save", [save_zip, save_legacy])
def test_wrappers_and_module_prefixes_fall_away(save: Callable[..., None], tmp_path: Path) -> None:
    prefixed = collections.OrderedDict(
        (f"module.{name}", tensor) for name, tensor in example().items()
    )
    save({"epoch": 3, "state_dict": prefixed, "optimizer": {"lr": 0.1}}, tmp_path / "x.pth")
    assert_same(read_weights(tmp_path / "x.pth"), example())


def test_a_name_with_and_without_module_is_refused(tmp_path: Path) -> None:
    save_zip({"a": torch.ones(1), "module.a": torch.zeros(1)}, tmp_path / "x.pth")
    with pytest.raises(ValueError, match=r"a name is there twice, with and without 'module\.'"):
        read_weights(tmp_path / "x.pth")


@pytest.mark.filterwarnings("ignore:Validating sparse tensor invariants")
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": torch.ones(1), "epoch": 3}, "'epoch' is a int; expected dense tensors by name"),
        ({3: torch.ones(1)}, "3 is a Tensor; expected dense tensors by name"),
        ([torch.ones(1)], "expected a state dict"),
        ({}, "it holds {}; expected a state dict"),
        ({"a": torch.ones(1).expand(1 << 40)}, "'a' of the shape .* is larger than the file"),
        ({"a": torch.eye(3).to_sparse_coo()}, "'a' is a Tensor; expected dense tensors"),
    ],
)
def test_what_is_no_state_dict_is_refused(content: object, message: str, tmp_path: Path) -> None:
    save_zip(content, tmp_path / "x.pth")
    with pytest.raises(ValueError, match=message) as caught:
        read_weights(tmp_path / "x.pth")
    assert str(tmp_path / "x.pth") in str(caught.value)


class Hostile:
    """Runs a command when it is unpickled by whoever trusts it."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("save", [save_zip, save_legacy])
def test_no_file_runs_code(save: Callable[..., None], tmp_path: Path) -> None:
    save({"a": Hostile(tmp_path / "owned")}, tmp_path / "x.pth")
    with pytest.raises(ValueError, match=r"x\.pth is damaged, or no state dict"):
        read_weights(tmp_path / "x.pth")
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps(Hostile(tmp_path / "owned")))
    with pytest.raises(ValueError, match=r"plain\.pkl is not a weight file"):
        read_weights(tmp_path / "plain.pkl")
    assert not (tmp_path / "owned").exists()


def test_a_changed_value_in_a_zip_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    save_zip(example(), path)
    value = example()["half"].numpy().tobytes()
    raw = path.read_bytes()
    assert raw.count(value) == 1
    path.write_bytes(raw.replace(value, b"\x01" + value[1:]))
    with pytest.raises(ValueError, match=r"the checksum of its member 'x/data/\d' is wrong"):
        read_weights(path)


def test_a_compressed_member_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb/data.pkl", b"\0" * 1_000_000)
    with pytest.raises(
        ValueError, match=r"'bomb/data\.pkl' is compressed, which PyTorch never writes"
    ):
        read_weights(tmp_path / "bomb.pth")


@pytest.mark.parametrize("save", SAVERS)
def test_cut_and_flipped_files_give_a_value_error_or_tensors(
    save: Callable[..., None], tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / "x.pth"
    save(example(), path)
    raw = path.read_bytes()
    damaged = [raw[:length] for length in rng.integers(0, len(raw), size=40)]
    for _ in range(120):
        flipped = bytearray(raw)
        for bit in rng.integers(0, 8 * len(raw), size=2):
            flipped[bit // 8] ^= 1 << (bit % 8)
        damaged.append(bytes(flipped))
    refused = 0
    for each in damaged:
        path.write_bytes(each)
        try:
            found = read_weights(path)
        except ValueError as error:
            assert str(path) in str(error)
            refused += 1
        else:
            assert all(tensor.nbytes <= len(raw) for tensor in found.values())
    assert refused >= 40


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "is empty"),
        (b"\n<!DOCTYPE html><html>", "is a web page instead of weights"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "is a pointer of Git LFS"),
        (b"\x89PNG\r\n\x1a\n" + bytes(60), "is not a weight file: it begins with b'.x89PNG"),
    ],
)
def test_what_is_no_weight_file_is_called_what_it_is(
    raw: bytes, message: str, tmp_path: Path
) -> None:
    (tmp_path / "x.pth").write_bytes(raw)
    with pytest.raises(ValueError, match=message):
        read_weights(tmp_path / "x.pth")


def test_a_name_that_promises_another_digest_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net-01234567.pth"
    save_zip(example(), path)
    with pytest.raises(ValueError, match="its name promises one that begins with 01234567"):
        read_weights(path)
    good = path.rename(tmp_path / f"net-{digest(path)[:8]}.pth")
    assert_same(read_weights(good), example())


def resnet38_arrays() -> dict[str, np.ndarray]:
    """All names of the published file; the shapes do not matter to its reader."""
    arrays = {name: np.full(2, index, np.float32) for index, name in enumerate(mxnet_names())}
    return {
        **arrays,
        "arg:linear1000_weight": np.ones(3, np.float32),
        "arg:linear1000_bias": np.ones(3, np.float32),
    }


def test_the_published_mxnet_file_gets_official_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "resnet_38d.params"
    write_mxnet(path, resnet38_arrays())
    monkeypatch.setattr(module, "RESNET38_MD5", digest(path, "md5"))
    found = read_weights(path)
    assert set(found) == {*mxnet_names().values(), "arg:linear1000_weight", "arg:linear1000_bias"}
    for index, name in enumerate(mxnet_names().values()):
        assert found[name].tolist() == [index, index]
    assert known_file(path).startswith("resnet_38d.params")


def test_another_md5_is_refused_and_says_what_differs(tmp_path: Path) -> None:
    path = tmp_path / "resnet_38d.params"
    arrays = resnet38_arrays()
    write_mxnet(path, arrays)
    with pytest.raises(
        ValueError,
        match=rf"md5 {digest(path, 'md5')}, the published .* ff21f45d6bf.*: bytes were changed",
    ):
        read_weights(path)
    arrays["arg:bn7_gamma"][1] = np.inf
    write_mxnet(path, arrays)
    with pytest.raises(
        ValueError, match="the first values that are not finite are in arg:bn7_gamma"
    ):
        read_weights(path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(
        ValueError, match=r"1000 bytes is truncated.*published resnet_38d\.params has ff21f45d6bf"
    ):
        read_weights(path)


def test_another_mxnet_file_keeps_its_names(tmp_path: Path) -> None:
    write_mxnet(
        tmp_path / "x.params",
        {"arg:fc_weight": np.ones((2, 2)), "arg:conv1a_weight": np.ones(3, np.int8)},
    )
    assert {name: tensor.dtype for name, tensor in read_weights(tmp_path / "x.params").items()} == {
        "arg:fc_weight": torch.float64,
        "conv1a.weight": torch.int8,
    }


def test_digests_follow_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    path.write_bytes(b"abc")
    assert digest(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert digest(path, "md5") == "900150983cd24fb0d6963f7d28e17f72"
    path.write_bytes(b"abcd")
    assert digest(path, "md5") == "e2fc714c4727ee9395f324cd2e7f331f"


def test_the_digests_of_torchvision_are_those_in_its_addresses() -> None:
    published = {}
    for weights in (*ResNet50_Weights, *ResNet101_Weights, *VGG16_Weights, *ConvNeXt_Tiny_Weights):
        stem = weights.url.rsplit("/", 1)[-1].removesuffix(".pth")
        name, _, prefix = stem.rpartition("-")
        if "amdegroot" not in name:
            published[prefix] = f"torchvision's {name}, {weights.name}"
    assert published == TORCHVISION


def test_weights_are_found_by_their_digest(tmp_path: Path) -> None:
    save_zip(example(), tmp_path / "a.pth")
    save_safetensors(example(), tmp_path / "b.safetensors")
    (tmp_path / "notes.txt").write_text("not looked at")
    sha256 = digest(tmp_path / "b.safetensors")
    assert find_weights(tmp_path, sha256) == tmp_path / "b.safetensors"
    assert file_format(tmp_path / "b.safetensors") == "safetensors"
    with pytest.raises(
        ValueError, match=r"has the SHA-256 0{64}; looked at a\.pth, b\.safetensors$"
    ):
        find_weights(tmp_path, "0" * 64)
    with pytest.raises(ValueError, match="its folder is not given: give --weights"):
        find_weights(None, sha256)


@pytest.mark.parametrize("suffix", ["params", "pth", "safetensors"])
def test_values_that_are_not_finite_are_damage(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"weights.{suffix}"
    arrays = {"good": np.ones(3, np.float32), "bad": np.array([1, np.nan], np.float32)}
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    if suffix == "params":
        write_mxnet(path, arrays)
    elif suffix == "pth":
        torch.save(tensors, path)
    else:
        save_file(tensors, path)
    with pytest.raises(ValueError, match=r"is damaged: bad has values that are not finite"):
        read_weights(path)


@pytest.mark.parametrize("suffix", ["params", "safetensors"])
def test_a_file_without_arrays_is_damaged(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"weights.{suffix}"
    if suffix == "params":
        write_mxnet(path, {})
    else:
        save_file({}, path)
    with pytest.raises(ValueError, match=r"is damaged.* holds no arrays"):
        read_weights(path)
