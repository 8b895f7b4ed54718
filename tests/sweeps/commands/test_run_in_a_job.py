"""`run` as the program of a Ray job, whose working folder does not survive it."""

from pathlib import Path

import pytest

from sweeps.__main__ import main
from sweeps.cluster.head import JOB


@pytest.mark.parametrize(
    ("options", "refused"),
    [
        ([], "--store runs/store: expected an absolute path in a submitted job"),
        (["--store", "/shared/store"], "--tracking sqlite:///runs/mlflow.db: expected an absolute"),
    ],
)
def test_relative_paths_are_refused_in_a_job(
    options: list[str],
    refused: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(JOB, "{}")
    monkeypatch.chdir(tmp_path)
    tracking = ["--tracking", "sqlite:///runs/mlflow.db"]
    assert main(["run", "sweep.yaml", *tracking, *options]) == 2
    assert refused in capsys.readouterr().err


def test_absolute_paths_are_taken_in_a_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(JOB, "{}")
    monkeypatch.chdir(tmp_path)
    paths = ["--store", "s3://bucket/store", "--tracking", "http://127.0.0.1:5000"]
    assert main(["run", "missing.yaml", *paths]) == 2
    assert "missing.yaml: cannot be read" in capsys.readouterr().err
