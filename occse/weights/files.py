"""Weight files as files: their format, their digest, and which published one they are.

The format is told by the first bytes, not by the name. Nothing here needs torch, so that a knob
that names a file is checked without it.
"""

import hashlib
import re
import struct
from functools import cache
from pathlib import Path

MXNET_HEADER = struct.pack("<QQ", 0x112, 0)
ZIP_HEADER = b"PK\x03\x04"
# The number 0x1950a86a20f9469cfc6c, pickled.
LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."

MXNET = "MXNet NDArray"
SAFETENSORS = "safetensors"
ZIP = "PyTorch"
LEGACY = "PyTorch before 1.6"
FORMATS = (MXNET, SAFETENSORS, ZIP, LEGACY)

SUFFIXES = (".params", ".pth", ".pt", ".safetensors")
RESNET38_MD5 = "ff21f45d6bf03284100dcbec571edfad"
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


def file_format(path: Path) -> str:
    """Return the format that the first bytes of `path` tell: one of `FORMATS`.

    Raises:
        ValueError: the format is none of them.
    """
    with path.open("rb") as file:
        head = file.read(64)
    if head.startswith(MXNET_HEADER):
        return MXNET
    if head.startswith(ZIP_HEADER):
        return ZIP
    if head.startswith(LEGACY_MAGIC):
        return LEGACY
    # A safetensors file begins with eight bytes of length, then JSON.
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
        f"{path} is not a weight file: it begins with {head[:16]!r}; "
        f"expected one of {', '.join(FORMATS)}"
    )


def digest(path: Path, algorithm: str = "sha256") -> str:
    """Return the hex digest of the file's bytes, "sha256" or "md5".

    It is remembered until size or time of the file change.
    """
    status = path.stat()
    return _digest(path, algorithm, status.st_size, status.st_mtime_ns)


# Size and time are arguments for the cache alone: a changed file is hashed again.
@cache
def _digest(path: Path, algorithm: str, _size: int, _changed: int) -> str:
    with path.open("rb") as file:
        # Without `usedforsecurity` some systems refuse md5, which is only a checksum here.
        return hashlib.file_digest(
            file, lambda: hashlib.new(algorithm, usedforsecurity=False)
        ).hexdigest()


def known_file(path: Path) -> str:
    """Return the name of the published file with the digest of `path`; empty if unknown."""
    if is_resnet38(path):
        return "resnet_38d.params, ResNet38 trained on ImageNet (itijyou/ademxapp)"
    return TORCHVISION.get(digest(path)[:8], "")


def is_resnet38(path: Path) -> bool:
    """Tell if `path` is the published resnet_38d.params, to the last byte."""
    return digest(path, "md5") == RESNET38_MD5


def beside_resnet38(path: Path) -> str:
    """Return size and digest of `path` beside that of the published resnet_38d.params, as text."""
    return (
        f"it has {path.stat().st_size} bytes and the md5 {digest(path, 'md5')}, "
        f"the published resnet_38d.params has {RESNET38_MD5}"
    )


def find_weights(folder: Path | None, sha256: str) -> Path:
    """Return the weight file in `folder` with the digest `sha256` (64 hex digits), by any name.

    Raises:
        ValueError: there is no such file, or no folder.
    """
    if folder is None:
        raise ValueError(
            f"init is the file with the SHA-256 {sha256}, "
            "but its folder is not given: give --weights"
        )
    files = sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES and path.is_file())
    for path in files:
        if digest(path) == sha256:
            return path
    names = ", ".join(path.name for path in files)
    raise ValueError(f"no file in {folder} has the SHA-256 {sha256}; looked at {names or 'none'}")


def check_promise(path: Path) -> None:
    """Compare a file that torchvision published with the digits of its SHA-256 in its name.

    Raises:
        ValueError: they differ.
    """
    promise = PROMISE.search(path.name)
    if promise and not digest(path).startswith(promise[1]):
        raise ValueError(
            f"{path} is damaged, or has another file's name: its SHA-256 is {digest(path)}, "
            f"its name promises one that begins with {promise[1]} "
            f"(it has {path.stat().st_size} bytes); fetch it again"
        )
