"""Intervals and p-values against simulated systems whose true scores are known."""

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
import pytest

from analysis.read.counts import PerImage, miou
from analysis.statistics.adjustment import holm
from analysis.statistics.bootstrap import Draws, Interval, Measured, difference, interval, measure
from analysis.statistics.seed_design import design

PIXELS, LABELS = 4000, 4
SIMULATIONS, RESAMPLES, IMAGES = 500, 300, 150


def counts(table: np.ndarray) -> PerImage:
    names = tuple(f"image {index}" for index in range(len(table)))
    return PerImage(names=names, classes=tuple("abc"), table=table)


def scored(images: np.random.Generator, number: int, skill: float) -> np.ndarray:
    """(I, 3, L) counts of images with one object each, of which a system of this `skill` finds a
    varying share.
    """
    label = images.integers(1, LABELS, size=number)
    size = images.integers(200, 2000, size=number)
    found = np.clip(images.beta(6, 3, size=number) + skill, 0.02, 0.98)
    hit, false = (
        (size * found).astype(int),
        (size * (1 - found) * images.uniform(0.2, 1.2, size=number)).astype(int),
    )
    table, each = np.zeros((number, 3, LABELS), np.int64), np.arange(number)
    table[each, 0, label], table[each, 1, label], table[each, 2, label] = hit, size, hit + false
    table[:, 0, 0], table[:, 1, 0] = PIXELS - size - false, PIXELS - size
    table[:, 2, 0] = PIXELS - hit - false
    return table


def truth(skill: float, seed_sd: float) -> float:
    """The score over very many images, averaged over what seeds do to the skill."""
    shifts = seed_sd * np.sqrt(2) * np.polynomial.hermite.hermgauss(9)[0]
    weights = np.polynomial.hermite.hermgauss(9)[1] / np.sqrt(np.pi)
    scores = [
        miou(scored(np.random.default_rng(0), 200_000, skill + shift).sum(0)) for shift in shifts
    ]
    return float(np.dot(weights, scores))


def system(
    number: int, skill: float, *, seeds: int, seed_sd: float, chance: np.random.Generator
) -> dict[int, PerImage]:
    """Counts by seed, all on the images of simulation `number`."""
    return {
        seed: counts(
            scored(np.random.default_rng([17, number]), IMAGES, skill + chance.normal(0, seed_sd))
        )
        for seed in range(seeds)
    }


def share_covered(make: Callable[[int], Interval], value: float) -> float:
    intervals = [make(number) for number in range(SIMULATIONS)]
    return float(np.mean([found.low <= value <= found.high for found in intervals]))


@pytest.mark.parametrize(("seeds", "seed_sd"), [(1, 0.0), (2, 0.02), (3, 0.02), (5, 0.02)])
def test_of_500_intervals_at_95_percent_93_to_97_percent_hold_the_truth(
    seeds: int, seed_sd: float
) -> None:
    def make(number: int) -> Interval:
        chance = np.random.default_rng([23, number])
        first, second = (
            system(number, skill, seeds=seeds, seed_sd=seed_sd, chance=chance)
            for skill in (0.03, 0.0)
        )
        return difference(first, second, resamples=RESAMPLES, seed=number)

    assert 0.93 <= share_covered(make, truth(0.03, seed_sd) - truth(0.0, seed_sd)) <= 0.97


def test_the_interval_of_one_system_holds_the_truth_as_often() -> None:
    def make(number: int) -> Interval:
        made = system(
            number, 0.0, seeds=3, seed_sd=0.02, chance=np.random.default_rng([29, number])
        )
        return interval(made, resamples=RESAMPLES, seed=number)

    assert 0.93 <= share_covered(make, truth(0.0, 0.02)) <= 0.97


def test_equal_systems_differ_significantly_as_rarely_as_promised() -> None:
    def p_value(number: int) -> float:
        chance = np.random.default_rng([31, number])
        first, second = (
            system(number, 0.0, seeds=3, seed_sd=0.02, chance=chance) for _ in range(2)
        )
        found = difference(first, second, resamples=RESAMPLES, seed=number).p
        assert found is not None
        return found

    p_values = np.array([p_value(number) for number in range(SIMULATIONS)])
    assert 0.02 <= np.mean(p_values < 0.05) <= 0.08


def test_pairing_by_image_makes_a_difference_sharper_than_its_parts() -> None:
    first, second = (
        {0: counts(scored(np.random.default_rng(3), IMAGES, skill))} for skill in (0.03, 0.0)
    )
    together = difference(first, second, resamples=RESAMPLES)
    alone = interval(first, resamples=RESAMPLES)
    assert together.high - together.low < 0.5 * (alone.high - alone.low)
    assert together.covers == "images, not seeds"


def test_the_value_is_the_difference_of_scores_from_summed_counts() -> None:
    first, second = (counts(scored(np.random.default_rng(5), 7, skill)) for skill in (0.1, 0.0))
    found = difference({0: first}, {0: second}, resamples=RESAMPLES)
    assert found.value == pytest.approx(
        miou(first.table.sum(0)) - miou(second.table.sum(0)), abs=1e-12
    )


def test_runs_that_share_a_seed_of_one_stage_make_a_wider_interval_than_independent_ones() -> None:
    seeds = pd.DataFrame({"seed.cgnet": np.repeat(range(4), 3), "seed.deeplab": list(range(3)) * 4})
    chance = np.random.default_rng(7)
    shifts = np.repeat(chance.normal(0, 0.05, 4), 3) + chance.normal(0, 0.002, 12)
    first = {
        run: counts(scored(np.random.default_rng(5), 30, skill))
        for run, skill in enumerate(0.1 + shifts)
    }
    second = dict.fromkeys(first, counts(scored(np.random.default_rng(5), 30, 0.0)))
    apart, sharing = (
        difference(first, second, design=known, resamples=RESAMPLES)
        for known in (None, design(seeds, "seg"))
    )
    assert sharing.value == apart.value
    assert sharing.high - sharing.low > 1.5 * (apart.high - apart.low)


def test_images_of_several_seeds_add_only_what_the_seeds_have_in_common() -> None:
    """A training's own error at an image is in the variance from seed to seed already."""
    parts = {"of_images": 1.0, "of_images_alone": 3.0, "images": 9}
    assert Measured(values=np.array([0.1, 0.2]), **parts).known == 1
    assert Measured(values=np.array([0.1]), **parts).known == 3


def test_images_in_another_order_are_paired_by_name() -> None:
    first, second = (counts(scored(np.random.default_rng(5), 30, skill)) for skill in (0.1, 0.0))
    shuffled = second.only(second.names[::-1])
    assert difference({0: first}, {0: shuffled}, resamples=RESAMPLES) == difference(
        {0: first}, {0: second}, resamples=RESAMPLES
    )


def test_a_system_does_not_differ_from_itself() -> None:
    one = {seed: counts(scored(np.random.default_rng(seed), 30, 0.0)) for seed in range(2)}
    same = difference(one, one, resamples=RESAMPLES)
    assert (same.value, same.low, same.high, same.p) == (0, 0, 0, 1)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({1: (30, 5)}, "no seed is common"),
        ({0: (31, 5)}, "different images or classes: 30 images of 3 classes"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    other: Mapping[int, tuple[int, int]], said: str
) -> None:
    one = {0: counts(scored(np.random.default_rng(5), 30, 0.0))}
    another = {
        seed: counts(scored(np.random.default_rng(5), number, 0.0))
        for seed, (number, _) in other.items()
    }
    with pytest.raises(ValueError, match=said):
        difference(one, another)


def test_holms_adjustment_of_a_textbook_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])


def test_runs_drawn_once_give_what_pairs_give_by_themselves() -> None:
    chance = np.random.default_rng(3)
    runs = system(0, 0.0, seeds=3, seed_sd=0.05, chance=chance)
    # the same images in another order, as an earlier version wrote them
    turned = runs[2].only(runs[2].names[::-1])
    by_run = {"a": runs[0], "b": runs[1], "c": turned}
    draws = Draws(by_run, resamples=RESAMPLES)
    for pair in (("a", "b"), ("a", "c")):
        system_run, other = (by_run[name] for name in pair)
        alone = measure({0: system_run}, {0: other}, resamples=RESAMPLES)
        shared = draws.measure([pair[0]], [pair[1]])
        assert shared.values == pytest.approx(alone.values, abs=1e-12)
        assert shared.of_images == pytest.approx(alone.of_images, rel=1e-9)
    one_less = {"a": runs[0], "b": runs[1].only(runs[1].names[1:])}
    with pytest.raises(ValueError, match="scored on different images"):
        Draws(one_less).measure(["a"], ["b"])
