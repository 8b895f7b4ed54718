"""Milliseconds of one core that an image costs before it reaches a network: decoding, views.

The images are drawn, 500 x 375, as JPEG files of VOC's usual size (some 90 kB). A GPU that trains
on 180 images/s with 3 loader processes needs 60 images/s of each. Times are CPU time, so that other
processes do not count. Run: python tests/benchmarks/bench_loading.py
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Generator

from occse.data.array_archive import ArrayWriter
from occse.data.batches import views_of
from occse.data.dataset import Dataset
from occse.data.samples import AffinityImages, LabelledImages, LabelMapImages
from occse.data.score_archives import PairedScores
from occse.networks.pairs import affinity_label

HEIGHT, WIDTH = 375, 500
CLASSES = tuple(f"class_{index}" for index in range(20))
LOADERS = 3
# CGNet's rate that was measured on an H100 in bfloat16, compiled, at batch 16.
WANTED = 180
# Noise that makes the files as large as VOC's.
NOISE = 14


def write_images(root: Path, count: int) -> Dataset:
    (root / "JPEGImages").mkdir()
    rng = np.random.default_rng(0)
    names = tuple(f"image_{index}" for index in range(count))
    for name in names:
        coarse = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8))
        smooth = np.array(coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))
        noisy = np.clip(smooth + rng.normal(0, NOISE, smooth.shape), 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(root / "JPEGImages" / f"{name}.jpg", quality=85)
    labels = {name: (index % len(CLASSES),) for index, name in enumerate(names)}
    return Dataset(root=root, classes=CLASSES, splits={"train": names}, labels=labels)


def write_scores(path: Path, names: tuple[str, ...]) -> Path:
    """Write CRF scores of two labels, as the stage `crf` stores them."""
    rng = np.random.default_rng(0)
    with ArrayWriter(path) as writer:
        for index, name in enumerate(names):
            coarse = Image.fromarray(rng.integers(0, 256, (12, 16), dtype=np.uint8))
            background = np.array(coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))
            scores = np.stack([background, 255 - background])
            classes = np.array([index % len(CLASSES)], np.int16)
            writer.write(name, scores=scores, classes=classes)
    return path


def milliseconds(run: Callable[[int], object], count: int) -> float:
    run(0)
    start = time.process_time()
    for index in range(count):
        run(index)
    return 1e3 * (time.process_time() - start) / count


def sample(
    samples: LabelledImages | LabelMapImages | AffinityImages, index: int
) -> tuple[torch.Tensor, ...]:
    return samples.sample(index, Generator().manual_seed(index))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=100)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        dataset = write_images(root, options.images)
        names = dataset.splits["train"]
        sizes = [dataset.image_path(name).stat().st_size for name in names]
        scores = write_scores(root / "scores.zip", names)
        pair = PairedScores(scores, scores)
        labels = np.ones((HEIGHT, WIDTH), np.uint8)
        images = [dataset.image(name) for name in names]
        classification = partial(LabelledImages, dataset, names, long_side=(256, 448), crop=384)
        segmentation = partial(
            LabelMapImages, dataset, names, lambda name: labels, scale=(0.5, 1.5), crop=448
        )
        affinity = AffinityImages(
            dataset,
            names,
            pair.read,
            lambda both: affinity_label(*both.chunk(2), pool=8),
            scale=(1.0, 1.0),
            jitter=0.3,
            hue=0.1,
            crop=448,
            padding="mean",
        )
        scales = (0.5, 1.0, 1.5, 2.0)
        rows: dict[str, Callable[[int], object]] = {
            "decoding": lambda index: dataset.image(names[index]),
            "CGNet: view, no jitter": partial(sample, classification(jitter=0.0, hue=0.0)),
            "CGNet: view, jitter, no hue": partial(sample, classification(jitter=0.3, hue=0.0)),
            "CGNet: view, jitter, hue": partial(sample, classification(jitter=0.3, hue=0.1)),
            "DeepLab: view, pillow": partial(sample, segmentation(resampling="pillow")),
            "DeepLab: view, opencv": partial(sample, segmentation(resampling="opencv")),
            "AffinityNet: view and scores": partial(sample, affinity),
            "CAM: 4 scales, decoded": lambda index: views_of(images[index][None], scales),
        }
        print(
            f"{WIDTH} x {HEIGHT}, files of {np.mean(sizes) / 1e3:.0f} kB, {time.strftime('%F')}\n"
        )
        print(f"| one core | ms/image | images/s | with {LOADERS} loaders |")
        print("| :-- | --: | --: | --: |")
        for name, run in rows.items():
            taken = milliseconds(run, options.images)
            print(
                f"| {name} | {taken:.1f} | {1e3 / taken:.0f} | {LOADERS * 1e3 / taken:.0f} |",
                flush=True,
            )
        print(f"\nWanted of CGNet: {WANTED} images/s.")


if __name__ == "__main__":
    main()
