"""A claim at other alphas and thresholds than its own."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_counts import IMAGES, write_counts
from mlflow import MlflowClient

from analysis.statistics.seed_design import Design
from analysis.studies.other_thresholds import (
    Elsewhere,
    Setting,
    at_other_alphas,
    at_other_thresholds,
)
from analysis.studies.pairs import Pair

pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")  # of MLflow
Record = Callable[..., str]
ONE_SEED = Design(sources=(), levels=(), codes=(), constant=("oc",), complete=False)
PAIR = Pair(system=("b",), reference=("a",), design=ONE_SEED)


def at(*differences: float) -> Elsewhere:
    settings = [Setting(value=float(n), difference=d) for n, d in enumerate(differences)]
    return Elsewhere(knob="alpha", claimed=differences[0], settings=tuple(settings))


@pytest.mark.parametrize(
    ("differences", "extent", "said"),
    [
        ((0.05, 0.01), "everywhere", "the same sign at all 2 recorded alphas"),
        ((0.089, -0.034), "reversed", "reversed at the only other recorded alpha: -3.4 at alpha 1"),
        (
            (0.05, 0.02, -0.01, -0.03),
            "in part",
            "the same sign at 2 of 4 recorded alphas, reversed elsewhere: -3.0 at alpha 3",
        ),
    ],
)
def test_extent_of_a_claim_is_told_with_the_largest_opposite(
    differences: tuple[float, ...], extent: str, said: str
) -> None:
    found = at(*differences)
    assert (found.extent, found.text) == (extent, said)


def test_crfs_of_all_alphas_are_looked_at() -> None:
    trials = pd.DataFrame(
        {
            "run_id": ["a", "b"],
            "crf/miou": [0.50, 0.589],
            "crf_low/miou": [0.48, 0.49],
            "crf_high/miou": [0.55, 0.516],
            "param.crf.alpha": ["6.0", "6.0"],
            "param.crf_low.alpha": ["4.0", "4.0"],
            "param.crf_high.alpha": ["16.0", "16.0"],
        }
    )
    found = at_other_alphas(trials, "crf", PAIR)
    assert found is not None
    assert [setting.value for setting in found.settings] == [4, 6, 16]
    assert [round(100 * setting.difference, 1) for setting in found.settings] == [1.0, 8.9, -3.4]
    assert found.extent == "in part"
    # An alpha that differs between the two variants is what they are compared by.
    swept = trials.assign(**{"param.crf_high.alpha": ["16.0", "24.0"]})
    found = at_other_alphas(swept, "crf", PAIR)
    assert found is not None
    assert [setting.value for setting in found.settings] == [4, 6]


@pytest.mark.parametrize("other", [(0.2, 0.4), (0.2, 0.5), (0.2, 0.4, 0.5)])
def test_runs_of_other_thresholds_have_no_difference_at_them(
    other: tuple[float, ...], record: Record, tracking: str, tmp_path: Path
) -> None:
    experiment = f"thresholds {other}"
    runs = {}
    for variant, levels in (("a", (0.2, 0.4)), ("b", other)):
        runs[variant] = record(experiment, variant, fields=("cam",))
        counts = write_counts(
            tmp_path / variant / "cam.npz", np.full(IMAGES, 50), thresholds=levels
        )
        MlflowClient(tracking).log_artifact(runs[variant], str(counts), "counts")
    pair = Pair(system=(runs["b"],), reference=(runs["a"],), design=ONE_SEED)
    found = at_other_thresholds(pair, "cam", claimed=0.1, tracking=tracking)
    if other == (0.2, 0.4):
        assert found is not None
        assert [setting.value for setting in found.settings] == [0.2, 0.4]
    else:
        assert found is None
