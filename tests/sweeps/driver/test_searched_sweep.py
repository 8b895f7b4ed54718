"""A search through real stages, by the command that a user gives."""

import re
from pathlib import Path

import optuna
import pytest
import yaml
from mlflow import MlflowClient
from small import SMALL

from sweeps.__main__ import main

NOWHERE = "127.0.0.1:1"  # no cluster answers there, so that what asks for one fails


def spec_file(folder: Path, *, trials: int) -> Path:
    path = folder / "search.yaml"
    values = {
        "name": "found",
        "question": "Which lambda?",
        "profile": "embedded",
        "base": {
            knob: value for knob, value in SMALL.items() if not knob.startswith(("seg", "erase"))
        },
        "search": {
            "trials": trials,
            "objectives": {"cam/miou": "max"},
            "space": {"cgnet.lambda_start": {"from": 1, "to": 9}},
            "storage": f"sqlite:///{folder}/optuna.db",
        },
        "baseline": {"cam.source": "oc"},
        "targets": ["cam"],
        "resources": {"*": {"num_cpus": 1}},
    }
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")
def test_a_search_is_run_recorded_and_continued(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    where = ["--store", str(tmp_path / "store"), "--tracking", uri]

    def run(trials: int, *more: str) -> str:
        assert main(["run", str(spec_file(tmp_path, trials=trials)), *where, *more]) == 0
        return capfd.readouterr().out

    assert "3 of 3 trials done" in run(2, "--num-cpus", "2")
    assert "2 more variants to be suggested" in plan(tmp_path, where, capfd)
    assert "5 of 5 trials done" in run(4, "--num-cpus", "2")
    assert "everything came from the store" in run(4, "--address", NOWHERE)

    study = optuna.load_study(study_name="found", storage=f"sqlite:///{tmp_path}/optuna.db")
    told = {trial.params["cgnet.lambda_start"]: trial.value for trial in study.get_trials()}
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("found")
    runs = client.search_runs([experiment.experiment_id], "tags.`occse.kind` = 'trial'")
    assert [run.info.status for run in runs] == ["FINISHED"] * 5
    found = {
        run.data.params.get("cgnet.lambda_start"): run.data.metrics["cam/miou"] for run in runs
    }
    baseline = found.pop(None)
    assert baseline is not None
    assert {int(float(name)): score for name, score in found.items()} == told
    chosen = {run.data.tags["occse.pixel_truth"] for run in runs}
    assert chosen == {"cam.threshold on train, search for cam/miou on train"}


def plan(folder: Path, where: list[str], capfd: pytest.CaptureFixture[str]) -> str:
    assert main(["plan", str(spec_file(folder, trials=4)), *where[:2]]) == 0
    out = capfd.readouterr().out
    assert re.search(r"Trials: the baseline and a search for cam/miou: 3 trials known", out)
    return out
