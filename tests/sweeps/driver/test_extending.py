"""A finished sweep's file gets one more value and one more seed: only what is new runs, and the
table has it all.
"""

import csv
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run
from nodes import Nodes
from small import SMALL

from sweeps.__main__ import main
from sweeps.spec.trials import load_spec, trials

pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")
SWEEP = {
    "name": "extended",
    "question": "Which alpha?",
    "profile": "embedded",
    "base": SMALL | {"cam.source": "oc"},
    "targets": ["crf"],
    "resources": {"*": {"num_cpus": 1}},
}


def run(folder: Path, **more: Any) -> set[str]:
    """Run the sweep as a user does; the fingerprints that its file asks for."""
    path = folder / "extended.yaml"
    path.write_text(yaml.safe_dump(SWEEP | more))
    places = ["--store", str(folder / "store"), "--tracking", f"sqlite:///{folder}/mlflow.db"]
    assert main(["run", str(path), *places]) == 0
    return {node.fingerprint for trial in trials(load_spec(path)) for node in trial.nodes.values()}


def artifacts(folder: Path) -> dict[str, int]:
    """Time at which each was written, by fingerprint."""
    return {
        path.parent.name: path.stat().st_mtime_ns
        for path in folder.glob("store/[A-Z]*/*/manifest.json")
    }


def recorded(folder: Path) -> dict[str, Run]:
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiment = client.get_experiment_by_name("extended").experiment_id
    return {
        run.info.run_id: run
        for run in client.search_runs([experiment], "tags.`occse.kind` = 'trial'")
    }


def seeds_in_table(folder: Path) -> dict[str, str]:
    """Number of seeds of each variant in the result table."""
    command = (sys.executable, "-m", "analysis", "table", "extended", "--format", "csv")
    tracking = ("--tracking", f"sqlite:///{folder}/mlflow.db")
    done = subprocess.run((*command, *tracking), capture_output=True, text=True, check=True)
    return {row["variant"]: row["n"] for row in csv.DictReader(io.StringIO(done.stdout))}


def test_only_the_new_stages_run_and_table_and_mlflow_have_both(
    nodes: Nodes, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    nodes.add(num_cpus=1)
    nodes.add(num_cpus=1)
    asked = run(tmp_path, grid={"crf.alpha": [4, 8]})
    old, old_runs = artifacts(tmp_path), recorded(tmp_path)
    assert old.keys() == asked
    assert len(old_runs) == 2
    capfd.readouterr()

    wanted = run(tmp_path, grid={"crf.alpha": [4, 8, 16]}, seeds=2)
    output = capfd.readouterr().out
    new, new_runs = artifacts(tmp_path), recorded(tmp_path)
    assert new.keys() == wanted > asked
    assert old.items() <= new.items(), "an artifact was made again"
    assert f"{len(wanted - asked)} stages run, {len(asked)} from the store" in output
    assert len(new_runs) == 6
    assert {run.info.status for run in new_runs.values()} == {"FINISHED"}
    for run_id, before in old_runs.items():
        after = new_runs[run_id]
        assert (after.info.start_time, after.info.end_time) == (
            before.info.start_time,
            before.info.end_time,
        )
        assert (after.data.metrics, after.data.params) == (before.data.metrics, before.data.params)

    assert seeds_in_table(tmp_path) == {"alpha=4": "2", "alpha=8": "2", "alpha=16": "2"}
