"""Variants and sets of variants against each other, and expectations that are judged by them."""

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from made_counts import write_counts
from markdown_text import unpadded
from mlflow import MlflowClient
from test_compare import found_by

from analysis.__main__ import main
from analysis.read.labels import Naming, naming_of
from analysis.read.mlflow import load
from analysis.studies.contrasts import contrast
from analysis.studies.expectations import Expectation, expectations, judge
from occse.naming.labels import Labels
from occse.naming.markup import Name

Record = Callable[..., str]
pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")
CLAIMS = [
    {"compare": {"cgnet.erasing": "cse"}, "metric": "cam/miou", "sign": "+", "text": "CSE helps"},
    {
        "compare": {"cgnet.erasing": "cse"},
        "against": {"cgnet.erasing": "class_agnostic"},
        "metric": "cam/miou",
        "sign": "-",
    },
    {"compare": "class_agnostic, 1", "metric": "cam/miou", "sign": "+"},
    {"compare": {"cgnet.erasing": "cse"}, "metric": "seg/miou", "sign": "+"},
]
SKILLS = {
    ("oc", "", ""): 0.0,
    ("cgnet", "cse", "1"): 0.08,
    ("cgnet", "cse", "10"): 0.10,
    ("cgnet", "class_agnostic", "1"): 0.0,
    ("cgnet", "class_agnostic", "10"): 0.02,
}


@pytest.fixture(scope="module")
def experiment(record: Record, tracking: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A baseline and two ways of erasing at two lambdas each, three seeds."""
    client, folder = MlflowClient(tracking), tmp_path_factory.mktemp("contrasts")
    for order, ((source, erasing, lambda_start), skill) in enumerate(SKILLS.items()):
        knobs = {"cam.source": source}
        if erasing:
            knobs |= {"cgnet.erasing": erasing, "cgnet.lambda_start": lambda_start}
        for seed in range(3):
            run = record(
                "contrasts",
                f"{erasing}, {lambda_start}" if erasing else "oc",
                order=order,
                seed=seed,
                fields=("cam",),
                tags={"occse.baseline": str(not erasing).lower()},
                metrics={"cam/threshold": 0.2, "cam/miou": 0.5 + skill + 0.001 * seed},
                params=knobs,
            )
            file = folder / str(order) / str(seed) / "cam.npz"
            hits = found_by(skill, 10 * order + seed)
            write_counts(file, hits, thresholds=(0.1, 0.2))
            client.log_artifact(run, str(file), "counts")
    parent = client.get_run(run).data.tags["mlflow.parentRunId"]
    file = folder / "expectations.json"
    file.write_text(json.dumps({"version": 1, "prose": "", "claims": CLAIMS}), encoding="utf-8")
    client.log_artifact(parent, str(file))
    return "contrasts"


@pytest.fixture(scope="module")
def trials(experiment: str, tracking: str) -> pd.DataFrame:
    return load(experiment, tracking=tracking)


def test_sets_are_matched_over_the_other_knobs(trials: pd.DataFrame, tracking: str) -> None:
    found = contrast(
        trials,
        "cam",
        {"cgnet.erasing": "cse"},
        {"cgnet.erasing": "class_agnostic"},
        tracking=tracking,
    )
    assert found.one == ("cse, 1", "cse, 10")
    assert found.other == ("class_agnostic, 1", "class_agnostic, 10")
    each = [
        contrast(trials, "cam", f"cse, {n}", f"class_agnostic, {n}", tracking=tracking)
        for n in (1, 10)
    ]
    mean = sum(one.difference.value for one in each) / 2
    assert found.difference.value == pytest.approx(mean)
    assert found.difference.p is not None
    assert found.difference.p < 0.05
    assert found.difference.low > 0


def test_knob_that_one_side_does_not_have_is_not_matched(
    trials: pd.DataFrame, tracking: str
) -> None:
    found = contrast(trials, "cam", {"cgnet.erasing": "cse"}, tracking=tracking)
    assert found.other == ("oc", "oc")
    assert found.confounded == ("cam.source",)


def test_two_variants_swap_their_sides_with_the_sign(trials: pd.DataFrame, tracking: str) -> None:
    one = contrast(trials, "cam", "cse, 1", "oc", tracking=tracking).difference
    other = contrast(trials, "cam", "oc", "cse, 1", tracking=tracking).difference
    assert one.value == pytest.approx(-other.value)
    # p is an integral whose error is bounded by 1e-8
    assert one.p == pytest.approx(other.p, abs=1e-8)


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        ("cse, 2", None, "no variant 'cse, 2'; there are: oc; cse, 1"),
        ("oc", None, "have variants in common"),
        ({"cgnet.lambda_start": 3}, None, "no trial has 3; there are"),
        ({"lambda_start": 1, "cgnet.erasing": "cse"}, {"cgnet.erasing": "cse"}, "in common"),
    ],
)
def test_sides_that_cannot_be_compared_are_refused(
    trials: pd.DataFrame, tracking: str, one: str, other: str | None, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        contrast(trials, "cam", one, other, tracking=tracking)


def test_compare_of_a_stage_that_is_not_there_names_those_that_are(
    experiment: str, tracking: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", experiment, "--stage", "cm", "--tracking", tracking]) == 2
    assert "no trial has a stage 'cm'; expected a scored one: cam" in capsys.readouterr().err


def test_command_compares_two_variants_and_two_sets(
    experiment: str, tracking: str, capsys: pytest.CaptureFixture[str]
) -> None:
    variants = ["cse, 10", "class_agnostic, 10"]
    assert main(["compare", experiment, *variants, "--tracking", tracking]) == 0
    assert "| cse, 10 | class_agnostic, 10 | +" in unpadded(capsys.readouterr().out)
    command = ["compare", experiment, "--tracking", tracking]
    sets = ["--where", "erasing=cse", "--against", "erasing=class_agnostic"]
    assert main([*command, *sets]) == 0
    assert "Matched: cse, 1 with class_agnostic, 1; cse, 10 with" in capsys.readouterr().out
    assert main([*command, "--against", "erasing=cse"]) == 2
    assert "--against needs --where" in capsys.readouterr().err


def test_expectations_are_held_contradicted_not_shown_or_not_judged(
    experiment: str, trials: pd.DataFrame, tracking: str
) -> None:
    claims = expectations(experiment, tracking=tracking)
    naming = naming_of(trials)
    assert claims[0].claim(naming) == "CSE helps"
    assert claims[2].claim(naming) == "class_agnostic, 1 better than the baseline"
    outcomes = [found.outcome for found in judge(trials, claims, tracking=tracking)]
    assert outcomes == ["held", "contradicted", "not shown with this many seeds", "not judged"]


def test_sweep_without_expectations_has_none_to_judge(record: Record, tracking: str) -> None:
    record("silent about it", "oc", fields=("cam",))
    assert expectations("silent about it", tracking=tracking) == []
    assert judge(pd.DataFrame(), [], tracking=tracking) == []


def test_expectation_of_another_form_is_refused(
    record: Record, tracking: str, tmp_path: Path
) -> None:
    client = MlflowClient(tracking)
    run = record("wrong claims", "oc", fields=("cam",))
    file = tmp_path / "expectations.json"
    file.write_text('{"version": 1, "claims": [{"compare": "a", "metric": "x", "sign": ">"}]}')
    client.log_artifact(client.get_run(run).data.tags["mlflow.parentRunId"], str(file))
    with pytest.raises(ValueError, match=r"sign is '>'; expected '\+' or '-'"):
        expectations("wrong claims", tracking=tracking)


def test_claim_without_words_has_the_names_of_its_sides() -> None:
    labels = Labels({"cgnet.erasing=cse": "ours"})
    naming = Naming(labels=labels, variants={"source=oc": Name("OC")}, knobs=["cgnet.erasing"])
    sides = {"erasing": "cse", "a.b": [1, 2]}
    claim = Expectation(compare=sides, against="source=oc", metric="cam/miou", sign="-")
    assert claim.claim(naming) == "ours, a.b=1 or a.b=2 worse than OC"
