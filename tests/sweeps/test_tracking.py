import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from probe_stages import Probe, make_trial

from sweeps.ledger import Ledger
from sweeps.planning import make_plan
from sweeps.schema import Spec
from sweeps.spec import Trial
from sweeps.store import Store
from sweeps.tracking import Record, Tracking

pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")
SPEC = Spec(name="probe", question="Does it track?", baseline={})
PATIENCE_S = 120.0


def trial_of(order: int) -> Trial:
    return make_trial(order, data=Probe(label="data"), cam=Probe(label=f"cam {order}", upstream=("data",)))


def record_of(store: Store, trial: Trial) -> Record:
    manifests = {field: store.execute(node) for field, node in trial.nodes.items()}
    curves = {field: store.curves(node) for field, node in trial.nodes.items()}
    return Record(trial=trial, manifests=manifests, curves=curves, reused=frozenset({"data"}))


def opened(uri: str, *trials: Trial) -> Tracking:
    tracking = Tracking(uri, spec=SPEC)
    tracking.open(trials)
    return tracking


def runs_of(uri: str, kind: str) -> list[Run]:
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(SPEC.name)
    return list(client.search_runs([experiment.experiment_id], f"tags.`occse.kind` = '{kind}'"))


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database for the whole module, as making one takes seconds; each test has its own trials."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/new/mlflow.db"


def test_a_trial_leaves_the_record_that_the_schema_promises(uri: str, tmp_path: Path) -> None:
    store, trial = Store(tmp_path), trial_of(1)
    record = record_of(store, trial)
    tracking = opened(uri, trial)
    tracking.log(record)
    tracking.close(failed=False)
    (parent,) = runs_of(uri, "sweep")
    (run,) = runs_of(uri, "trial")
    assert parent.info.status == run.info.status == "FINISHED"
    assert parent.data.tags["mlflow.note.content"] == "Does it track?"
    expected = {
        "mlflow.parentRunId": parent.info.run_id,
        "occse.trial": trial.identity,
        "occse.variant": "variant 1",
        "occse.order": "1",
        "occse.baseline": "false",
        "occse.seed": "0",
        "occse.current": "true",
        "occse.fingerprint.cam": trial.nodes["cam"].fingerprint,
        "occse.how.data": "reused",
        "occse.how.cam": "run",
        "occse.failed": "",
        "occse.error": "",
        "occse.pixel_truth": "",
        "occse.complete": trial.identity,
    }
    assert expected.items() <= run.data.tags.items()
    assert float(run.data.tags["occse.seconds.saved"]) == round(record.manifests["data"].seconds, 3)
    assert run.data.params["cam.label"] == "cam 1"
    assert run.data.params["cam.upstream"] == '["data"]'
    assert run.data.params["cam.fails"] == "false"
    assert run.data.metrics == {"data/miou": 0.5, "cam/miou": 0.5, "data/loss": 1.0, "cam/loss": 1.0}
    curve = MlflowClient(uri).get_metric_history(run.info.run_id, "cam/loss")
    assert [(point.step, point.value) for point in curve] == [(0, 2.0), (1, 1.0)]


def test_a_second_sweep_makes_no_second_run_and_no_second_point(uri: str, tmp_path: Path) -> None:
    store, trial = Store(tmp_path), trial_of(2)
    record = record_of(store, trial)
    before = len(runs_of(uri, "trial")) if MlflowClient(uri).get_experiment_by_name(SPEC.name) else 0
    opened(uri, trial).log(replace(record, failed={"seg": "no room on the disk"}))  # which is not complete
    for _ in range(2):
        opened(uri, trial).log(record)
    assert len(runs_of(uri, "trial")) == before + 1
    assert len(runs_of(uri, "sweep")) == 1
    (run,) = (run for run in runs_of(uri, "trial") if run.data.tags["occse.trial"] == trial.identity)
    assert len(MlflowClient(uri).get_metric_history(run.info.run_id, "cam/loss")) == 2
    assert len(MlflowClient(uri).get_metric_history(run.info.run_id, "cam/miou")) == 1


def test_a_failed_trial_is_mended_in_place(uri: str, tmp_path: Path) -> None:
    store, trial = Store(tmp_path), trial_of(3)
    record = record_of(store, trial)
    half = replace(record, manifests={"data": record.manifests["data"]}, failed={"cam": "x" * 10_000})
    found = []
    for each in (half, record):
        opened(uri, trial).log(each)
        found += [run for run in runs_of(uri, "trial") if run.data.tags["occse.trial"] == trial.identity]
    failed, mended = found
    assert failed.info.run_id == mended.info.run_id
    assert (failed.info.status, mended.info.status) == ("FAILED", "FINISHED")
    assert failed.data.tags["occse.failed"] == "cam"
    assert failed.data.tags["occse.error"].startswith("cam: xxx")
    assert "occse.complete" not in failed.data.tags
    assert mended.data.tags["occse.failed"] == mended.data.tags["occse.error"] == ""


def test_a_renamed_trial_is_renamed_and_a_dropped_one_is_not_current(uri: str, tmp_path: Path) -> None:
    store, kept, dropped = Store(tmp_path), trial_of(4), trial_of(5)
    tracking = opened(uri, kept, dropped)
    tracking.log(record_of(store, kept))
    tracking.log(record_of(store, dropped))
    renamed = replace(kept, variant="another name")
    opened(uri, renamed).log(record_of(store, renamed))
    tags = {run.data.tags["occse.trial"]: run.data.tags for run in runs_of(uri, "trial")}
    assert tags[kept.identity]["occse.variant"] == "another name"
    assert tags[kept.identity]["occse.current"] == "true"
    assert tags[dropped.identity]["occse.current"] == "false"
    opened(uri, renamed, dropped)
    tags = {run.data.tags["occse.trial"]: run.data.tags for run in runs_of(uri, "trial")}
    assert tags[dropped.identity]["occse.current"] == "true"


def test_a_server_that_does_not_answer_is_an_error_at_once() -> None:
    start = time.monotonic()
    uri = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(ConnectionError, match=f"MLflow at {uri}"):
        opened(uri)
    assert time.monotonic() - start < 20


def test_an_address_that_is_none_is_an_error() -> None:
    with pytest.raises(ConnectionError, match="MLflow at ftp://nowhere"):
        opened("ftp://nowhere")


def test_while_the_server_is_away_the_sweep_goes_on_and_what_is_missing_is_logged_later_once(tmp_path: Path) -> None:
    trials = [trial_of(order) for order in range(3)]
    store = Store(tmp_path / "store")
    for trial in trials:
        record_of(store, trial)
    plan = make_plan(trials, has=lambda _: False)
    database = f"sqlite:///{tmp_path}/mlflow.db"
    lines: list[str] = []
    with server(database) as uri:
        tracking = opened(uri, *trials)
        ledger = Ledger(plan, store=store, tracking=tracking, say=lines.append)
        ledger.end(trials[0], failed={})
    for trial in trials[1:]:
        ledger.end(trial, failed={})
    summary = ledger.close()
    assert summary.unrecorded == 2
    assert not summary.well
    assert "run the same command again" in summary.describe()
    assert len([line for line in lines if "the sweep goes on" in line]) == 1
    assert len(runs_of(database, "trial")) == 1

    again = Ledger(
        make_plan(trials, has=store.__contains__), store=store, tracking=opened(database, *trials), say=print
    )
    for trial in trials:
        again.end(trial, failed={})
    assert again.close().well
    assert {run.info.status for run in runs_of(database, "trial")} == {"FINISHED"}
    assert len(runs_of(database, "trial")) == 3
    assert len(runs_of(database, "sweep")) == 1


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


@contextmanager
def server(database: str) -> Iterator[str]:
    """A real MLflow server on the loopback, ended by its process group."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    process = subprocess.Popen(
        [*command, "--backend-store-uri", database],
        env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_for(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for(port: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert time.monotonic() < deadline, "the server did not start"
            time.sleep(0.2)
        else:
            return
