"""The files of a trial of real stages, in a real MLflow."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from mlflow import MlflowClient
from PIL import Image

from occse.artifacts.manifest import artifact_folder
from occse.method.evaluation import Counts
from occse.pipeline import Node, Pipeline
from sweeps.spec.model import Spec
from sweeps.spec.trials import Trial
from sweeps.store.store import Store
from sweeps.tracking.attachments import write_attachments, write_tables
from sweeps.tracking.tags import Record
from sweeps.tracking.writer import Tracking

pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")


def logged(trial: Trial, store: Store, uri: str, folder: Path) -> Path:
    """Record `trial` and download what MLflow then has of it."""
    manifests = {
        field: found
        for field, node in trial.nodes.items()
        if (found := store.manifest(node)) is not None
    }
    tracking = Tracking(uri, spec=Spec(name="small", question="What is left?", baseline={}))
    tracking.open([trial])
    tracking.log(Record(trial=trial, manifests=manifests), store=store)
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("small")
    assert experiment
    (run,) = client.search_runs([experiment.experiment_id], "tags.`occse.kind` = 'trial'")
    (parent,) = client.search_runs([experiment.experiment_id], "tags.`occse.kind` = 'sweep'")
    assert "sweep.yaml" in {each.path for each in client.list_artifacts(parent.info.run_id)}
    assert "occse.not_attached" not in run.data.tags
    folder.mkdir()
    return Path(client.download_artifacts(run.info.run_id, "", str(folder)))


def test_attachments_hold_counts_panels_and_configuration(
    small_store: Path, small_pipeline: Pipeline, small_node: dict[str, Node], tmp_path: Path
) -> None:
    nodes = small_node
    trial = Trial(
        variant="one",
        order=0,
        baseline=True,
        seed=0,
        knobs={},
        pipeline=small_pipeline,
        nodes=nodes,
    )
    left = logged(trial, Store(small_store), f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "left")
    counted = {path.stem for path in (left / "counts").iterdir()}
    assert counted == {"cam", "crf", "pseudo", "seg"}
    for field in counted:
        mine, stored = (
            Counts.load(path).confusion()
            for path in (
                left / "counts" / f"{field}.npz",
                artifact_folder(small_store, nodes[field]) / "counts.npz",
            )
        )
        assert np.array_equal(mine, stored)
    panels = sorted((left / "panels").iterdir())
    assert len(panels) == 8
    for path in panels:
        with Image.open(path) as panel:
            assert panel.format == "PNG"
    assert [path.name for path in panels] == sorted(path.name for path in (left / "maps").iterdir())
    assert (left / "gallery.html").read_text().count('<img src="data:image/webp;base64,') == 8
    rows = table(left / "labels.csv")
    assert {row["image"] for row in rows} == set(
        Counts.load(left / "counts" / "cam.npz").names
    ) | set(Counts.load(left / "counts" / "seg.npz").names)
    manifests = json.loads((left / "manifests.json").read_text())
    assert manifests["cam"]["fingerprint"] == nodes["cam"].fingerprint
    assert {"git", "packages"} <= manifests["common"].keys()
    assert {**manifests["common"], **manifests["cam"]}.keys() >= {"inputs", "seconds", "machine"}
    config = yaml.safe_load((left / "config.yaml").read_text())
    assert config["cgnet"] == small_pipeline.cgnet.config()


@pytest.mark.parametrize("field", ["cam", "crf", "pseudo", "seg"])
def test_tables_agree_with_the_scores(
    field: str, small_store: Path, small_node: dict[str, Node], tmp_path: Path
) -> None:
    store, node = Store(small_store), small_node[field]
    manifest = store.manifest(node)
    assert manifest
    metrics = manifest.metrics
    counts = Counts.load(store.path(node, "counts.npz"))
    folder = tmp_path / field
    write_tables(counts, folder)
    rows = table(folder / "classes.csv")
    assert [row["class"] for row in rows] == [
        "background",
        "beetle",
        "fish",
        "cart",
        "sofa",
        "plant",
    ]
    assert [float(row["iou"]) for row in rows] == pytest.approx(
        [metrics[f"iou/{row['class']}"] for row in rows]
    )
    confusion = np.array(
        [list(row.values())[1:] for row in table(folder / "confusion.csv")], np.int64
    )
    assert confusion.sum() == counts.count.sum()
    assert [int(row["fn"]) for row in rows] == (confusion.sum(1) - confusion.diagonal()).tolist()
    assert [int(row["fp"]) for row in rows] == (confusion.sum(0) - confusion.diagonal()).tolist()
    if field == "cam":
        curve = table(folder / "thresholds.csv")
        best = max(curve, key=lambda row: float(row["miou"]))
        assert float(best["threshold"]) == pytest.approx(metrics["threshold"])
        assert float(best["miou"]) == pytest.approx(metrics["miou"])
    else:
        assert not (folder / "thresholds.csv").exists()


def table(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_attachments_from_an_object_store_are_the_same_with_few_files_fetched(
    s3: str,
    small_store: Path,
    small_pipeline: Pipeline,
    small_node: dict[str, Node],
    tmp_path: Path,
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OCCSE_CACHE", str(tmp_path / "one"))
        one = Store(f"{s3}/{tmp_path.name}")
        shutil.copytree(small_store, one.root)
        for node in small_node.values():
            one.execute(node)  # it is made already, and put there
        patch.setenv("OCCSE_CACHE", str(tmp_path / "two"))
        two = Store(one.url)
    trial = Trial(
        variant="one",
        order=0,
        baseline=True,
        seed=0,
        knobs={},
        pipeline=small_pipeline,
        nodes=small_node,
    )
    left: list[dict[str, bytes]] = []
    for number, store in enumerate((Store(small_store), two)):
        manifests = {
            field: found
            for field, node in small_node.items()
            if (found := store.manifest(node)) is not None
        }
        write_attachments(
            Record(trial=trial, manifests=manifests),
            tmp_path / str(number),
            title="CSE · s0",
            store=store,
            data_root=None,
        )
        files = (path for path in (tmp_path / str(number)).rglob("*") if path.is_file())
        left.append(
            {
                path.relative_to(tmp_path / str(number)).as_posix(): path.read_bytes()
                for path in files
            }
        )
    assert left[0] == left[1]
    assert len([name for name in left[1] if name.startswith("panels/")]) == 8
    assert {path.name for path in two.root.iterdir()} == {"Shapes", "MakeCam", "locks"}
