import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient

from occse.pipeline import Pipeline
from sweeps.__main__ import main

pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")
NOWHERE = "127.0.0.1:1"  # no cluster answers there, so that what asks for one fails


@pytest.fixture
def spec(tmp_path: Path, small_pipeline: Pipeline) -> Path:
    """A sweep of one trial, whose stages are those of `small_store`."""
    path = tmp_path / "small.yaml"
    stages = small_pipeline.model_dump(mode="json").items()
    base = {
        f"{field}.{knob}": value
        for field, stage in stages
        for knob, value in stage.items()
        if knob != "seed"
    }
    values = {"name": "small", "question": "Does it run?", "base": base, "baseline": {}}
    path.write_text(yaml.safe_dump(values))
    return path


def test_a_sweep_that_is_in_the_store_needs_no_cluster_and_is_recorded_once(
    spec: Path, small_store: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    for _ in range(2):
        assert (
            main(
                [
                    "run",
                    str(spec),
                    "--store",
                    str(small_store),
                    "--tracking",
                    uri,
                    "--address",
                    NOWHERE,
                ]
            )
            == 0
        )
        out, _ = capfd.readouterr()
        assert "1 of 1 trial done" in out
        assert "0 stages run, everything came from the store" in out
        assert "baseline" in out
        assert f"-m sweeps mlflow --tracking {uri}" in out
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("small")
    runs = client.search_runs([experiment.experiment_id])
    assert sorted(run.data.tags["occse.kind"] for run in runs) == ["sweep", "trial"]
    assert {run.info.status for run in runs} == {"FINISHED"}
    trial = next(run for run in runs if run.data.tags["occse.kind"] == "trial")
    assert {"cam/miou", "crf/miou", "pseudo/miou", "seg/miou"} <= trial.data.metrics.keys()
    assert trial.data.tags["occse.pixel_truth"] == "cam.threshold on train"


def test_a_plan_is_printed_and_nothing_is_written(
    spec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", str(spec), "--store", str(tmp_path / "store")]) == 0
    assert "Does it run?" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == [spec]


def test_a_faulty_file_is_told_with_its_line(
    spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec.write_text(spec.read_text() + "grd: {}\n")
    assert main(["run", str(spec)]) == 2
    line = len(spec.read_text().splitlines())
    assert capsys.readouterr().err.startswith(f"{spec}:{line}: grd: unknown key")


def test_only_a_cluster_elsewhere_can_grow(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(spec), "--autoscaling"]) == 2
    assert (
        "--autoscaling: a cluster on this machine cannot grow; give the --address"
        in capsys.readouterr().err
    )


def test_a_file_that_is_not_there_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", str(tmp_path / "no.yaml")]) == 2
    assert "no.yaml" in capsys.readouterr().err


def test_nothing_runs_when_the_tracking_server_does_not_answer(
    spec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound, but nobody listens
        uri = f"http://127.0.0.1:{closed.getsockname()[1]}"
        assert main(["run", str(spec), "--store", str(tmp_path / "store"), "--tracking", uri]) == 1
    assert f"MLflow at {uri}" in capsys.readouterr().err
    assert not list((tmp_path / "store").iterdir())


def test_nothing_runs_when_the_store_cannot_be_written(
    spec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "no" / "such" / "disk"
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    assert main(["run", str(spec), "--store", str(store), "--tracking", uri]) == 1
    assert f"store {store}" in capsys.readouterr().err
    assert not (tmp_path / "mlflow.db").exists()


def test_an_artifact_that_does_not_match_is_told_and_the_exit_code_tells(
    spec: Path, small_store: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store"
    shutil.copytree(small_store, store)
    (manifest,) = store.glob("Segment/*/manifest.json")
    manifest.write_text(manifest.read_text().replace('"stage":', '"stages":'))
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    assert (
        main(["run", str(spec), "--store", str(store), "--tracking", uri, "--address", NOWHERE])
        == 1
    )
    assert f"{manifest} is not a manifest" in capfd.readouterr().out


@pytest.mark.parametrize("count", ["0", "-1", "many"])
def test_a_count_must_be_one(count: str, spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["run", str(spec), f"--num-cpus={count}"])
    assert "expected a count of at least 1" in capsys.readouterr().err


def test_a_stage_starts_from_a_weight_file_on_the_cluster(
    spec: Path, small_store: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(small_store, tmp_path / "store")
    (tmp_path / "weights").mkdir()
    found = next((small_store / "TrainClassifier").glob("*/model.safetensors"))
    shutil.copy(found, tmp_path / "weights" / "user.safetensors")
    values = yaml.safe_load(spec.read_text())
    values["base"] |= {"oc.init": "user.safetensors", "oc.epochs": 0, "cam.source": "oc"}
    spec.write_text(yaml.safe_dump(values | {"targets": ["oc"]}))
    command = [
        "run",
        str(spec),
        "--store",
        str(tmp_path / "store"),
        "--tracking",
        f"sqlite:///{tmp_path}/mlflow.db",
    ]
    assert main([*command, "--num-cpus", "1"]) == 2
    assert (
        "oc.init: 'user.safetensors' is a file, but its folder is not given"
        in capfd.readouterr().err
    )
    command += ["--num-cpus", "1", "--weights", str(tmp_path / "weights")]
    assert main(command) == 0
    made = {
        path.parent.name
        for path in (tmp_path / "store" / "TrainClassifier").glob("*/model.safetensors")
    }
    assert len(made) == 2
    (tmp_path / "weights" / "user.safetensors").touch()
    assert main(command) == 0, "another date is no other file"
    printed = capfd.readouterr()
    assert "everything came from the store" in printed.out
    assert "No stage of this sweep is scored" in printed.out
    assert "error" not in printed.err


def test_what_is_asked_before_anything_runs_waits_for_no_library_that_only_runs_need() -> None:
    heavy = "{'ray', 'mlflow', 'optuna', 'pandas', 'torchvision'}"
    code = f"import sys, sweeps.__main__; print(*{heavy}.intersection(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not done.stdout.strip()
