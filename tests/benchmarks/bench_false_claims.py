"""Counts how often `compare` claims a difference that is not there, and how often intervals hold.

Run it as a script; it prints the table that stands in analysis/README.md. Three of its cells are in
tests/analysis/studies/test_false_claims.py.

A simulated sweep has a baseline and four variants, scored on 100 images of five classes. Images
differ in what they show and in how hard they are, for all variants alike; each training of a
variant has a skill of its own (the noise of the seed), and errs at each image by itself. `nested`:
the noise of a training is its own. `shared`: as much noise again comes with the seed, for all
variants alike, as from a classifier that they share. `unequal`: two variants have half, and one has
twice the noise of the others.

Counted are sweeps without any difference in which any claim survives Holm's adjustment (wanted: at
most 6 %), and differences whose 95 % interval holds the true one (93 to 97 %), over all variants.
One thread does best: OMP_NUM_THREADS=1."""

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from analysis.read.counts import PerImage, miou
from analysis.statistics.adjustment import holm
from analysis.statistics.bootstrap import LEVEL, Measured, error_of, measure
from analysis.statistics.seed_design import Design, pooled_noise

CLASSES = tuple("abcde")
PIXELS = 6400
IMAGES = 100
RESAMPLES = 400
# Of the share of each object that is found, in logits; 0.3 points of mIoU over 100 images.
IMAGE_NOISE = 0.2
SEEDS = (2, 3, 5, 10)
# Standard deviation over seeds in points of mIoU, and of the skill that makes it.
NOISES = {0.5: 0.02, 1.3: 0.061, 2.5: 0.12, 5.0: 0.245}
SHAPES = {"equal": (1.0, 1.0, 1.0, 1.0, 1.0), "unequal": (1.0, 0.5, 0.5, 1.0, 2.0)}
SHARED = {"nested": 0.0, "shared": 1.0}


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Shares of simulated sweeps, from 0 to 1; half width and spread over seeds in points."""

    false_claims: float
    coverage: float
    half_width: float
    seed_sd: float


@dataclass(frozen=True, kw_only=True)
class Images:
    """(I, C) pixels of each class in each image, and how hard each is to find."""

    sizes: np.ndarray
    hardness: np.ndarray


def draw_images(chance: np.random.Generator) -> Images:
    shape = (IMAGES, len(CLASSES))
    present = chance.random(shape) < 0.4
    # No image is empty.
    present[np.arange(IMAGES), chance.integers(len(CLASSES), size=IMAGES)] = True
    hardness = chance.normal(0, 0.6, (IMAGES, 1)) + chance.normal(0, 0.5, shape)
    return Images(sizes=present * chance.integers(300, 1100, shape), hardness=hardness)


def trained(chance: np.random.Generator, images: Images, skill: float) -> PerImage:
    """Counts of one training: its skill moves the share of each object that is found."""
    noise = chance.normal(0, IMAGE_NOISE, images.sizes.shape)
    recall = 1 / (1 + np.exp(-(0.8 + skill + images.hardness + noise)))
    hit = images.sizes * recall
    false = images.sizes * (1 - recall) * chance.uniform(0.3, 1.1, images.sizes.shape)
    table = np.zeros((IMAGES, 3, len(CLASSES) + 1))
    table[:, 0, 1:], table[:, 1, 1:], table[:, 2, 1:] = hit, images.sizes, hit + false
    table[:, 1, 0] = np.maximum(PIXELS - images.sizes.sum(1), 500)
    table[:, 0, 0] = np.maximum(table[:, 1, 0] - false.sum(1), 0)
    table[:, 2, 0] = table[:, 0, 0] + (images.sizes - hit).sum(1)
    names = tuple(f"image {number}" for number in range(IMAGES))
    return PerImage(names=names, classes=CLASSES, table=np.rint(table).astype(np.int64))


def simulated(
    number: int, *, seeds: int, skill_sd: float, shape: Sequence[float], shared: float
) -> tuple[list[Measured], float]:
    """One sweep without a difference: what was measured of each variant, and the seeds' spread."""
    chance = np.random.default_rng([7, number, seeds, round(1000 * skill_sd)])
    images = draw_images(chance)
    common = chance.normal(0, shared * skill_sd, seeds)
    systems = []
    for relative in shape:
        own = chance.normal(0, relative * skill_sd, seeds)
        systems.append({n: trained(chance, images, common[n] + own[n]) for n in range(seeds)})
    baseline, *variants = systems
    scores = [float(miou(counts.table.sum(axis=0))) for counts in baseline.values()]
    found = [measure(variant, baseline, resamples=RESAMPLES, seed=number) for variant in variants]
    return found, float(np.var(scores, ddof=1))


def truths(skill_sd: float, shape: Sequence[float], shared: float) -> list[float]:
    """The true difference of each variant: mIoU bends, so unequal noise makes one by itself."""
    grid = np.linspace(-3, 3, 61) * skill_sd * 2.5
    chance = np.random.default_rng(0)
    images = [draw_images(chance) for _ in range(60)]
    bent = []
    for skill in grid:
        tables = [trained(chance, each, skill).table.sum(axis=0) for each in images]
        bent.append(float(miou(np.sum(tables, axis=0))))
    curve = np.polynomial.Polynomial.fit(grid, bent, 4)
    nodes, weights = np.polynomial.hermite_e.hermegauss(9)
    means = []
    for relative in shape:
        spread = skill_sd * math.hypot(relative, shared)
        means.append(float(weights @ curve(nodes * spread)) / math.sqrt(2 * math.pi))
    return [mean - means[0] for mean in means[1:]]


def independent(seeds: int) -> Design:
    return Design(
        sources=(("all stages",),),
        levels=(seeds,),
        codes=(tuple(range(seeds)),),
        constant=(),
        complete=True,
    )


def cell(sweeps: int, *, seeds: int, skill_sd: float, shape: str, sharing: str) -> Cell:
    """The shares of one cell of the table, from `sweeps` simulated sweeps."""
    true = truths(skill_sd, SHAPES[shape], SHARED[sharing])
    level, design = 1 - LEVEL, independent(seeds)
    claims = 0
    held, widths, spreads = [], [], []
    for number in range(sweeps):
        measured, spread = simulated(
            number,
            seeds=seeds,
            skill_sd=skill_sd,
            shape=SHAPES[shape],
            shared=SHARED[sharing],
        )
        noises = pooled_noise([(design, each.values) for each in measured])
        errors = [error_of(each, noise) for each, noise in zip(measured, noises, strict=True)]
        values = [float(each.values.mean()) for each in measured]
        p_values = [error.p_value(value) for error, value in zip(errors, values, strict=True)]
        claims += min(holm(p_values)) < level
        # An interval holds the truth where an error as large as this one is not a surprise.
        missed = np.subtract(values, true)
        held += [error.p_value(miss) >= level for error, miss in zip(errors, missed, strict=True)]
        spreads.append(spread)
        if number % 10 == 0:
            widths += [error.reach(LEVEL) for error in errors]
    return Cell(
        false_claims=claims / sweeps,
        coverage=float(np.mean(held)),
        half_width=100 * float(np.median(widths)),
        seed_sd=100 * math.sqrt(float(np.mean(spreads))),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sweeps", type=int, default=400, help="simulated sweeps by cell")
    sweeps = parser.parse_args().sweeps
    print("| seeds | noise | noise of variants | seeds are | false claims | coverage | ± |")
    print("| --: | --: | :-- | :-- | --: | --: | --: |")
    for sharing, noise, shape, seeds in product(SHARED, NOISES, SHAPES, SEEDS):
        found = cell(sweeps, seeds=seeds, skill_sd=NOISES[noise], shape=shape, sharing=sharing)
        print(
            f"| {seeds} | {noise} | {shape} | {sharing} | {100 * found.false_claims:.1f} % "
            f"| {100 * found.coverage:.1f} % | {found.half_width:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
