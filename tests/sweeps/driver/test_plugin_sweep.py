"""A plugin in a real sweep: workers import it, and its stage is in the record."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient
from nodes import Nodes
from small import SMALL

STAGE = """
from occse.stage import Context, Stage
from ..rules import weight

class Count(Stage):
    step: int = 1

    def needs(self) -> tuple[str, ...]:
        return ("data",)

    def run(self, ctx: Context) -> dict[str, float]:
        return {"counted": weight(len(list(ctx.inputs["data"].iterdir())), self.step)}
"""
PACKAGE = {
    "__init__.py": "from .stages.count import Count\n\nSTAGES = {'count': Count}\n",
    "stages/__init__.py": "",
    "stages/count.py": STAGE,
    "rules.py": "def weight(number: int, step: int) -> int:\n    return number * step\n",
}
SWEEP = {
    "name": "plugged",
    "question": "Do workers import a plugin?",
    "plugins": ["counting"],
    "profile": "embedded",
    "base": SMALL,
    "grid": {"count.step": [1, 2]},
    "baseline": {"count.step": 1},
    "targets": ["count"],
    "resources": {"*": {"num_cpus": 1}},
}


def sweeps(
    folder: Path, *arguments: str, path: Path | None = None
) -> "subprocess.CompletedProcess[str]":
    hidden = ("MLFLOW_TRACKING_URI", "OCCSE_PLUGINS")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    if path is not None:
        environment["PYTHONPATH"] = os.pathsep.join([str(path), environment.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-m", "sweeps", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def nodes() -> Iterator[Nodes]:
    nodes = Nodes()
    yield nodes
    nodes.shutdown()


@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")  # of MLflow
def test_plugin_package_travels_to_workers_that_lack_it_and_its_stage_is_recorded(
    tmp_path: Path, nodes: Nodes
) -> None:
    # Ray tells workers the driver's folder, but not its PYTHONPATH: there they would not find it.
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    for name, text in PACKAGE.items():
        path = plugins / "counting" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "plugged.yaml").write_text(yaml.safe_dump(SWEEP))
    nodes.add(num_cpus=1)
    done = sweeps(tmp_path, "run", "plugged.yaml", "--address", nodes.address, path=plugins)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 stages run, 0 from the store" in done.stdout
    client = MlflowClient(f"sqlite:///{tmp_path}/runs/mlflow.db")
    experiment = client.get_experiment_by_name("plugged")
    runs = client.search_runs([experiment.experiment_id], "tags.`occse.kind` = 'trial'")
    counted = {run.data.params["count.step"]: run.data.metrics["count/counted"] for run in runs}
    assert counted["2"] == 2 * counted["1"] > 0


def test_plugin_that_is_missing_is_refused_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "plugged.yaml").write_text(yaml.safe_dump(SWEEP, sort_keys=False))
    done = sweeps(tmp_path, "plan", "plugged.yaml")
    assert done.returncode == 2
    assert "plugged.yaml:3: plugin counting: there is no module of that name" in done.stderr
