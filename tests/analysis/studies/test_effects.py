"""Effects of knobs in sweeps whose truth is known."""

import itertools
import json

import numpy as np
import pandas as pd
import pytest
from conftest import Record
from markdown_text import unpadded
from mlflow import MlflowClient
from mlflow.entities import Param

from analysis.__main__ import main
from analysis.studies.effects import Effects, effects

pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")


def sweep(
    seed: int,
    *,
    of_lambda: float = 0.0,
    of_alpha: float = 0.0,
    seeds: int = 3,
    of_cgnet: float = 0.02,
) -> pd.DataFrame:
    """A baseline without CGNet and lambda x alpha: the trials of one CGNet share its noise, each
    adds a little.
    """
    chance, rows = np.random.default_rng(seed), []
    for replicate, lambda_start in itertools.product(range(seeds), (None, "1.0", "3.0", "10.0")):
        level = 0.5 + chance.normal(0, of_cgnet) + of_lambda * (lambda_start == "10.0")
        for alpha in ("4.0", "6.0"):
            trial = f"{lambda_start}/{replicate}"
            rows.append(
                {
                    "current": True,
                    "run_id": f"{trial}/{alpha}",
                    "variant": f"{lambda_start}, {alpha}",
                    "seed": replicate,
                    "param.cam.source": "cgnet" if lambda_start else "oc",
                    "param.cgnet.lambda_start": lambda_start,
                    "param.crf_low.alpha": alpha,
                    "param.crf_high.alpha": f"{4 * float(alpha)}",
                    "fingerprint.cgnet": f"cgnet{trial}",
                    "fingerprint.cam": f"cam{trial}",
                    "fingerprint.affinity": f"affinity{trial}/{alpha}",
                    "fingerprint.pseudo": f"pseudo{trial}/{alpha}",
                    "cam/miou": level,
                    "pseudo/miou": level + chance.normal(0, 0.001) + of_alpha * (alpha == "6.0"),
                }
            )
    return pd.DataFrame(rows)


def p_value(found: Effects, *term: str) -> float:
    (p,) = (row.p for row in found.groups[0].rows if row.term == term)
    assert p is not None
    return p


def test_trials_of_one_cgnet_are_no_independent_witnesses_of_lambda() -> None:
    """With no effect at all, 5 % of the p-values are below 5 %; alphas that share a CGNet do not
    make them more.
    """
    found = [effects(sweep(seed), metric="pseudo/miou", forest=False) for seed in range(150)]
    assert 0.02 <= np.mean([p_value(each, "cgnet.lambda_start") < 0.05 for each in found]) <= 0.09
    assert 0.02 <= np.mean([p_value(each, "crf_low.alpha") < 0.05 for each in found]) <= 0.09


def test_a_small_effect_of_alpha_shows_within_cgnets_that_differ_more() -> None:
    found = effects(sweep(1, of_alpha=0.004, of_lambda=0.2), metric="pseudo/miou")
    assert p_value(found, "crf_low.alpha") < 0.01
    assert p_value(found, "cgnet.lambda_start") < 0.01
    assert p_value(found, "cgnet.lambda_start", "crf_low.alpha") > 0.05
    shares = found.groups[0].importance
    assert shares["cgnet.lambda_start"] > 0.8 > 0.2 > shares["crf_low.alpha"]


def test_knobs_without_effect_or_without_meaning_are_told_apart() -> None:
    found = effects(sweep(0), metric="cam/miou")
    assert found.powerless == ("crf_low.alpha", "crf_high.alpha")
    assert [(dict(group.where), group.artifacts) for group in found.groups] == [
        ({"cam.source": "cgnet"}, 9),
        ({"cam.source": "oc"}, 3),
    ]
    assert found.groups[1].rows == ()
    later = effects(sweep(0), metric="pseudo/miou")
    assert dict(later.together) == {"crf_low.alpha": ["crf_high.alpha"]}


def test_what_was_not_run_is_said_and_interactions_go() -> None:
    trials = sweep(0)
    found = effects(trials[~trials["variant"].isin(["3.0, 4.0"])], metric="pseudo/miou")
    assert (
        "Not all combinations of cgnet.lambda_start, crf_low.alpha were run"
        in found.groups[0].notes[0]
    )
    assert [row.term for row in found.groups[0].rows] == [
        ("cgnet.lambda_start",),
        ("crf_low.alpha",),
    ]
    single = effects(sweep(0, seeds=1), metric="pseudo/miou")
    assert any("too few runs" in note for note in single.groups[0].notes)


def test_a_searched_knob_that_has_another_value_in_each_variant_is_left_to_the_importance() -> None:
    trials = sweep(0, of_lambda=0.1)
    each = pd.Series(
        [str(0.1 + number) for number in range(len(trials) // 3)] * 3, index=trials.index
    )
    searched = trials.assign(
        **{"param.cgnet.lambda_start": each.where(trials["param.cam.source"] == "cgnet")}
    )
    searched["fingerprint.cgnet"] = searched["fingerprint.cam"] = trials["run_id"]
    group = effects(searched, metric="pseudo/miou").groups[0]
    assert [row.term for row in group.rows] == [("crf_low.alpha",)]
    assert group.notes[0].startswith("cgnet.lambda_start: its values cannot be told apart")
    assert set(group.importance) == {"cgnet.lambda_start", "crf_low.alpha"}


def test_runs_whose_artifacts_are_unknown_count_each_for_itself() -> None:
    trials = sweep(0, of_lambda=0.2)
    imported = trials.drop(columns=[name for name in trials if name.startswith("fingerprint.")])
    found = effects(imported, metric="pseudo/miou", forest=False)
    assert {row.error_freedom for row in found.groups[0].rows} == {18 - 2 - 1 - 2 - 1 - 2}
    assert found.powerless == ()


def test_the_importance_is_the_same_each_time() -> None:
    first, second = (
        effects(sweep(1, of_lambda=0.1), metric="pseudo/miou").groups[0].importance
        for _ in range(2)
    )
    assert first == second
    assert sum(first.values()) == pytest.approx(1)


def test_the_command_prints_effects_means_and_method(
    record: Record, tracking: str, capsys: pytest.CaptureFixture[str]
) -> None:
    client = MlflowClient(tracking)
    for order, (lambda_start, seed) in enumerate(itertools.product((1.0, 10.0), range(3))):
        metrics = {"cam/miou": 0.5 + 0.01 * lambda_start + 0.002 * (seed + order % 2)}
        run = record(
            "effects", f"l{lambda_start}", order=order, seed=seed, fields=("cam",), metrics=metrics
        )
        client.log_batch(run, params=[Param("cgnet.lambda_start", json.dumps(lambda_start))])
    assert main(["effects", "effects", "--metric", "cam/miou", "--tracking", tracking]) == 0
    out = capsys.readouterr().out
    assert "**all trials**: CAM mIoU 55.8 %, mean of 2 variants, 6 artifacts." in out
    assert "| λ | 1, 2 |" in unpadded(out)
    assert "| λ | 10 | 60.3 |" in unpadded(out)
    assert "type II" in out
    assert main(["effects", "effects", "--metric", "seg/miou", "--tracking", tracking]) == 2
    assert "no trial has seg/miou; there are: cam/miou" in capsys.readouterr().err
