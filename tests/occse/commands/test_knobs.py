"""`python -m occse knobs` says of every knob what a person needs to set it."""

import pytest

from occse.__main__ import main
from occse.commands.knobs import knobs
from occse.pipeline import STAGES, pipeline_class, stage_classes

# Stages of other tests and of plugins may be registered too, as these modules are imported.
OURS = [name for name, stage in STAGES.items() if stage.__module__.startswith("occse.stages.")]


@pytest.mark.parametrize("kind", OURS)
def test_every_knob_has_its_meaning_beneath_it(kind: str) -> None:
    for name, info in STAGES[kind].model_fields.items():
        assert info.description, f"{kind}.{name} has no sentence beneath it"


def test_all_knobs_are_listed_with_their_stage() -> None:
    names = [line.split()[0] for line in knobs() if not line.startswith(" ")]
    expected = []
    for field in pipeline_class().model_fields:
        for stage in stage_classes(field):
            expected += [f"{field}.{knob}" for knob in stage.model_fields]
    assert names == expected


def test_a_knob_says_type_bound_defaults_and_meaning(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["knobs", "lambda_start"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "cgnet.lambda_start  number, at least 0",
        "    default 0.3; 1 in embedded",
        "    Weight of the erasing loss in the first epoch (paper, section 3.2).",
    ]


def test_a_stage_lists_its_own_knobs_only() -> None:
    names = [line.split()[0] for line in knobs("seg") if not line.startswith(" ")]
    assert "seg.crf" in names
    assert all(name.startswith("seg.") for name in names)


def test_a_word_is_looked_for_in_names_and_meanings() -> None:
    names = {line.split()[0] for line in knobs("SEAM") if not line.startswith(" ")}
    assert {"pseudo.log_steps", "deeplab.head", "seg.merge"} <= names


def test_a_word_that_nothing_has_is_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["knobs", "qqq"]) == 2
    assert (
        "no name or meaning of a knob contains 'qqq'; the stages are data, "
        in capsys.readouterr().err
    )


def test_a_knob_is_found_by_its_full_name_in_every_layout_that_has_it() -> None:
    names = [line.split()[0] for line in knobs("data.labels") if not line.startswith(" ")]
    assert names == ["data.labels", "data.labels"], "of voc and of folder"
