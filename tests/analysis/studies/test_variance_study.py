"""Variance components against simulated sweeps whose components are known."""

import itertools
import json
from collections.abc import Mapping

import numpy as np
import pandas as pd
import pytest
from conftest import Record
from markdown_text import unpadded

from analysis.__main__ import main
from analysis.studies.variance import components, variance
from occse.naming.labels import Labels

pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")
CGNET, DEEPLAB, BOTH = 0.012, 0.008, 0.004
SIMULATIONS = 600
SOURCES = (("oc", "cgnet"), ("deeplab",))


def simulated(seed: int, *, variants: int = 3, cgnet: int = 4, deeplab: int = 3) -> np.ndarray:
    chance = np.random.default_rng(seed)
    means = chance.normal(0, 1, (variants, 1, 1))
    of_cgnet, of_deeplab = (
        chance.normal(0, CGNET, (variants, cgnet, 1)),
        chance.normal(0, DEEPLAB, (variants, 1, deeplab)),
    )
    table: np.ndarray = (
        means + of_cgnet + of_deeplab + chance.normal(0, BOTH, (variants, cgnet, deeplab))
    )
    return table


def test_the_estimates_are_right_on_average_and_95_percent_of_their_intervals_hold_the_truth() -> (
    None
):
    found = [components(simulated(seed), SOURCES) for seed in range(SIMULATIONS)]
    for number, truth in enumerate([CGNET**2, DEEPLAB**2, BOTH**2]):
        each = [parts[number] for parts in found]
        estimates = np.array([part.variance for part in each])
        assert estimates.mean() == pytest.approx(
            truth, abs=4 * estimates.std() / np.sqrt(SIMULATIONS)
        )
        assert 0.93 <= np.mean([part.low <= truth <= part.high for part in each]) <= 0.97
    assert [part.name(Labels()) for part in found[0]] == ["oc, cgnet", "deeplab", "interaction"]


def test_a_source_that_does_nothing_is_estimated_as_nothing() -> None:
    table = simulated(0) - simulated(0).mean(axis=2, keepdims=True)
    cgnet = components(table, SOURCES)[0]
    assert cgnet.variance < 0
    assert (cgnet.sd, cgnet.low) == (0, 0)


def test_with_one_source_the_component_is_the_variance_over_seeds() -> None:
    table = np.random.default_rng(0).normal(size=(4, 5))
    (only,) = components(table, [("cgnet", "deeplab")])
    assert only.variance == pytest.approx(table.var(axis=1, ddof=1).mean())
    assert only.low < only.variance < only.high


def trials(seeds: Mapping[str, int], *, same: bool = False) -> pd.DataFrame:
    """Two variants with every combination of `seeds`; with `same`, one number for all stages."""
    crossed = list(itertools.product(*map(range, seeds.values())))
    combinations = [(number,) * len(seeds) for number in range(3)] if same else crossed
    rows = [
        {
            "variant": variant,
            "current": True,
            "run_id": f"{variant}{number}",
            "seg/miou": 0.5 + 0.01 * number,
        }
        | {f"seed.{stage}": seed for stage, seed in zip(seeds, combination, strict=True)}
        for variant in "ab"
        for number, combination in enumerate(combinations)
    ]
    return pd.DataFrame(rows)


def test_seeds_by_stage_are_told_apart_and_a_single_one_is_named() -> None:
    found = variance(trials({"oc": 1, "cgnet": 3, "deeplab": 2}), "seg", images=False)
    assert [part.stages for part in found.components] == [("cgnet",), ("deeplab",), ()]
    assert (found.constant, found.variants, found.runs, found.left_out) == (("oc",), 2, 6, 0)


def test_stages_that_share_one_seed_cannot_be_told_apart() -> None:
    found = variance(trials({"oc": 3, "cgnet": 3, "deeplab": 3}, same=True), "seg", images=False)
    assert [part.stages for part in found.components] == [("oc", "cgnet", "deeplab")]


def test_a_variant_without_all_its_runs_is_left_out_and_one_seed_tells_nothing() -> None:
    whole = trials({"cgnet": 3, "deeplab": 2})
    assert variance(whole.iloc[:-1], "seg", images=False).left_out == 1
    with pytest.raises(ValueError, match="no variant has two seeds of seg"):
        variance(whole[whole["seed.cgnet"] + whole["seed.deeplab"] == 0], "seg", images=False)


def test_a_seed_that_comes_after_the_score_makes_no_second_measurement() -> None:
    frame = trials({"cgnet": 3, "deeplab": 2}).rename(columns={"seg/miou": "cam/miou"})
    frame["fingerprint.cam"] = frame["variant"] + frame["seed.cgnet"].astype(str)
    found = variance(frame, "cam", images=False)
    assert ([part.stages for part in found.components], found.runs) == ([("cgnet",)], 3)


def test_the_command_names_the_method_and_what_cannot_be_told_apart(
    record: Record, tracking: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in range(3):
        tags = {"occse.seeds": json.dumps({"oc": seed, "cgnet": seed})}
        record(
            "spread",
            "cse",
            seed=seed,
            fields=("cam",),
            metrics={"cam/miou": 0.5 + 0.01 * seed},
            tags=tags,
        )
    assert main(["variance", "spread", "--stage", "cam", "--tracking", tracking]) == 2
    assert "has no counts/cam.npz" in capsys.readouterr().err
    assert (
        main(["variance", "spread", "--stage", "cam", "--no-images", "--tracking", tracking]) == 0
    )
    out = capsys.readouterr().out
    assert "| oc, cgnet | 1.00 | 0.52 to 6.28 | 100 % |" in unpadded(out), (
        "chi-square with 2 degrees of freedom"
    )
    assert (
        "oc, cgnet: always the same seed for them all, so their shares cannot be told apart." in out
    )
    assert "method of moments" in out
