"""The files of a trial of real stages, in a real MLflow."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from mlflow import MlflowClient
from PIL import Image

from occse.evaluation import Counts
from occse.manifest import artifact_folder
from occse.pipeline import Node, Pipeline
from sweeps.records import Record
from sweeps.schema import Spec
from sweeps.spec import Trial
from sweeps.store import Store
from sweeps.tracking import Tracking

pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")


def logged(trial: Trial, store: Store, uri: str, folder: Path) -> Path:
    """Record `trial` and download what MLflow then has of it."""
    manifests = {field: found for field, node in trial.nodes.items() if (found := store.manifest(node)) is not None}
    tracking = Tracking(uri, spec=Spec(name="small", question="What is left?", baseline={}))
    tracking.open([trial])
    tracking.log(Record(trial=trial, manifests=manifests), store=store)
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("small")
    assert experiment
    (run,) = client.search_runs([experiment.experiment_id], "tags.`occse.kind` = 'trial'")
    assert "occse.not_attached" not in run.data.tags
    folder.mkdir()
    return Path(client.download_artifacts(run.info.run_id, "", str(folder)))


def test_counts_panels_and_configuration_are_in_mlflow(
    small_store: Path, small_pipeline: Pipeline, small_node: dict[str, Node], tmp_path: Path
) -> None:
    nodes = small_node
    trial = Trial(variant="one", order=0, baseline=True, seed=0, knobs={}, pipeline=small_pipeline, nodes=nodes)
    left = logged(trial, Store(small_store), f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "left")
    counted = {path.stem for path in (left / "counts").iterdir()}
    assert counted == {"cam", "crf", "pseudo", "seg"}
    for field in counted:
        mine, stored = (
            Counts.load(path).confusion()
            for path in (left / "counts" / f"{field}.npz", artifact_folder(small_store, nodes[field]) / "counts.npz")
        )
        assert np.array_equal(mine, stored)
    panels = sorted((left / "panels").iterdir())
    assert len(panels) == 8
    for path in panels:
        with Image.open(path) as panel:
            assert panel.format == "PNG"
    config = yaml.safe_load((left / "config.yaml").read_text())
    assert config["cgnet"] == small_pipeline.cgnet.config()
