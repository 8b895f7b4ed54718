"""Weight files that a user brings, read safely and told intact from damaged.

MXNet's NDArray files, PyTorch's zip files and the ones before version 1.6, safetensors. No file can
run code.
"""

import contextlib
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from occse.weights.files import (
    MXNET,
    SAFETENSORS,
    ZIP,
    beside_resnet38,
    check_promise,
    file_format,
    is_resnet38,
)
from occse.weights.mxnet import official_name, read_arrays

# Arrays of the published resnet_38d.params that have a name in the official PyTorch code.
RESNET38_TENSORS = 191


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a weight file by name, on the CPU.

    A state dict may stand under the key "state_dict", and its names may begin with "module.". The
    tensors of an MXNet file that are ResNet38's get their official PyTorch names, others keep their
    own.

    Raises:
        ValueError: the file is damaged or of no known format; the message names it and says what is
            wrong.
        FileNotFoundError: there is no file.
    """
    kind = file_format(path)
    check_promise(path)
    if kind == MXNET:
        tensors = _read_mxnet(path)
        _check_values(path, tensors)
        return tensors
    with _naming(path, kind):
        tensors = _read_tensors(path, kind)
        plain = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
        if len(plain) < len(tensors):
            raise ValueError("a name is there twice, with and without 'module.'")
    _check_values(path, plain)
    return plain


def _check_values(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Refuse a file without tensors, and one with values that are not finite."""
    if not tensors:
        raise ValueError(f"{path} is damaged: it holds no arrays; expected those of a network")
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise ValueError(
                f"{path} is damaged: {name} has values that are not finite; fetch it again"
            )


def _read_tensors(path: Path, kind: str) -> dict[str, Tensor]:
    if kind == SAFETENSORS:
        return _read_safetensors(path)
    return _read_pytorch(path, is_zip=kind == ZIP)


def _read_mxnet(path: Path) -> dict[str, Tensor]:
    try:
        arrays = read_arrays(path)
    except ValueError as error:
        raise ValueError(f"{error} ({beside_resnet38(path)})") from None
    names = {name: official_name(name) for name in arrays}
    num_official = sum(name is not None for name in names.values())
    if num_official == RESNET38_TENSORS and not is_resnet38(path):
        raise ValueError(
            f"{path} can be read to its end and has all tensors of ResNet38, "
            f"but {beside_resnet38(path)}: bytes were changed{_first_odd(arrays)}; fetch it again"
        )
    # A copy: the arrays are read-only views of the file, and torch wants memory to write to.
    return {
        names[name] or name: torch.from_numpy(np.array(array)) for name, array in arrays.items()
    }


def _first_odd(arrays: Mapping[str, np.ndarray]) -> str:
    """Name the first array with a value that is not finite, as an aside of a message."""
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            return f" (the first values that are not finite are in {name})"
    return ""


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def _read_pytorch(path: Path, *, is_zip: bool) -> dict[str, Tensor]:
    if is_zip:
        _check_zip(path)
    # torch can map a zip file alone.
    loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    if isinstance(loaded, Mapping) and isinstance(loaded.get("state_dict"), Mapping):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, Mapping) or not loaded:
        raise ValueError(
            f"it holds {loaded!r:.40}; expected a state dict, or one under 'state_dict'"
        )
    for name, value in loaded.items():
        is_dense = isinstance(value, Tensor) and value.layout == torch.strided
        if not isinstance(name, str) or not is_dense:
            kind = type(value).__name__
            raise ValueError(
                f"{name!r} is a {kind}; expected dense tensors by name, or such under 'state_dict'"
            )
        # A view may repeat few bytes without end.
        if value.nbytes > path.stat().st_size:
            raise ValueError(f"{name!r} of the shape {tuple(value.shape)} is larger than the file")
    # A file may hold parameters, which would want gradients.
    return {name: value.detach() for name, value in loaded.items()}


def _check_zip(path: Path) -> None:
    """Compare sizes and checksums, which PyTorch does not; it writes nothing compressed."""
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
    """Turn anything that a broken file makes the readers raise into one error that names it."""
    try:
        yield
    except Exception as error:
        text = str(error) or type(error).__name__
        raise ValueError(f"{path} is damaged, or no state dict in a {kind} file: {text}") from error
