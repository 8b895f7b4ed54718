"""Times the paired bootstrap of two systems at VOC's size against scipy's and a plain loop; run it
as a script.

All compute the same statistic, the difference of mIoU from summed counts; the slow ones draw fewer
resamples, and their times are scaled up. The counts are simulated: as many images and classes as
VOC's train. Reading a file of them, with 60 thresholds, is timed too."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy import stats

from analysis.read.counts import PerImage, miou, read_counts
from analysis.statistics.bootstrap import difference

IMAGES, LABELS, THRESHOLDS, RESAMPLES, FEW = 1464, 21, 60, 10_000, 200


def simulated(skill: float, seed: int) -> PerImage:
    chance, table = np.random.default_rng(0), np.zeros((IMAGES, 3, LABELS), np.int64)
    each, label = np.arange(IMAGES), chance.integers(1, LABELS, IMAGES)
    size = chance.integers(5_000, 90_000, IMAGES)
    own = np.random.default_rng(seed).normal(0, 0.1, IMAGES)
    hit = (size * np.clip(chance.beta(6, 3, IMAGES) + skill + own, 0, 1)).astype(np.int64)
    table[each, 0, label], table[each, 1, label], table[each, 2, label] = hit, size, hit + size // 8
    table[:, :, 0] = np.stack(
        [180_000 - size - size // 8, 180_000 - size, 180_000 - hit - size // 8], axis=1
    )
    names = tuple(f"image {index}" for index in each)
    return PerImage(
        names=names, classes=tuple(f"class {index}" for index in range(1, LABELS)), table=table
    )


def read_again(counts: PerImage, folder: Path) -> float:
    """Seconds to read a file of such counts."""
    image, label, level = (axis.ravel() for axis in np.indices((IMAGES, LABELS, THRESHOLDS + 1)))
    there = (counts.table[image, 1, label] > 0) | (level == 0) & (label < 3)
    entries = {"image": image[there], "bin": level[there], "gt": label[there], "pred": label[there]}
    texts = {"names": np.array(counts.names), "classes": np.array(counts.classes)}
    arrays = (
        entries
        | {"count": np.full(there.sum(), 100), "thresholds": np.linspace(0, 1, THRESHOLDS)}
        | texts
    )
    np.savez_compressed(
        folder / "counts.npz", **{f"counts/{name}": array for name, array in arrays.items()}
    )
    start = time.perf_counter()
    read_counts(folder / "counts.npz", threshold=0.3)
    return time.perf_counter() - start


def plain_loop(one: PerImage, other: PerImage, resamples: int) -> list[float]:
    chance, found = np.random.default_rng(0), []
    for _ in range(resamples):
        drawn = chance.integers(IMAGES, size=IMAGES)
        found.append(float(miou(one.table[drawn].sum(0)) - miou(other.table[drawn].sum(0))))
    return found


def by_scipy(one: PerImage, other: PerImage, resamples: int) -> float:
    def statistic(drawn: np.ndarray) -> float:
        return float(miou(one.table[drawn].sum(0)) - miou(other.table[drawn].sum(0)))

    indices = (np.arange(IMAGES),)
    found = stats.bootstrap(
        indices,
        statistic,
        n_resamples=resamples,
        vectorized=False,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    return float(found.standard_error)


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def main() -> None:
    one, other = simulated(0.03, 1), simulated(0.0, 2)
    found = difference({0: one}, {0: other}, resamples=RESAMPLES)
    scale = RESAMPLES / FEW
    ours, scipy, loop = (  # by turns and the least of five, since the machine may have other work
        min(times)
        for times in zip(
            *(
                (
                    seconds(lambda: difference({0: one}, {0: other}, resamples=RESAMPLES)),
                    seconds(lambda: by_scipy(one, other, FEW)) * scale,
                    seconds(lambda: plain_loop(one, other, FEW)) * scale,
                )
                for _ in range(5)
            ),
            strict=True,
        )
    )
    with tempfile.TemporaryDirectory() as folder:
        reading = read_again(one, Path(folder))
    spread = float(np.std(plain_loop(one, other, FEW), ddof=1))
    print(
        f"{IMAGES} images, {LABELS} labels, {RESAMPLES} resamples, two systems: "
        f"{ours:.2f} s; a read {reading:.2f} s"
    )
    print(
        f"scipy.stats.bootstrap {scipy / ours:.0f} times, "
        f"a plain loop {loop / ours:.0f} times as long"
    )
    print(
        f"standard error {found.images_sd:.5f}; "
        f"theirs {by_scipy(one, other, FEW):.5f} and {spread:.5f} from {FEW}"
    )


if __name__ == "__main__":
    main()
