"""Times the one-pass threshold sweep against loops over the thresholds; run it as a script.

`naive` fills a score array of all labels per threshold, takes its argmax and counts class by class,
as the reference evaluation does; `lean` keeps to the present classes and counts with one bincount
per threshold."""

import time
from collections.abc import Callable

import numpy as np

from occse.method.evaluation import CountsBuilder

SIZE = (375, 500)
NUM_CLASSES = 20
CLASSES = [f"class{index}" for index in range(NUM_CLASSES)]
THRESHOLDS = [0.1 + index / 100 for index in range(30)]


def naive(cam: np.ndarray, classes: np.ndarray, gt: np.ndarray) -> np.ndarray:
    confusion = np.zeros((len(THRESHOLDS), NUM_CLASSES + 1, NUM_CLASSES + 1), np.int64)
    scores = np.zeros((NUM_CLASSES + 1, *gt.shape), np.float32)
    scores[classes + 1] = cam
    valid = gt < 255
    for level, threshold in enumerate(THRESHOLDS):
        scores[0] = threshold
        predicted = scores.argmax(axis=0)
        for label in range(NUM_CLASSES + 1):
            mine = (predicted == label) & valid
            confusion[level, :, label] = np.bincount(gt[mine], minlength=NUM_CLASSES + 1)
    return confusion


def lean(cam: np.ndarray, classes: np.ndarray, gt: np.ndarray) -> np.ndarray:
    labels = NUM_CLASSES + 1
    best, winner = cam.max(axis=0), classes[cam.argmax(axis=0)] + 1
    valid = gt < 255
    best, winner, truth = best[valid], winner[valid], gt[valid].astype(np.int64)
    confusion = [
        np.bincount(
            truth * labels + np.where(best > np.float32(threshold), winner, 0),
            minlength=labels * labels,
        )
        for threshold in THRESHOLDS
    ]
    return np.reshape(confusion, (-1, labels, labels))


def one_pass(cam: np.ndarray, classes: np.ndarray, gt: np.ndarray) -> np.ndarray:
    counts = CountsBuilder(CLASSES, thresholds=THRESHOLDS)
    counts.add_cam("image", cam, classes=classes, gt=gt)
    return counts.build().confusion()


def seconds(
    run: Callable[..., np.ndarray], image: tuple[np.ndarray, ...], *, repeats: int
) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run(*image)
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    rng = np.random.default_rng(0)
    for num_present in (1, 2, 4):
        classes = np.sort(rng.choice(NUM_CLASSES, num_present, replace=False))
        cam = rng.random((num_present, *SIZE), dtype=np.float32)
        gt = rng.choice(np.array([0, *(classes + 1), 255], np.uint8), SIZE)
        image = (cam, classes, gt)
        assert np.array_equal(naive(*image), one_pass(*image))
        assert np.array_equal(lean(*image), one_pass(*image))
        fast = seconds(one_pass, image, repeats=20)
        ratios = [seconds(run, image, repeats=3) / fast for run in (naive, lean)]
        print(
            f"{num_present} classes, {SIZE[1]}x{SIZE[0]}, {len(THRESHOLDS)} thresholds: "
            f"one pass {fast * 1e3:.1f} ms; "
            f"naive loop {ratios[0]:.0f} times, lean loop {ratios[1]:.0f} times as long"
        )


if __name__ == "__main__":
    main()
