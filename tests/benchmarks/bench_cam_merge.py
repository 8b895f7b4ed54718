"""The merge of multi-scale CAMs, present classes only, against the merge of all classes in numpy;
run it as a script.

The network is replaced by maps drawn beforehand, at stride 8 of 4 scales and their mirror images,
and its inputs by nothing, so that only the merge is timed. `naive` enlarges all 20 classes of each
of the 8 maps, sums them as arrays, and masks and normalizes at the end, as the reference inference
does. The mix stands for VOC's train_aug: 59 % of its images have one class, and 1.5 is the mean.

Run: python tests/benchmarks/bench_cam_merge.py
"""

import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from occse.data.batches import View
from occse.method import cam as cams_module

SIZE = (375, 500)
NUM_CLASSES = 20
SCALES = (0.5, 1.0, 1.5, 2.0)
STRIDE = 8
MIX = {1: 0.59, 2: 0.32, 3: 0.09, 4: 0.0}


def naive(maps: list[Tensor], present: list[int]) -> np.ndarray:
    total = np.zeros((NUM_CLASSES, *SIZE), np.float32)
    for pair in maps:
        for view, cams in enumerate(pair):
            enlarged = functional.interpolate(
                cams[None], SIZE, mode="bilinear", align_corners=False
            )[0]
            cam = functional.relu(enlarged).numpy()
            total = total + (cam[:, :, ::-1] if view else cam)
    label = np.zeros((NUM_CLASSES, 1, 1), np.float32)
    label[present] = 1
    cam = total * label
    normalized: np.ndarray = cam / (cam.max(axis=(1, 2), keepdims=True) + 1e-5)
    return normalized[present]


def ours(maps: list[Tensor], present: list[int]) -> np.ndarray:
    answers: Iterator[Tensor] = iter(maps)
    (cam,) = cams_module.multi_scale_cam(
        lambda _: next(answers),
        np.zeros((1, *SIZE, 3), np.uint8),
        present=[present],
        scales=SCALES,
        flip=True,
        device="cpu",
    )
    return cam


def seconds(*runs: Callable[[], object], repeats: int) -> list[float]:
    """The best time of each, taken by turns so that what else the machine does slows them all."""
    times: list[list[float]] = [[] for _ in runs]
    for _ in range(repeats):
        for run, measured in zip(runs, times, strict=True):
            start = time.perf_counter()
            run()
            measured.append(time.perf_counter() - start)
    return [min(measured) for measured in times]


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    # nothing looks at the inputs
    nothing = View(torch.zeros(1, 1, 1, 3, dtype=torch.uint8), 1.0)
    cams_module.views_of = lambda images, scales: [nothing] * len(scales)
    sizes = [tuple(-(-round(side * scale) // STRIDE) for side in SIZE) for scale in SCALES]
    maps = [torch.randn(2, NUM_CLASSES, *size) for size in sizes]
    mean_fast = mean_slow = 0.0
    for num_present, share in MIX.items():
        present = sorted(rng.choice(NUM_CLASSES, num_present, replace=False).tolist())
        np.testing.assert_allclose(ours(maps, present), naive(maps, present), atol=1e-5)
        fast, slow = seconds(
            lambda p=present: ours(maps, p), lambda p=present: naive(maps, p), repeats=20
        )
        mean_fast, mean_slow = mean_fast + share * fast, mean_slow + share * slow
        print(
            f"{num_present} of {NUM_CLASSES} classes, {SIZE[1]}x{SIZE[0]}, "
            f"{len(SCALES)} scales mirrored: "
            f"present classes {fast * 1e3:.1f} ms, all classes in numpy {slow * 1e3:.1f} ms, "
            f"{slow / fast:.1f} times as long"
        )
    print(f"VOC's mix of 1.5 classes: {mean_slow / mean_fast:.1f} times as long")


if __name__ == "__main__":
    main()
