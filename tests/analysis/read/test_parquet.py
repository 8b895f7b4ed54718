"""Trials in a Parquet file, and several experiments at once."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from analysis.__main__ import main
from analysis.read.mlflow import load
from analysis.read.parquet import write_export

# MLflow 3.17 still uses what SQLAlchemy 2.1 calls deprecated.
pytestmark = pytest.mark.filterwarnings(
    "ignore:The ``noload`` loader strategy is deprecated:sqlalchemy.exc.SADeprecationWarning"
)

Record = Callable[..., str]


@pytest.fixture(scope="module")
def experiments(record: Record) -> tuple[str, str]:
    record(
        "early", "oc", fields=("cam",), metrics={"cam/miou": 0.5}, tags={"occse.baseline": "true"}
    )
    record(
        "early", "cse", order=1, fields=("cam", "seg"), metrics={"cam/miou": 0.625, "seg/miou": 0.5}
    )
    record("late", "cse", fields=("crf",), metrics={"crf/miou": 0.75}, params={"crf.alpha": "6.0"})
    return "early", "late"


def test_an_export_reads_back_as_it_was_and_needs_no_server(
    experiments: tuple[str, str], tracking: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "both.parquet"
    assert main(["export", *experiments, "--tracking", tracking, "--out", str(path)]) == 0
    assert "3 trials" in capsys.readouterr().out
    found = load(str(path), tracking="http://127.0.0.1:1")
    pd.testing.assert_frame_equal(found, load(*experiments, tracking=tracking))
    assert found["planned"].tolist() == [("cam",), ("cam", "seg"), ("crf",)]


def test_a_command_takes_the_file_in_place_of_the_experiment(
    experiments: tuple[str, str], tracking: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "early.parquet"
    write_export(load("early", tracking=tracking), path)
    assert main(["table", "early", "--tracking", tracking]) == 0
    expected = capsys.readouterr().out
    assert main(["table", str(path), "--tracking", "http://127.0.0.1:1"]) == 0
    assert capsys.readouterr().out == expected


def test_several_experiments_stand_one_after_the_other_and_no_run_twice(
    experiments: tuple[str, str], tracking: str, tmp_path: Path
) -> None:
    path = tmp_path / "late.parquet"
    write_export(load("late", tracking=tracking), path)
    trials = load("late", "early", str(path), tracking=tracking)
    assert list(zip(trials["experiment"], trials["variant"], strict=True)) == [
        ("late", "cse"), ("early", "oc"), ("early", "cse")
    ]  # fmt: skip


def test_an_export_needs_its_suffix(
    experiments: tuple[str, str], tracking: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"trials\.csv does not end in \.parquet"):
        write_export(load("late", tracking=tracking), tmp_path / "trials.csv")


@pytest.mark.parametrize("content", [b"", b"no parquet at all", None])
def test_a_file_that_is_no_export_is_an_error(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "some.parquet"
    if content is None:
        pd.DataFrame({"experiment": ["early"]}).to_parquet(path)
    else:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"some\.parquet is not an export of trials"):
        load(str(path))


def test_a_missing_export_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError,
        match=r"there is no export .*none\.parquet; make it with: python -m analysis export",
    ):
        load(str(tmp_path / "none.parquet"))
