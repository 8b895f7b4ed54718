import pytest

from occse.__main__ import main
from occse.commands.explain import explain


def test_only_the_knobs_that_differ_are_shown_with_both_values() -> None:
    assert list(explain("paper", "reference")) == [
        "knob            paper  reference",
        "cgnet.mask_max  image  batch",
    ]


def test_a_profile_does_not_differ_from_itself() -> None:
    assert list(explain("modern", "modern")) == ["knob  modern  modern"]


def test_without_a_second_profile_the_defaults_are_meant() -> None:
    rows = [line.split() for line in explain("modern")]
    assert ["cgnet.head_lr", "10.0", "1.0"] in rows
    assert rows[0] == ["knob", "modern", "default"]


def test_an_alpha_shows_the_threshold_that_it_implies() -> None:
    lines = [" ".join(line.split()) for line in explain("reference", "modern")]
    assert "crf_high.alpha 32 (threshold 0.077) 24 (threshold 0.094)" in lines


def test_knobs_without_effect_in_one_profile_are_no_difference_of_values() -> None:
    lines = list(explain("reference", "modern"))
    # the official classifier is a file: nothing trains it
    start = lines.index("with an effect in modern only:")
    assert not any(line.startswith("oc.lr") for line in lines[:start])
    assert "oc.lr=0.01" in " ".join(lines[start:])
    assert not any(line.startswith("with an effect in reference") for line in lines)


def test_the_command_prints_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "paper", "reference"]) == 0
    assert capsys.readouterr().out.splitlines() == list(explain("paper", "reference"))


def test_an_unknown_profile_is_refused_with_those_that_exist(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["explain", "referense"]) == 2
    assert (
        "no profile 'referense'; the profiles are embedded, modern, paper, reference"
        in capsys.readouterr().err
    )
