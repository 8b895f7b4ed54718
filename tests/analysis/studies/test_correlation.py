"""Correlations of stages and regrets of gates, against scipy and by hand."""

import itertools
import json

import numpy as np
import pandas as pd
import pytest
from conftest import Record
from markdown_text import unpadded
from scipy import stats

from analysis.__main__ import main
from analysis.studies.correlation import Correlation, Point, Rank, correlation, regrets

pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")


def sweep(cam: np.ndarray, seg: np.ndarray, modes: list[str], *, shared: int = 1) -> pd.DataFrame:
    """A variant for each score, with two seeds 0.01 apart; `shared` neighbours have one CAM
    artifact.
    """
    rows = [
        {
            "variant": f"v{number}",
            "current": True,
            "run_id": f"{number}/{seed}",
            "param.cgnet.erasing": mode,
        }
        | {
            "cam/miou": one + shift,
            "seg/miou": other + shift,
            "fingerprint.cam": f"{number // shared}/{seed}",
        }
        for number, (one, other, mode) in enumerate(zip(cam, seg, modes, strict=True))
        for seed, shift in enumerate((-0.005, 0.005))
    ]
    return pd.DataFrame(rows)


def rank(found: Correlation, scope: str) -> Rank:
    (only,) = (each for each in found.ranks if each.scope == scope)
    return only


def test_over_all_variants_it_is_scipys_spearman_of_the_means_over_seeds() -> None:
    cam, seg = np.random.default_rng(0).normal(0.5, 0.05, size=(2, 12))
    found = rank(correlation(sweep(cam, seg, ["cse"] * 12)), "all")
    assert found.value == pytest.approx(stats.spearmanr(cam, seg).statistic)
    assert (found.variants, found.groups) == (12, 12)
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.value < found.high


def test_a_difference_between_two_ways_of_erasing_is_no_correlation_within_them() -> None:
    chance = np.random.default_rng(1)
    offset = np.repeat([0.0, 0.3], 30)
    cam, seg = chance.normal(0.4, 0.01, size=(2, 60)) + offset
    found = correlation(sweep(cam, seg, ["class_agnostic"] * 30 + ["cse"] * 30))
    assert rank(found, "all").value > 0.6
    assert abs(rank(found, "within").value) < 0.3
    each = [rank(found, mode).value for mode in ("class_agnostic", "cse")]
    assert rank(found, "within").value == pytest.approx(np.mean(each)), "as many of each way"


def test_95_percent_of_the_intervals_hold_the_truth_when_variants_are_drawn() -> None:
    truth = 6 / np.pi * np.arcsin(0.6 / 2)  # Spearman's of a normal pair with correlation 0.6
    chance, held = np.random.default_rng(2), 0
    for _ in range(100):
        cam, seg = chance.multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], size=40).T
        found = rank(correlation(sweep(cam, seg, ["cse"] * 40), resamples=200), "all")
        held += (found.low or 0) <= truth <= (found.high or 0)
    assert 88 <= held <= 99


def test_variants_that_share_a_map_widen_the_interval() -> None:
    chance = np.random.default_rng(3)
    cam, noise = np.repeat(chance.normal(0.5, 0.05, 8), 4), chance.normal(0, 0.001, 32)
    seg = np.repeat(chance.normal(0.5, 0.05, 8), 4) + noise
    apart, together = (
        rank(correlation(sweep(cam, seg, ["cse"] * 32, shared=n)), "all") for n in (1, 4)
    )
    assert (apart.groups, together.groups) == (32, 8)
    assert (together.high or 0) - (together.low or 0) > 1.5 * ((apart.high or 0) - (apart.low or 0))


def test_few_variants_or_perfect_agreement_get_no_interval() -> None:
    few = rank(correlation(sweep(np.arange(4.0), np.array([0.0, 2, 1, 3]), ["cse"] * 4)), "all")
    perfect = rank(correlation(sweep(np.arange(9.0), np.arange(9.0), ["cse"] * 9)), "all")
    assert (few.low, few.high, perfect.value, perfect.low) == (None, None, pytest.approx(1), None)


def points(cam: list[float], seg: list[float]) -> list[Point]:
    return [
        Point(variant=str(number), mode="cse", scores={"cam": one, "seg": other})
        for number, (one, other) in enumerate(zip(cam, seg, strict=True))
    ]


def test_the_regret_of_a_gate_is_what_the_best_loses_to_the_best_that_went_on() -> None:
    found = regrets(points([0.9, 0.8, 0.7], [0.5, 0.4, 0.6]), "cam", last="seg")
    assert [regret.lost for regret in found] == pytest.approx([0.1, 0.1, 0.0])
    by_chance = [
        0.6 - np.mean([max(drawn) for drawn in itertools.combinations([0.5, 0.4, 0.6], k)])
        for k in (1, 2, 3)
    ]
    assert [regret.by_chance for regret in found] == pytest.approx(by_chance)


def test_a_tie_at_the_gate_is_broken_by_chance() -> None:
    found = regrets(points([0.9, 0.9, 0.7], [0.5, 0.6, 0.1]), "cam", last="seg")
    assert [regret.lost for regret in found] == pytest.approx([0.05, 0.0, 0.0])


def test_the_command_shows_both_tables_and_says_how_many_have_no_segmentation(
    record: Record, tracking: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for order, score in enumerate((0.5, 0.6, 0.7, None)):
        metrics = {"cam/miou": 0.5 + 0.01 * order} | ({} if score is None else {"seg/miou": score})
        record(
            "correlated",
            f"v{order}",
            order=order,
            metrics=metrics,
            tags={"occse.seeds": json.dumps({"oc": 0})},
        )
    assert main(["correlation", "correlated", "--tracking", tracking]) == 0
    out = capsys.readouterr().out
    assert "| CAM mIoU and Segmentation mIoU | +1.00 (3 groups, no interval) |" in unpadded(out)
    assert "Left out: 1 variant without Segmentation mIoU." in out
    assert "a choice by any of these scores loses nothing from 1 on" in out


def test_two_variants_are_too_few(
    record: Record, tracking: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for order in range(2):
        record("two", f"v{order}", order=order, metrics={"cam/miou": 0.5, "seg/miou": 0.5})
    assert main(["correlation", "two", "--tracking", tracking]) == 2
    assert (
        "correlation needs at least 3 variants that have CAM mIoU and Segmentation mIoU; this "
        "sweep has 2" in capsys.readouterr().err
    )
