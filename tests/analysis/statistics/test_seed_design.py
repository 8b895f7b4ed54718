"""Seeds by stage: what the mean of a crossed design is known to, against simulations."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.statistics.seed_design import (
    Design,
    design,
    of_new_run,
    pooled_noise,
    replicate,
    squares,
)

SIMULATIONS = 1500


def crossed(cgnet: int, deeplab: int) -> Design:
    runs = list(itertools.product(range(cgnet), range(deeplab)))
    return design(pd.DataFrame(runs, columns=["seed.cgnet", "seed.deeplab"]), "seg")


def shares_covered(cgnet: int, deeplab: int) -> tuple[float, float]:
    """Shares of 95 % intervals that hold the truth: seeds known, and runs taken as independent."""
    chance, known, taken = np.random.default_rng(cgnet), [], []
    for _ in range(SIMULATIONS):
        values = chance.normal(0, 1, (cgnet, 1)) + chance.normal(0, 0.5, (1, deeplab))
        values = (values + chance.normal(0, 0.25, (cgnet, deeplab))).ravel()
        (error, freedom), runs = crossed(cgnet, deeplab).of_mean(values), len(values)
        known.append(abs(values.mean()) <= stats.t.ppf(0.975, freedom) * np.sqrt(error))
        taken.append(
            abs(values.mean()) <= stats.t.ppf(0.975, runs - 1) * np.sqrt(values.var(ddof=1) / runs)
        )
    return float(np.mean(known)), float(np.mean(taken))


def test_interval_of_a_mean_holds_the_truth_only_if_shared_seeds_are_known() -> None:
    known, taken = shares_covered(6, 3)
    assert 0.93 <= known <= 0.97
    assert taken < 0.8


def test_with_two_seeds_of_each_stage_the_intervals_are_cautious() -> None:
    assert shares_covered(2, 2)[0] >= 0.95


def test_the_variance_of_a_new_run_is_the_sum_of_all_components() -> None:
    chance, found = np.random.default_rng(0), []
    for _ in range(400):
        table = (
            chance.normal(0, 1, (3, 5, 1))
            + chance.normal(0, 0.8, (3, 1, 4))
            + chance.normal(0, 0.6, (3, 5, 4))
        )
        found.append(of_new_run(table)[0])
    assert np.mean(found) == pytest.approx(1 + 0.64 + 0.36, rel=0.05)


def test_source_below_the_noise_adds_nothing_to_a_new_run() -> None:
    # Rows and columns have equal means: only the interaction varies, with 1 degree of freedom.
    table = np.array([[[1.0, -1.0], [-1.0, 1.0]]])
    assert [each.value for each in squares(table)] == [0, 0, 4]
    assert of_new_run(table) == (4, 1)


def test_pooled_noise_of_a_variant_is_never_below_that_of_all() -> None:
    three = design(pd.DataFrame({"seed.cgnet": range(3)}), "cam")
    lucky, noisy = np.array([0.5, 0.5, 0.5]), np.array([0.1, 0.5, 0.9])
    of_lucky, of_noisy = pooled_noise([(three, lucky), (three, noisy)])
    pooled = noisy.var(ddof=1) / 2 / 3
    assert of_lucky.of_mean == pytest.approx(pooled)
    # Weights: 2 for the pooled variance, the degrees of freedom for the own one.
    assert of_noisy.of_mean == pytest.approx((2 * pooled + 2 * noisy.var(ddof=1) / 3) / 4)


def test_design_with_a_combination_twice_and_one_missing_is_not_complete() -> None:
    columns = ["seed.cgnet", "seed.deeplab"]
    twice = pd.DataFrame([(0, 0), (0, 0), (1, 1), (1, 0)], columns=columns)
    assert not design(twice, "seg").complete
    assert crossed(2, 2).complete


def test_with_one_source_it_is_the_textbooks() -> None:
    values = np.random.default_rng(1).normal(size=7)
    alone = design(pd.DataFrame({"seed.oc": range(7), "seed.cgnet": range(7)}), "cam")
    assert alone.sources == (("oc", "cgnet"),)
    assert alone.of_mean(values) == pytest.approx((values.var(ddof=1) / 7, 6))
    assert squares(values[None])[0].value == pytest.approx(values.var(ddof=1))


def test_without_all_combinations_runs_of_one_cgnet_count_as_one() -> None:
    rows = pd.DataFrame({"seed.cgnet": [0, 0, 1, 2], "seed.deeplab": [0, 1, 0, 0]})
    found = design(rows, "seg")
    assert not found.complete
    assert found.of_mean([1.0, 3.0, 4.0, 6.0]) == pytest.approx((4 / 3, 2))


def test_replicates_are_told_apart_by_the_first_stage_with_several_seeds() -> None:
    rows = pd.DataFrame(
        {
            "seed": range(6),
            "seed.oc": 0,
            "seed.cgnet": [0, 0, 1, 1, 2, 2],
            "seed.deeplab": [0, 1] * 3,
        }
    )
    assert replicate(rows, "seg") == "seed.cgnet"
    assert replicate(rows[["seed"]], "seg") == "seed"


def test_runs_without_seeds_by_stage_are_told_apart_by_their_number() -> None:
    found = design(pd.DataFrame({"seed": [3, 4, 5]}), "seg")
    assert (found.sources, found.levels, found.complete) == ((("all stages",),), (3,), True)
