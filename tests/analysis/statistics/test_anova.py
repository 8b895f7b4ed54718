"""Analysis of variance against statsmodels, over designs of 8 to 5,000 rows."""

import itertools

import numpy as np
import pandas as pd
import pytest
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from analysis.statistics.anova import AnovaRow, crossed, error_freedom, margins, type_two

BOTH = [("one",), ("two",), ("one", "two")]
SIZES = (8, 18, 100, 300, 500, 1000, 2000, 5000)


def frame_of(rows: int, *, lost: float = 0.0, seed: int = 0) -> pd.DataFrame:
    """A 2 x 3 design with an effect of each factor; a share `lost` of it is missing."""
    chance = np.random.default_rng([seed, rows])
    index = np.arange(rows)
    frame = pd.DataFrame(
        {"one": [f"a{i % 2}" for i in index], "two": [f"b{i // 2 % 3}" for i in index]}
    )
    frame["block"] = [f"c{i}" for i in chance.permutation(index // 6)]
    frame["score"] = 0.55 + chance.normal(0, 0.01, rows)
    frame["score"] += 0.002 * (frame["one"] == "a1") + 0.001 * (frame["two"] == "b2")
    # The first six rows, one of each combination, always stay.
    kept = (chance.random(rows) >= lost) | (index < 8)
    return frame[kept]


def compare(rows: list[AnovaRow], expected: pd.DataFrame, names: list[str]) -> None:
    for row, name in zip(rows, names, strict=True):
        assert row.f == pytest.approx(expected.loc[name, "F"], rel=1e-7)
        assert row.p == pytest.approx(expected.loc[name, "PR(>F)"], rel=1e-7)
        assert row.freedom == expected.loc[name, "df"]
        assert row.error_freedom == expected.loc["Residual", "df"]


@pytest.mark.parametrize("rows", SIZES)
@pytest.mark.parametrize("lost", [0.0, 0.3])
def test_type_two_is_that_of_statsmodels_at_every_size(rows: int, lost: float) -> None:
    frame = frame_of(rows, lost=lost)
    expected = anova_lm(ols("score ~ C(one) * C(two)", frame).fit(), typ=2)
    compare(type_two(frame, "score", BOTH), expected, ["C(one)", "C(two)", "C(one):C(two)"])


@pytest.mark.parametrize("rows", [18, 100, 500, 1000])
def test_type_two_with_blocks_is_that_of_statsmodels(rows: int) -> None:
    frame = frame_of(rows, lost=0.2)
    expected = anova_lm(ols("score ~ C(block) + C(one) * C(two)", frame).fit(), typ=2)
    found = type_two(frame, "score", BOTH, block="block")
    compare(found, expected, ["C(one)", "C(two)", "C(one):C(two)"])


def test_type_two_with_a_given_term_is_that_of_the_model_with_it() -> None:
    frame = frame_of(300, lost=0.3)
    expected = anova_lm(ols("score ~ C(one) * C(two)", frame).fit(), typ=2)
    found = type_two(frame, "score", [("two",), ("one", "two")], given=[("one",)])
    compare(found, expected, ["C(two)", "C(one):C(two)"])


@pytest.mark.parametrize("rows", [18, 100, 1000, 5000])
def test_empty_cells_cost_the_interaction_their_degrees_of_freedom(rows: int) -> None:
    """statsmodels counts columns, not ranks, so the saturated model is fitted by its cells."""
    frame = frame_of(rows)
    frame = frame[(frame["one"] != "a1") | (frame["two"] != "b2")]
    frame = frame.assign(cell=frame["one"] + frame["two"])
    assert not crossed(frame, ["one", "two"])
    additive = ols("score ~ C(one) + C(two)", frame).fit()
    cells = ols("score ~ C(cell)", frame).fit()
    expected = anova_lm(additive, cells).iloc[1]
    of_mains = anova_lm(additive, typ=2)
    *mains, interaction = type_two(frame, "score", BOTH)
    assert interaction.freedom == expected["df_diff"] == 1
    assert interaction.f == pytest.approx(expected["F"], rel=1e-7)
    assert interaction.p == pytest.approx(expected["Pr(>F)"], rel=1e-7)
    for row, name in zip(mains, ["C(one)", "C(two)"], strict=True):
        by_cells = of_mains.loc[name, "sum_sq"] / of_mains.loc[name, "df"] / cells.mse_resid
        assert row.f == pytest.approx(by_cells, rel=1e-7)
    assert error_freedom(frame, BOTH) == len(frame) - 5


@pytest.mark.parametrize("rows", SIZES)
def test_marginal_means_and_intervals_are_those_of_statsmodels(rows: int) -> None:
    frame = frame_of(rows, lost=0.3)
    fit = ols("score ~ C(one) + C(two)", frame).fit()
    for margin in margins(frame, "score", [("one",), ("two",)], "one"):
        # Intercept, level of the first factor, and each level of the second but one.
        weights = [1.0, float(margin.level == "a1"), 1 / 3, 1 / 3]
        expected = fit.t_test(weights)
        assert margin.mean == pytest.approx(expected.effect[0], rel=1e-9)
        assert (margin.low, margin.high) == pytest.approx(tuple(expected.conf_int()[0]), rel=1e-7)


def test_a_mean_that_the_data_do_not_tell_is_refused() -> None:
    frame = frame_of(100)
    frame = frame[(frame["one"] != "a1") | (frame["two"] != "b2")]
    with pytest.raises(ValueError, match="the mean of one at a1 cannot be estimated"):
        margins(frame, "score", BOTH, "one")


def test_factor_that_another_explains_has_no_p_value() -> None:
    frame = frame_of(1000)
    same = frame.assign(again=frame["one"].map({"a0": "p", "a1": "q"}))
    rows = type_two(same, "score", [("one",), ("again",)])
    assert [(row.freedom, row.f, row.p) for row in rows] == [(0, None, None)] * 2


def test_factor_without_any_effect_has_no_negative_share() -> None:
    """Its sum of squares is a difference of two that are equal but for rounding."""
    for seed in range(60):
        frame = frame_of(24)
        # The score is the same for all combinations of a block of six rows.
        means = np.random.default_rng(seed).normal(0.5, 1, 4)
        rows = type_two(frame.assign(score=means.repeat(6)), "score", [("one",), ("two",)])
        assert all(row.eta >= 0 and (row.f or 0) >= 0 for row in rows)


def test_many_blocks_take_no_longer_than_few() -> None:
    """A block of its own for every six of 5,000 rows: 833 columns, had they been coded."""
    frame = frame_of(5000)
    table = frame.assign(score=frame["score"] + pd.factorize(frame["block"])[0] % 97)
    found = type_two(table, "score", BOTH, block="block")
    alone = type_two(frame, "score", BOTH, block="block")
    for row, other in itertools.zip_longest(found, alone):
        assert row.f == pytest.approx(other.f, rel=1e-6), "what blocks add is taken out"
