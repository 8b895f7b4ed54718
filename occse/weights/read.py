"""Weight files that a user brings: read safely, told intact from damaged, found by what is in them.

The format is told by the first bytes, not by the name: MXNet's NDArray files, PyTorch's zip files
and the ones before version 1.6, safetensors. No file can run code."""

import contextlib
import hashlib
import re
import zipfile
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from occse.weights.mxnet import HEADER, official_name, read_arrays

MXNET, SAFETENSORS, ZIP, LEGACY = "MXNet NDArray", "safetensors", "PyTorch", "PyTorch before 1.6"
# The number 0x1950a86a20f9469cfc6c, pickled.
LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
SUFFIXES = (".params", ".pth", ".pt", ".safetensors")
RESNET38_MD5 = "ff21f45d6bf03284100dcbec571edfad"
RESNET38_TENSORS = 191
# Known files by the first digits of their SHA-256, which torchvision also puts into the file names.
TORCHVISION = {
    "0676ba61": "torchvision's resnet50, IMAGENET1K_V1",
    "11ad3fa6": "torchvision's resnet50, IMAGENET1K_V2",
    "63fe2227": "torchvision's resnet101, IMAGENET1K_V1",
    "cd907fc2": "torchvision's resnet101, IMAGENET1K_V2",
    "397923af": "torchvision's vgg16, IMAGENET1K_V1",
    "983f1562": "torchvision's convnext_tiny, IMAGENET1K_V1",
}
PROMISE = re.compile(r"-([0-9a-f]{8,64})\.(?:pth|pt)")


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a weight file by name, on the CPU.

    A state dict may stand under the key "state_dict", and its names may begin with "module.". Those
    tensors of an MXNet file that are ResNet38's get their official PyTorch names, others keep their
    own.

    Raises:
        ValueError: the file is damaged or of no known format; the message names it and says what is
        wrong. FileNotFoundError: there is no file.
    """
    kind = file_format(path)
    _check_promise(path)
    if kind == MXNET:
        return _read_mxnet(path)
    with _naming(path, kind):
        tensors = (
            _read_safetensors(path)
            if kind == SAFETENSORS
            else _read_pytorch(path, is_zip=kind == ZIP)
        )
        plain = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
        if len(plain) < len(tensors):
            raise ValueError("a name is there twice, with and without 'module.'")
    return plain


def file_format(path: Path) -> str:
    """Which format the first bytes of `path` are.

    Raises:
        ValueError: none that is known.
    """
    with path.open("rb") as file:
        head = file.read(64)
    if head.startswith(HEADER):
        return MXNET
    if head.startswith(b"PK\x03\x04"):
        return ZIP
    if head.startswith(LEGACY_MAGIC):
        return LEGACY
    if head[8:9] == b"{":
        return SAFETENSORS
    if not head:
        raise ValueError(f"{path} is empty")
    if head.lstrip().startswith(b"<"):
        raise ValueError(f"{path} is a web page instead of weights: the download did not work")
    if head.startswith(b"version https://git-lfs"):
        raise ValueError(
            f"{path} is a pointer of Git LFS instead of weights: fetch the file itself"
        )
    raise ValueError(
        f"{path} is no weight file: it begins with {head[:16]!r}; "
        f"expected one of {', '.join((MXNET, SAFETENSORS, ZIP, LEGACY))}"
    )


def digest(path: Path, algorithm: str = "sha256") -> str:
    """Hex digest of the file's bytes, "sha256" or "md5"; remembered until the file changes."""
    status = path.stat()
    return _digest(path, algorithm, status.st_size, status.st_mtime_ns)


@cache
def _digest(path: Path, algorithm: str, _size: int, _changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(
            file, lambda: hashlib.new(algorithm, usedforsecurity=False)
        ).hexdigest()


def known_file(path: Path) -> str:
    """Which published file `path` is, by its digest; empty: none that is known."""
    if digest(path, "md5") == RESNET38_MD5:
        return "resnet_38d.params, ResNet38 trained on ImageNet (itijyou/ademxapp)"
    return TORCHVISION.get(digest(path)[:8], "")


def find_weights(folder: Path | None, sha256: str) -> Path:
    """The weight file in `folder` with the digest `sha256` (64 hex digits), whatever its name.

    Raises:
        ValueError: there is no such file; or no folder.
    """
    if folder is None:
        raise ValueError(
            f"init is the file with the SHA-256 {sha256}, but nothing says where it lies: give --weights"
        )
    files = sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES and path.is_file())
    for path in files:
        if digest(path) == sha256:
            return path
    raise ValueError(
        f"no file in {folder} has the SHA-256 {sha256}; looked at {', '.join(path.name for path in files) or 'none'}"
    )


def _check_promise(path: Path) -> None:
    """A file that torchvision published carries the first digits of its SHA-256 in its name."""
    promise = PROMISE.search(path.name)
    if promise and not digest(path).startswith(promise[1]):
        raise ValueError(
            f"{path} is damaged, or has another file's name: its SHA-256 is {digest(path)}, its name promises one that "
            f"begins with {promise[1]} (it has {path.stat().st_size} bytes); fetch it again"
        )


def _read_mxnet(path: Path) -> dict[str, Tensor]:
    try:
        arrays = read_arrays(path)
    except ValueError as error:
        raise ValueError(f"{error} ({_beside_published(path)})") from None
    names = {name: official_name(name) for name in arrays}
    if (
        sum(name is not None for name in names.values()) == RESNET38_TENSORS
        and digest(path, "md5") != RESNET38_MD5
    ):
        odd = next((name for name, array in arrays.items() if not np.isfinite(array).all()), "")
        raise ValueError(
            f"{path} can be read to its end and has all tensors of ResNet38, but {_beside_published(path)}: bytes were "
            f"changed{f' (the first values that are not finite are in {odd})' if odd else ''}; fetch it again"
        )
    return {
        names[name] or name: torch.from_numpy(np.array(array)) for name, array in arrays.items()
    }


def _beside_published(path: Path) -> str:
    return (
        f"it has {path.stat().st_size} bytes and the md5 {digest(path, 'md5')}, "
        f"the published resnet_38d.params has {RESNET38_MD5}"
    )


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def _read_pytorch(path: Path, *, is_zip: bool) -> dict[str, Tensor]:
    if is_zip:
        _check_zip(path)
    loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    if isinstance(loaded, Mapping) and isinstance(loaded.get("state_dict"), Mapping):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, Mapping) or not loaded:
        raise ValueError(
            f"it holds {loaded!r:.40}; expected a state dict, or one under 'state_dict'"
        )
    for name, value in loaded.items():
        if (
            not isinstance(name, str)
            or not isinstance(value, Tensor)
            or value.layout != torch.strided
        ):
            kind = type(value).__name__
            raise ValueError(
                f"{name!r} is a {kind}; expected dense tensors by name, or such under 'state_dict'"
            )
        if value.nbytes > path.stat().st_size:  # a view may repeat few bytes without end
            raise ValueError(f"{name!r} of the shape {tuple(value.shape)} is larger than the file")
    return {name: value.detach() for name, value in loaded.items()}


def _check_zip(path: Path) -> None:
    """PyTorch compares neither checksums nor sizes, and writes nothing compressed."""
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
                raise ValueError(
                    f"its member {info.filename!r} is compressed, which PyTorch never writes"
                )
        if broken := archive.testzip():
            raise ValueError(f"the checksum of its member {broken!r} is wrong")


@contextlib.contextmanager
def _naming(path: Path, kind: str) -> Iterator[None]:
    """Turn whatever a broken file makes the readers raise into one error that names it."""
    try:
        yield
    except Exception as error:
        text = str(error) or type(error).__name__
        raise ValueError(f"{path} is damaged, or no state dict in a {kind} file: {text}") from error
