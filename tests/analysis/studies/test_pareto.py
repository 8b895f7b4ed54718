import json

import pandas as pd
import pytest
from conftest import Record
from markdown_text import unpadded

from analysis.__main__ import main
from analysis.read.mlflow import load
from analysis.studies.pareto import Point, front, pareto

pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")
SECONDS = {"oc": 100.0, "cam": 10.0, "seg": 50.0}


@pytest.fixture(scope="module")
def trials(record: Record, tracking: str) -> pd.DataFrame:
    """Two variants that share a classifier by seed; the second takes longer. One was made by a
    gate's mercy alone.
    """
    for order, (variant, score, longer) in enumerate(
        [("plain", 0.5, 0.0), ("long", 0.6, 40.0), ("worse", 0.4, 10.0)]
    ):
        for seed in range(2):
            tags = {
                "occse.seconds": json.dumps(SECONDS | {"seg": 50.0 + longer}),
                "occse.fingerprint.oc": f"oc{seed}",
                "occse.fingerprint.cam": f"cam{seed}{variant}",
                "occse.fingerprint.seg": f"seg{seed}{variant}",
                "occse.seconds.spent": "1",
                "occse.seconds.saved": "2",
            }
            metrics = {"seg/miou": score + 0.01 * seed}
            record("costs", variant, order=order, seed=seed, fields=(), metrics=metrics, tags=tags)
    return load("costs", tracking=tracking)


def test_alone_a_trial_pays_all_and_shared_costs_add_up_to_the_sweeps(trials: pd.DataFrame) -> None:
    found = pareto(trials)
    assert [cost.alone_s for cost in found.costs] == [160, 200, 170]
    assert [cost.shared_s for cost in found.costs] == pytest.approx(
        [100 / 3 + 60, 100 / 3 + 100, 100 / 3 + 70]
    )
    assert found.sweep_s == pytest.approx(sum(2 * (cost.shared_s or 0) for cost in found.costs))
    assert [cost.score for cost in found.costs] == pytest.approx([0.505, 0.605, 0.405])


def test_the_front_is_what_nothing_beats(trials: pd.DataFrame) -> None:
    assert [cost.best_alone for cost in pareto(trials).costs] == [True, True, False]
    points = [(1, 5), (1, 4), (2, 5), (2, 6), (3, 7), (1, 5)]
    assert front([Point(cost=cost, score=score) for cost, score in points]) == {0, 3, 4, 5}


def test_costs_that_differ_by_less_than_their_spread_tie() -> None:
    cheap, good = Point(cost=1.0, score=5, spread=0.1), Point(cost=1.05, score=6, spread=0.02)
    assert front([cheap, good]) == {1}, "0.05 of noise does not make the worse one the cheaper"
    assert front([cheap, Point(cost=1.2, score=6)]) == {0, 1}
    assert front([cheap, Point(cost=1.05, score=5)]) == {0, 1}


def test_an_artifact_that_stands_at_two_places_of_a_trial_is_paid_once(
    trials: pd.DataFrame,
) -> None:
    twice = trials.assign(**{"fingerprint.crf": trials["fingerprint.cam"], "seconds.crf": 10.0})
    assert [cost.alone_s for cost in pareto(twice).costs] == [160, 200, 170]


def test_without_seconds_by_stage_only_the_cost_alone_is_known(
    trials: pd.DataFrame, tracking: str, capsys: pytest.CaptureFixture[str], record: Record
) -> None:
    found = pareto(trials.drop(columns=["seconds.oc"]))
    assert [(cost.alone_s, cost.shared_s, cost.best_shared) for cost in found.costs] == [
        (3, None, False)
    ] * 3
    assert found.sweep_s is None
    with pytest.raises(ValueError, match="no trial with seg/miou has the seconds"):
        pareto(trials.assign(spent_s=float("nan")))


def test_the_command_marks_the_front_and_states_the_rules(
    trials: pd.DataFrame, tracking: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pareto", "costs", "--tracking", tracking]) == 0
    out = capsys.readouterr().out
    assert "| plain | 50.5 ± 0.7 | 2.7 * | 1.6 * |" in unpadded(out)
    assert "| worse | 40.5 ± 0.7 | 2.8 | 1.7 |" in unpadded(out)
    assert "Shared: each artifact's seconds divided by the trials that use it" in out
    assert main(["pareto", "costs", "--metric", "cam/miou", "--tracking", tracking]) == 2
    assert "no trial has cam/miou; there are: seg/miou" in capsys.readouterr().err
