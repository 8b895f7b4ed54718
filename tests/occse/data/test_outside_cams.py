"""CAMs of other methods, in the files that psa, SEAM and irn leave, and in hostile ones."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from occse.data.npy_dicts.outside_cams import read_cams

CAMS = np.random.default_rng(0).random((2, 6, 9)).astype(np.float32)
KEYS = torch.tensor([1, 3])


def save(path: Path, value: object) -> Path:
    np.save(path, np.array(value, dtype=object))
    return path


@pytest.mark.parametrize(
    "saved",
    [
        {3: CAMS[1], 1: CAMS[0]},
        {3: CAMS[1].astype(np.float64), 1: CAMS[0].astype(np.float64)},
        # irn keeps the keys and the small maps as tensors, the large ones as an array
        {"keys": KEYS, "cam": torch.tensor(CAMS)[:, ::4, ::4], "high_res": CAMS},
        {"keys": KEYS.numpy(), "cam": CAMS},
        {"keys": KEYS.flip(0), "cam": torch.tensor(CAMS).flip(0)},
        # a view that is not contiguous
        {"keys": KEYS, "cam": torch.tensor(CAMS.transpose(2, 1, 0).copy()).permute(2, 1, 0)},
    ],
)
def test_reader_knows_the_files_of_psa_and_irn(saved: dict[Any, Any], tmp_path: Path) -> None:
    cams, classes = read_cams(save(tmp_path / "a.npy", saved), num_classes=4)
    np.testing.assert_array_equal(cams, CAMS)
    assert classes.tolist() == [1, 3]


def test_reader_takes_negative_scores_of_seam_for_no_activation(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npy", {0: CAMS[0] - np.float32(0.1)})
    cams, _ = read_cams(path, num_classes=1)
    np.testing.assert_array_equal(cams[0], np.maximum(CAMS[0] - np.float32(0.1), 0))


class Runs:
    def __reduce__(self) -> Any:
        return Path.touch, (Path("was run"),)


class Storage:
    """A storage whose bytes are not those of torch."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def __reduce__(self) -> Any:
        return torch.storage._load_from_bytes, (self.content,)


class Tensor:
    """A tensor of any offset, size and strides."""

    def __init__(self, storage: object, *view: object) -> None:
        self.arguments = (storage, *view, False, {})

    def __reduce__(self) -> Any:
        return torch._utils._rebuild_tensor_v2, self.arguments


STORAGE = torch.tensor(CAMS).untyped_storage()
TYPED = torch.storage.TypedStorage(wrap_storage=STORAGE, dtype=torch.float32, _internal=True)


@pytest.mark.parametrize(
    ("saved", "message"),
    [
        ({0: Runs()}, "it names"),
        ({0: Storage(pickle.dumps(Runs()))}, "pickle exhausted"),
        ({0: Storage(5 * pickle.dumps(Runs()))}, "a storage of another kind than numbers"),
        ({0: Storage(5 * b"cos\nsystem\n." + bytes(8))}, "a storage of another kind than numbers"),
        ({0: Storage(b"")}, "pickle exhausted"),
        ({0: torch.nn.Linear(1, 1)}, "it names"),
        ({"keys": KEYS, "cam": Tensor(TYPED, 0, (2, 6, 900), (54, 9, 1))}, "beyond its storage"),
        ({"keys": KEYS, "cam": Tensor(TYPED, 100, (2, 6, 9), (54, 9, 1))}, "beyond its storage"),
        ({"keys": KEYS, "cam": Tensor(TYPED, -8, (2, 6, 9), (54, 9, 1))}, "not a number"),
        ({"keys": KEYS, "cam": Tensor(TYPED, 0, (2, 10**6, 10**6), (0, 0, 0))}, "beyond"),
        ({"keys": KEYS, "cam": Tensor("text", 0, (2, 6, 9), (54, 9, 1))}, "without a storage"),
        ({"keys": KEYS}, "neither high_res nor cam"),
        ({"keys": KEYS, "cam": CAMS[:1]}, "1 maps for the classes"),
        ({4: CAMS[0]}, "it has the classes"),
        ({"cat": CAMS[0]}, "a key is 'cat', not a class"),
        ({0: CAMS[0], 1: CAMS[0][:3]}, "maps of the sizes"),
        ({0: CAMS[0] * 20}, "its maps go from"),
        ({0: np.full((2, 2), np.nan, np.float32)}, "its maps go from nan"),
        ({}, "its dict is empty"),
    ],
)
def test_reader_refuses_hostile_and_useless_files_and_runs_nothing(
    saved: object, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = save(tmp_path / "a.npy", saved)
    with pytest.raises(ValueError, match=rf"a\.npy is not a file of CAMs: .*({message})"):
        read_cams(path, num_classes=4)
    assert not (tmp_path / "was run").exists()
