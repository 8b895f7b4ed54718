"""Names and requests that MLflow refuses: no record is lost, and no refusal is an outage."""

import csv
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from mlflow import MlflowClient
from mlflow.utils.validation import _validate_metric_name, _validate_tag
from PIL import Image
from probe_stages import Probe, make_trial

from occse.stage import Machine
from sweeps.cluster.messages import News
from sweeps.driver.recorder import Recorder
from sweeps.spec.model import Spec
from sweeps.spec.trials import Trial, load_spec, trials
from sweeps.store.store import Store
from sweeps.tracking.keys import name_tags, safe_key
from sweeps.tracking.live import LiveMetrics
from sweeps.tracking.query import RecordRefusedError
from sweeps.tracking.tags import Record
from sweeps.tracking.writer import Tracking

pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")
CLASSES = ["Hund (groß)", "C++", "=1+1", "a/b"]
NAMES = [
    *CLASSES,
    *("..", ".", "/", "//", "a//b", "x/", "/x", " ", "", "\n", "a\n", "\0", "\x1b[2J", "a|b"),
    *(
        "日本",
        "é",
        "a" * 400,
        "ü" * 300,
        "a/../b",
        "..a",
        "%28",
        "#",
        "a\\b",
        '"',
        "'",
        "<b>",
        "🐕",
    ),
]
SIDE = 32


def folder_of_images(root: Path) -> None:
    """A data set of a user, whose classes have names that MLflow refuses."""
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    (root / "classes.txt").write_text("\n".join(CLASSES) + "\n", encoding="utf-8")
    random = np.random.default_rng(0)
    rows = [("image", "split", "labels")]
    for number in range(12):
        label = number % len(CLASSES)
        image = random.integers(0, 60, (SIDE, SIDE, 3), dtype=np.uint8)
        mask = np.zeros((SIDE, SIDE), np.uint8)
        mask[8:24, 8:24] = label + 1
        image[8:24, 8:24, label % 3] = 200
        Image.fromarray(image).save(root / "images" / f"{number}.png")
        Image.fromarray(mask).save(root / "masks" / f"{number}.png")
        rows.append((f"{number}.png", "train" if number < 8 else "val", CLASSES[label]))
    with (root / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


@pytest.mark.parametrize("name", NAMES)
def test_key_of_any_name_is_accepted_by_mlflow_and_its_tag_has_the_original(name: str) -> None:
    key = safe_key(f"cam/iou/{name}")
    _validate_metric_name(key)
    assert len(key) <= 250
    tags = name_tags([f"cam/iou/{name}"])
    for tag, original in tags.items():
        _validate_tag(tag, original)
    assert tags.get(f"occse.name.{key.removeprefix('cam/iou/')}", name) == name


def test_keys_of_different_names_are_different() -> None:
    assert len({safe_key(f"cam/iou/{name}") for name in NAMES}) == len(NAMES)


def test_sweep_of_classes_that_mlflow_refuses_is_recorded_and_shown_by_their_names(
    uri: str, tmp_path: Path
) -> None:
    folder_of_images(tmp_path / "data")
    path = tmp_path / "sweep.yaml"
    values = {
        "name": "refused-names",
        "question": "Are they shown?",
        "profile": "embedded",
        "data_root": str(tmp_path / "data"),
        "base": {"data.kind": "folder", "*.init": "random", "oc.epochs": 1},
        "baseline": {"cam.source": "oc"},
        "targets": ["cam"],
    }
    path.write_text(yaml.safe_dump(values))
    spec = load_spec(path)
    (trial,) = trials(spec)
    store = Store(tmp_path / "store")
    manifests = {
        field: store.execute(node, machine=Machine(data_root=tmp_path / "data"))
        for field, node in trial.nodes.items()
    }
    tracking = Tracking(uri, spec=spec)
    tracking.open([trial])
    tracking.log(Record(trial=trial, manifests=manifests), store=store)
    tracking.close(failed=False)
    metrics = [f"cam/iou/{name}" for name in CLASSES]
    command = [sys.executable, "-m", "analysis", "export", spec.name, "--tracking", uri]
    exported = tmp_path / "runs.parquet"
    subprocess.run([*command, "--out", str(exported)], check=True)
    from analysis.read.mlflow import load

    (row,) = load(str(exported)).to_dict("records")
    assert {name: row[name] for name in metrics} == {
        name: pytest.approx(manifests["cam"].metrics[name.removeprefix("cam/")]) for name in metrics
    }


def trial_of(order: int) -> Trial:
    return make_trial(order, data=Probe(label=f"refused {order}"))


def test_record_of_a_run_that_was_deleted_is_told_as_a_refusal_and_costs_no_other(
    uri: str, tmp_path: Path
) -> None:
    spec = Spec(name="refused", question="Is it told?", baseline={})
    store, lines = Store(tmp_path), list[str]()
    both = [trial_of(0), trial_of(1)]
    for trial in both:
        store.execute(trial.nodes["data"])
    tracking = Tracking(uri, spec=spec)
    tracking.open(both)
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(spec.name)
    assert experiment is not None
    runs = client.search_runs(
        [experiment.experiment_id], f"tags.`occse.trial` = '{both[0].identity}'"
    )
    client.delete_run(runs[0].info.run_id)
    with pytest.raises(RecordRefusedError, match=r"refuses the record.*not an outage"):
        tracking.log(Record(trial=both[0], manifests={}), store=store)
    recorder = Recorder(store=store, live=LiveMetrics(store), tracking=tracking, say=lines.append)
    recorder.expect(both)
    recorder.hear(News(pid=0))
    for trial in both:
        recorder.end(trial, {}, None)
    summary = recorder.close()
    assert list(summary.refused) == [both[0].name]
    assert (summary.unrecorded, summary.well) == (0, False)
    assert f"NOT RECORDED {both[0].name}: MLflow at {uri} refuses" in summary.describe()
    assert len([line for line in lines if "cannot be recorded" in line]) == 1
    statuses = {
        run.data.tags["occse.kind"]: run.info.status
        for run in client.search_runs([experiment.experiment_id])
    }
    assert statuses == {"sweep": "KILLED", "trial": "FINISHED"}
    # the same command makes the run again
    again = Tracking(uri, spec=spec)
    again.open(both)
    again.log(
        Record(trial=both[0], manifests={"data": store.execute(both[0].nodes["data"])}), store=store
    )
    assert replace(summary, refused={}).well
