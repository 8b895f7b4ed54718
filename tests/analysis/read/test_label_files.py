"""Files of names for people: each key is about something that there is, or is refused."""

from pathlib import Path

import pandas as pd
import pytest

from analysis.read.labels import labels_of, naming_of, with_label_file

COLUMNS = {
    "variant": ["source=oc", "source=cgnet, erasing=cse"],
    "planned": [("cam",), ("cam", "cgnet")],
    "param.cgnet.erasing": [None, "cse"],
    "param.cgnet.lambda_start": [None, "10.0"],
    "cam/miou": [0.5, 0.6],
}


def labelled(folder: Path, text: str) -> pd.DataFrame:
    path = folder / "names.yaml"
    path.write_text(text, encoding="utf-8")
    return with_label_file(pd.DataFrame(COLUMNS), path)


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        (
            "cam/miou: x\ncgnet.erasing=csee: y\n",
            2,
            "expected a value of cgnet.erasing that these trials have (cse), got 'csee'",
        ),
        (
            "labels:\n  cam/miou: x\n  cgnet.lambda_start=1: weak\n",
            3,
            "expected a value of cgnet.lambda_start that these trials have (10), got '1'",
        ),
        ("cam/miou: x\n\ncgnet.lamda: y\n", 3, "'cgnet.lamda': expected a knob, knob=value"),
        ("cam/miou: x\ncam: 3\n", 2, "cam: expected a text, got 3"),
        ("cam/miou: x\ncam/miou: y\n", 2, "the key cam/miou stands here twice"),
        (r"cam/miou: $\input$", 1, r"got \input"),
    ],
)
def test_label_about_nothing_is_refused_with_its_line(
    tmp_path: Path, text: str, line: int, message: str
) -> None:
    with pytest.raises(ValueError, match=rf"^--labels .*names\.yaml:{line}: ") as raised:
        labelled(tmp_path, text)
    assert message in str(raised.value)


@pytest.mark.parametrize("text", ["- a\n", "3\n", ""])
def test_label_file_without_keys_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match="expected names by key"):
        labelled(tmp_path, text)


def test_labels_of_values_that_there_are_hold_however_they_are_written(tmp_path: Path) -> None:
    # `class_agnostic` has a usual name, so a file for several sweeps may name it
    text = (
        "cgnet.lambda_start=10: strong\ncgnet.erasing=class_agnostic: CA\ncgnet.erasing=null: none"
    )
    trials = labelled(tmp_path, text)
    labels = labels_of(trials)
    assert labels.value("cgnet.lambda_start", "10.0") == "strong"
    assert labels.value("cgnet.erasing", None) == "none"
    assert naming_of(trials).part("lambda_start", 10) == "strong"
