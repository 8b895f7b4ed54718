import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient

from analysis.read.mlflow import load

# MLflow 3.17 still uses what SQLAlchemy 2.1 calls deprecated.
pytestmark = pytest.mark.filterwarnings(
    "ignore:The ``noload`` loader strategy is deprecated:sqlalchemy.exc.SADeprecationWarning"
)

Record = Callable[..., str]


@pytest.fixture(scope="module")
def trials(record: Record, tracking: str) -> pd.DataFrame:
    record("load", "lambda=2", order=1, seed=1, metrics={"cam/miou": 0.5, "cam/iou/cat": 0.25})
    failed = {
        "occse.failed": "seg",
        "occse.error": "loss is nan\nstep 3",
        "occse.pixel_truth": "cam.threshold on train",
    }
    record(
        "load", "lambda=2", order=1, seed=0, status="FAILED", metrics={"cam/miou": 0.4}, tags=failed
    )
    record(
        "load", "oc", order=0, status="RUNNING", fields=("cam",), tags={"occse.baseline": "true"}
    )
    return load("load", tracking=tracking)


def test_frame_has_one_row_per_trial_in_order_of_the_spec_and_no_row_of_the_sweep(
    trials: pd.DataFrame,
) -> None:
    found = trials[["variant", "order", "seed", "baseline", "status"]].values.tolist()
    assert found == [
        ["oc", 0, 0, True, "RUNNING"],
        ["lambda=2", 1, 0, False, "FAILED"],
        ["lambda=2", 1, 1, False, "FINISHED"],
    ]
    assert set(trials["experiment"]) == {"load"}


def test_metrics_are_fractions_and_missing_ones_are_missing(trials: pd.DataFrame) -> None:
    assert trials["cam/miou"].tolist()[1:] == [0.4, 0.5]
    assert trials["cam/iou/cat"].isna().tolist() == [True, True, False]
    assert pd.isna(trials["cam/miou"][0])


def test_planned_fields_come_from_the_params(trials: pd.DataFrame) -> None:
    assert trials["planned"].tolist() == [("cam",), *[("cam", "crf", "pseudo", "seg")] * 2]
    assert trials["param.cam.seed"].tolist() == ["0", "0", "1"]
    assert trials["param.seg.seed"].isna().tolist() == [True, False, False]


def test_failure_and_pixel_truth_are_carried(trials: pd.DataFrame) -> None:
    assert trials["failed"].tolist() == ["", "seg", ""]
    assert trials["error"][1] == "loss is nan\nstep 3"
    assert trials["pixel_truth"][1] == "cam.threshold on train"


def test_seeds_seconds_and_fingerprints_of_every_stage_are_columns(
    record: Record, tracking: str
) -> None:
    tags = {
        "occse.seeds": '{"cgnet": 3}',
        "occse.seconds": '{"cam": 1.5}',
        "occse.seconds.spent": "9.5",
    }
    record("by field", "oc", order=0, fields=("cam",), tags=tags)
    record("by field", "cse", order=1, fields=("cam",))
    trials = load("by field", tracking=tracking)
    assert trials["fingerprint.cam"].tolist() == ["cam of oc 0", "cam of cse 0"]
    assert (trials["seed.cgnet"][0], trials["seconds.cam"][0], trials["spent_s"][0]) == (
        3,
        1.5,
        9.5,
    )
    assert trials.loc[1, ["seed.cgnet", "seconds.cam", "spent_s", "saved_s"]].isna().all()


def test_a_tag_by_field_that_is_no_json_of_numbers_is_an_error_naming_it(
    record: Record, tracking: str
) -> None:
    run = record("by field, damaged", "oc", tags={"occse.seconds": '{"cam": "long"}'})
    with pytest.raises(
        ValueError, match=f"run {run}: tag occse.seconds is .*long.*, expected numbers by field"
    ):
        load("by field, damaged", tracking=tracking)


def test_tracking_comes_from_the_environment(
    trials: pd.DataFrame, tracking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking)
    assert len(load("load")) == len(trials)


def test_unknown_experiment_lists_the_experiments_there_are(
    trials: pd.DataFrame, tracking: str
) -> None:
    with pytest.raises(
        ValueError, match=r"no experiment 'laod' in sqlite.*; there are: .*load, .*other"
    ):
        load("laod", tracking=tracking)


def test_deleted_experiment_is_unknown(record: Record, tracking: str) -> None:
    record("deleted", "oc")
    client = MlflowClient(tracking)
    found = client.get_experiment_by_name("deleted")
    assert found is not None
    client.delete_experiment(found.experiment_id)
    with pytest.raises(ValueError, match="no experiment 'deleted'"):
        load("deleted", tracking=tracking)


def test_experiment_without_trials_is_an_error(tracking: str) -> None:
    with pytest.raises(ValueError, match=r"experiment 'other' .* has no trials"):
        load("other", tracking=tracking)


def test_tag_that_is_no_integer_is_an_error_naming_run_and_tag(
    record: Record, tracking: str
) -> None:
    run = record("tags", "oc", tags={"occse.order": "first"})
    with pytest.raises(
        ValueError, match=f"run {run}: tag occse.order is 'first', expected an integer"
    ):
        load("tags", tracking=tracking)


def test_missing_tag_is_an_error_naming_run_and_tag(record: Record, tracking: str) -> None:
    run = record("untagged", "oc")
    MlflowClient(tracking).delete_tag(run, "occse.variant")
    with pytest.raises(ValueError, match=f"run {run} .* has no tag occse.variant"):
        load("untagged", tracking=tracking)


def test_missing_database_is_an_error_and_is_not_created(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(ValueError, match=r"there is no database runs/mlflow.db"):
        load("quickstart")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ["empty", "text", "foreign"])
def test_file_that_is_no_mlflow_database_is_an_error_and_is_left_alone(
    tmp_path: Path, content: str
) -> None:
    path = tmp_path / "a #1.db"
    if content == "foreign":
        database = sqlite3.connect(path)
        database.execute("CREATE TABLE numbers (number)")
        database.commit()
        database.close()
    else:
        path.write_text("" if content == "empty" else "no database at all " * 100)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"a #1.db is not a database of MLflow"):
        load("quickstart", tracking=f"sqlite:///{path}")
    assert path.read_bytes() == before


def test_reading_leaves_the_database_alone(
    trials: pd.DataFrame, database: Path, tracking: str
) -> None:
    before, siblings = database.read_bytes(), sorted(database.parent.iterdir())
    load("load", tracking=tracking)
    assert database.read_bytes() == before
    assert sorted(database.parent.iterdir()) == siblings


@pytest.fixture
def silent_server() -> Iterator[str]:
    """A server that accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_server_that_does_not_answer_is_an_error_within_seconds(
    silent_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    start = time.monotonic()
    with pytest.raises(ConnectionError, match=f"cannot read experiments from {silent_server}"):
        load("quickstart", tracking=silent_server)
    assert time.monotonic() - start < 15


def test_server_that_is_not_there_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        uri = f"http://127.0.0.1:{server.getsockname()[1]}"
    with pytest.raises(ConnectionError, match=f"cannot read experiments from {uri}"):
        load("quickstart", tracking=uri)
