"""The stages as analysis reads them, and as the pipeline in use states them."""

import json

import pandas as pd
import pytest

from analysis.read.pipeline import BEFORE, Pipeline, pipeline_of, read_pipeline
from occse.pipeline import Pipeline as Stages
from occse.pipeline import pipeline_facts

# Stages that no run had before sweeps logged their pipeline.
ADDED = {"cams"}


@pytest.fixture(scope="module")
def logged() -> Pipeline:
    """The pipeline of today, as a sweep logs it."""
    return read_pipeline(json.dumps(pipeline_facts(Stages())))


def test_stages_of_old_runs_are_those_of_the_pipeline(logged: Pipeline) -> None:
    assert tuple(field for field in logged.fields if field not in ADDED) == BEFORE.fields
    assert logged.scored == BEFORE.scored
    for field in BEFORE.fields:
        assert set(logged.upstream(field)) - ADDED == set(BEFORE.upstream(field))
        assert logged.split_of(field) == BEFORE.split_of(field)
        assert logged.seeded(field) == BEFORE.seeded(field)


def test_seeds_of_a_score_are_those_of_the_trainings_upstream(logged: Pipeline) -> None:
    assert logged.seeded("cam") == ("pretrain", "oc", "cgnet")
    assert logged.seeded("seg") == ("pretrain", "oc", "cgnet", "affinity", "deeplab")
    assert logged.seeded("erase_and_infer") == ("pretrain", "oc")


def test_units_of_an_analysis_rest_on_each_other(logged: Pipeline) -> None:
    assert logged.units("pseudo") == ("pretrain", "oc", "cgnet", "affinity", "pseudo")
    assert logged.units("crf") == ("pretrain", "oc", "cgnet", "crf")


def test_correlated_stages_are_those_on_one_path(logged: Pipeline) -> None:
    assert logged.correlated() == ("cam", "crf", "pseudo", "seg")


def test_pipeline_of_old_and_new_sweeps_together_has_the_stages_of_both() -> None:
    new = {"field": "boundary", "needs": ["cam"], "scored_split": "train"}
    text = json.dumps({"version": 1, "stages": [{"field": "cam"}, new]})
    trials = pd.DataFrame({"pipeline": [text, "", None]})
    assert pipeline_of(trials).scored == ("boundary",)
    assert pipeline_of(pd.DataFrame({"run_id": ["a"]})) == BEFORE


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "cannot be read"),
        ('{"version": 2, "stages": []}', "expected version 1, it has 2"),
        ('{"version": 1, "stages": [{"field": "cam", "scored_split": "all"}]}', "expected 'train'"),
    ],
)
def test_a_text_of_another_kind_is_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_pipeline(text)
