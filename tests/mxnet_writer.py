"""An independent writer of MXNet NDArray files, in every version of the format."""

import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np

VERSIONS = ("legacy", "V1", "V2", "V3")
TYPES = ("float32", "float64", "float16", "uint8", "int32", "int8", "int64")


def write_mxnet(path: Path, arrays: Mapping[str, np.ndarray], *, version: str = "V2") -> None:
    blocks = [_array(array, version) for array in arrays.values()]
    names = [struct.pack("<Q", len(name.encode())) + name.encode() for name in arrays]
    count = struct.pack("<Q", len(blocks))
    path.write_bytes(b"".join([struct.pack("<QQ", 0x112, 0), count, *blocks, count, *names]))


def _array(array: np.ndarray, version: str) -> bytes:
    head = {
        "legacy": b"",
        "V1": struct.pack("<I", 0xF993FAC8),
        "V2": struct.pack("<Ii", 0xF993FAC9, 0),
        "V3": struct.pack("<Ii", 0xF993FACA, 0),
    }[version]
    dims = "I" if version == "legacy" else "q"
    shape = struct.pack(f"<I{array.ndim}{dims}", array.ndim, *array.shape)
    place = struct.pack("<iii", 1, 0, TYPES.index(array.dtype.name))
    return head + shape + place + array.astype(array.dtype.newbyteorder("<")).tobytes()


def mxnet_names() -> dict[str, str]:
    """Official PyTorch name of every ResNet38 tensor by its MXNet name, spelt out by block."""
    names = {"arg:conv1a_weight": "conv1a.weight"}

    def norm(theirs: str, ours: str) -> None:
        for prefix, ending, weight in (
            ("arg", "gamma", "weight"),
            ("arg", "beta", "bias"),
            ("aux", "moving_mean", "running_mean"),
            ("aux", "moving_var", "running_var"),
        ):
            names[f"{prefix}:{theirs}_{ending}"] = f"{ours}.{weight}"

    for level, blocks in {2: 3, 3: 3, 4: 6, 5: 3, 6: 1, 7: 1}.items():
        for block in range(blocks):
            theirs, ours = (
                (f"{level}b{block}", f"b{level}_{block}") if block else (f"{level}a", f"b{level}")
            )
            for branch in ("2a", "2b1", "2b2") if level > 5 else ("2a", "2b1"):
                names[f"arg:res{theirs}_branch{branch}_weight"] = (
                    f"{ours}.conv_branch{branch}.weight"
                )
                norm(f"bn{theirs}_branch{branch}", f"{ours}.bn_branch{branch}")
            if not block:
                names[f"arg:res{theirs}_branch1_weight"] = f"{ours}.conv_branch1.weight"
    norm("bn7", "bn7")
    return names
