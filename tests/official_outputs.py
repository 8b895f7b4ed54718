"""A folder as the official code's train.py leaves it, for the three images of `voc_tree`."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from voc_tree import HEIGHT, WIDTH

SETTINGS = {
    "train_list": "train_aug",
    "val_list": "train",
    "num_workers": "8",
    "batch_size": "8",
    "resize": "[256, 448]",
    "crop": "384",
    "lr": "0.01",
    "wt_dec": "0.0005",
    "max_epochs": "2",
    "model": "model_cse",
    "name": "cse_l03",
    "seed": "4242",
    "er_init": "imagenet",
    "cl_init": "cam",
    "cc_init": "0.3",
    "cc_slope": "0.05",
    "vis": "False",
    "alphas": "[6, 10, 24]",
}


def write_log(folder: Path, epochs: Sequence[tuple[float, float]], **settings: str) -> Path:
    """Write log.txt with the mIoU (percent) and threshold of each epoch, line by line as the
    official code prints.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["-" * 52 + " SETUP " + "-" * 52]
    lines += [f"{key} : {value}" for key, value in (SETTINGS | settings).items()] + ["-" * 111]
    lines += [
        "Train dataset is loaded from voc12/train_aug.txt",
        "Validation dataset is loaded from voc12/train.txt",
    ]
    lines += ["-" * 111, "-" * 43 + " start OC-CSE train loop " + "-" * 44]
    best = 0
    for epoch, (miou, threshold) in enumerate(epochs):
        lines += [
            "-" * 111,
            f"Epoch {epoch:03} train",
            "all : 0.21, select : 0.043",
            "acc_all : 90.1, acc_select : 80.2",
        ]
        lines += ["Learning rate er:cl = 1:0.3", "-", "_" * 111, f"Epoch {epoch:03} validation"]
        lines += [
            "Evaluate ./experiments/cse_l03/dict "
            "with ./data/VOC2012/ImageSets/Segmentation/train.txt"
        ]
        lines += [
            f"{i}/60 threshold: {i / 100 + 0.1:.3f}\tmIoU: {miou / 2:.3f}%" for i in range(30)
        ]
        lines += [f"Epoch {epoch} mIoU={str(miou)[:6]}% at threshold {threshold}"]
        best = max(best, epoch, key=lambda each: epochs[each][0])
        lines += [
            f"Epoch {best} is best : mIoU={str(epochs[best][0])[:6]}% "
            f"at threshold {epochs[best][1]}"
        ]
        lines += [str([round(each, 1) for each, _ in epochs[: epoch + 1]])]
    (folder / "log.txt").write_text("\n".join(lines) + "\n")
    return folder


def write_maps(folder: Path, name: str, classes: Sequence[int], *, seed: int = 0) -> None:
    """Write dict/NAME.npy, a pickled dict as numpy saves it."""
    (folder / "dict").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    np.save(
        folder / "dict" / f"{name}.npy",
        {index: rng.random((HEIGHT, WIDTH), np.float32) for index in classes},
    )  # type: ignore[arg-type]
