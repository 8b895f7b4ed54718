"""The numbers of seeds that are promised, against simulated experiments."""

import numpy as np
import pytest
from scipy import stats

from analysis.statistics.behrens_fisher import reaches
from analysis.statistics.bootstrap import LEVEL
from analysis.statistics.power import need, power
from analysis.statistics.seed_design import of_new_run

IMAGES_SD, SEED_SD, DELTA = 0.004, 0.008, 0.012
SIMULATIONS = 20_000


def share_shown(seeds: int, *, delta: float) -> float:
    """Share of experiments with the true difference `delta` that the test shows."""
    chance = np.random.default_rng(seeds)
    differences = (
        delta
        + chance.normal(0, SEED_SD, (SIMULATIONS, seeds))
        + chance.normal(0, IMAGES_SD, (SIMULATIONS, 1))
    )
    of_images, of_seeds = IMAGES_SD**2, differences.var(axis=1, ddof=1) / seeds
    reach = reaches(of_images, of_seeds, seeds - 1, LEVEL)
    return float(np.mean(np.abs(differences.mean(axis=1)) > reach))


@pytest.mark.parametrize("seeds", [2, 3, 10])
def test_the_power_is_the_share_of_simulated_experiments_that_show_the_difference(
    seeds: int,
) -> None:
    promised = power(DELTA, seeds, images_sd=IMAGES_SD, seed_variance=SEED_SD**2)
    assert promised == pytest.approx(
        share_shown(seeds, delta=DELTA), abs=0.012
    )  # four standard errors of the simulation


def test_power_without_a_difference_counts_false_claims_in_both_directions() -> None:
    found = power(0.0, 5, images_sd=IMAGES_SD, seed_variance=SEED_SD**2)
    assert found == pytest.approx(share_shown(5, delta=0.0), abs=0.006)
    assert found <= 1 - LEVEL


def test_a_large_difference_needs_two_seeds_to_show_a_spread() -> None:
    found = need(1.0, images_sd=IMAGES_SD, seed_variance=SEED_SD**2, freedom=50)
    assert (found.low, found.seeds, found.high) == (2, 2, 2)


def test_interval_of_the_number_is_that_of_the_variance_at_95_percent() -> None:
    options = {"images_sd": 0.001, "freedom": 6}
    found = need(DELTA, seed_variance=SEED_SD**2, **options)
    for share, end in ((0.975, found.low), (0.025, found.high)):
        variance = SEED_SD**2 * 6 / stats.chi2.ppf(share, 6)
        assert end == need(DELTA, seed_variance=variance, **options).seeds


def test_the_number_of_seeds_reaches_80_percent_and_one_fewer_does_not() -> None:
    found = need(0.02, images_sd=IMAGES_SD, seed_variance=SEED_SD**2, freedom=20)
    assert found.seeds is not None
    assert share_shown(found.seeds, delta=0.02) >= 0.8 > share_shown(found.seeds - 1, delta=0.02)
    assert found.low is not None
    assert found.high is not None
    assert found.low <= found.seeds < found.high


def test_fewer_degrees_of_freedom_leave_a_wider_interval() -> None:
    sure, unsure = (
        need(DELTA, images_sd=0.001, seed_variance=SEED_SD**2, freedom=freedom)
        for freedom in (30, 3)
    )
    assert sure.seeds == unsure.seeds
    assert (unsure.low or 0) <= (sure.low or 0)
    assert (unsure.high or np.inf) > (sure.high or 0)


def test_no_number_of_seeds_makes_up_for_too_few_images() -> None:
    found = need(0.01, images_sd=0.006, seed_variance=1e-6, freedom=5)
    assert (found.seeds, found.low, found.high) == (None, None, None)
    assert found.text == (
        "a difference of 1.0 cannot be shown with so few images, whatever the seeds; at least 1.7 "
        "can, with enough of them"
    )
    just = need(found.smallest * 1.01, images_sd=0.006, seed_variance=1e-6, freedom=5)
    assert just.seeds is not None


def test_the_pooled_variance_is_the_mean_of_the_variants_variances() -> None:
    differences = np.random.default_rng(0).normal(size=(4, 3))
    variance, freedom = of_new_run(differences)
    assert variance == pytest.approx(differences.var(axis=1, ddof=1).mean())
    assert 2 <= freedom <= 8


def test_variants_that_move_together_count_as_one() -> None:
    together = np.tile(np.random.default_rng(1).normal(size=(1, 4)), (6, 1))
    assert of_new_run(together)[1] == pytest.approx(3)


def test_the_degrees_of_freedom_describe_the_estimates_scatter() -> None:
    """An estimate with f degrees of freedom scatters by sqrt(2 / f) of its mean, the shared
    baseline included.
    """
    chance = np.random.default_rng(2)
    found = []
    for _ in range(4000):
        scores = chance.normal(size=(6, 4))
        found.append(of_new_run(scores[1:] - scores[0]))
    variances, freedoms = np.array(found).T
    assert variances.mean() == pytest.approx(2, rel=0.03)
    assert 2 * (variances.mean() / variances.std()) ** 2 == pytest.approx(
        np.median(freedoms), rel=0.2
    )
