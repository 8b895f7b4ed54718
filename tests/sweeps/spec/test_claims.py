"""Claims of `expect`: checked against the trials of the sweep, and recorded as JSON."""

from pathlib import Path

import pytest

from sweeps.spec.trials import load_spec

SWEEP = """name: s
question: why?
profile: embedded
grid: {cam.source: [oc, cgnet], cgnet.erasing: [cse, class_agnostic]}
baseline: {cam.source: oc}
expect:
- prose stays
"""
GOOD = """- compare: {cgnet.erasing: cse}
  metric: cam/miou
  sign: "+"
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "spec.yaml"
    path.write_text(SWEEP + text)
    return path


def test_claims_and_prose_are_recorded_together(tmp_path: Path) -> None:
    spec = load_spec(write(tmp_path, GOOD))
    assert spec.expectations() == {
        "version": 1,
        "prose": "prose stays; cgnet.erasing=cse above the baseline in cam/miou",
        "claims": [
            {
                "compare": {"cgnet.erasing": "cse"},
                "against": None,
                "metric": "cam/miou",
                "sign": "+",
                "text": "",
            }
        ],
    }


def test_expectation_in_one_text_has_no_claims(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text("name: s\nquestion: why?\nbaseline: {}\nexpect: more\n")
    expectations = load_spec(path).expectations()
    assert expectations == {"version": 1, "prose": "more", "claims": []}


@pytest.mark.parametrize(
    ("change", "line", "message"),
    [
        (("cam/miou", "cam/mio"), 9, "expect.1.metric: no trial has 'cam/mio'; did you mean"),
        (("cgnet.erasing:", "cgnet.erase:"), 8, "expect.1.compare: 'cgnet.erase' is not a knob"),
        (("cse}", "csx}"), 8, "expect.1.compare: no trial is meant by cgnet.erasing=csx"),
        (("{cgnet.erasing: cse}", "CSE"), 8, "expect.1.compare: no trial is meant by CSE"),
        (('"+"', "above"), 10, "expect.1.sign: Input should be '+' or '-', got 'above'"),
        (("metric", "metrik"), 9, "metrik: unknown key; did you mean 'metric'?"),
    ],
)
def test_claim_about_nothing_is_refused(
    change: tuple[str, str], line: int, message: str, tmp_path: Path
) -> None:
    path = write(tmp_path, GOOD.replace(*change))
    with pytest.raises(ValueError) as caught:
        load_spec(path)
    said = str(caught.value).replace(f"{tmp_path}/", "").splitlines()
    assert any(text.startswith(f"spec.yaml:{line}: {message}") for text in said), said
