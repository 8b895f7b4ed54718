"""`python -m sweeps mlflow`: a real server, used as a sweep uses it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from browser import MISSING, browser
from mlflow import MlflowClient
from probe_stages import Probe, Scored, make_trial
from served import server
from waiting import wait_until

from sweeps.__main__ import main
from sweeps.spec.model import Spec
from sweeps.store.store import Store
from sweeps.tracking.tags import Record
from sweeps.tracking.writer import Tracking

SPEC = Spec(name="probe", question="Is it served?", baseline={})
LISTENING = "0A"
SCORES = ((0, 0.4321), (1, 0.8765))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The address of a server, and the folder of its database."""
    folder = tmp_path_factory.mktemp("served") / "runs"
    with server(f"sqlite:///{folder}/mlflow.db") as uri:
        yield uri, folder


def test_server_takes_a_trial_with_its_files(served: tuple[str, Path], tmp_path: Path) -> None:
    uri, folder = served
    store = Store(tmp_path)
    trial = make_trial(0, data=Probe(label="data"))
    record = Record(trial=trial, manifests={"data": store.execute(trial.nodes["data"])})
    for _ in range(2):
        tracking = Tracking(uri, spec=SPEC)
        tracking.open([trial])
        tracking.log(record, store=store)
        tracking.close(failed=False)
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(SPEC.name)
    (run,) = client.search_runs([experiment.experiment_id], "tags.`occse.kind` = 'trial'")
    assert (run.info.status, run.data.metrics["data/miou"]) == ("FINISHED", 0.5)
    assert "config.yaml" in {each.path for each in client.list_artifacts(run.info.run_id)}
    assert list((folder / "mlartifacts").rglob("config.yaml")), (
        "files are where a sweep without the server puts them"
    )


def test_server_answers_to_names_of_this_machine_only(served: tuple[str, Path]) -> None:
    uri, _ = served
    port = uri.rpartition(":")[2]
    url = f"{uri}/api/2.0/mlflow/experiments/search?max_results=1"
    answers = {
        host: requests.get(url, headers={"Host": host}, timeout=30).status_code
        for host in (f"127.0.0.1:{port}", f"localhost:{port}", "evil.example", f"10.0.0.1:{port}")
    }
    assert list(answers.values()) == [200, 200, 403, 403]
    sockets = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    addresses = {local for _, local, _, state, *_ in sockets if state == LISTENING}
    assert {each for each in addresses if each.endswith(f":{int(port):04X}")} == {
        f"0100007F:{int(port):04X}"
    }


def test_server_refuses_what_is_no_database(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mlflow", "--tracking", "http://127.0.0.1:5000"]) == 2
    assert "expected a database" in capsys.readouterr().err


@pytest.mark.skipif(bool(MISSING), reason=MISSING)
def test_saved_view_shows_the_scores_of_each_trial(
    served: tuple[str, Path], tmp_path: Path
) -> None:
    uri, _ = served
    store = Store(tmp_path / "store")
    spec = SPEC.model_copy(update={"name": "viewed"})
    trials = [make_trial(order, cam=Scored(label="cam", score=score)) for order, score in SCORES]
    tracking = Tracking(uri, spec=spec)
    tracking.open(trials)
    for trial in trials:
        manifests = {"cam": store.execute(trial.nodes["cam"])}
        tracking.log(Record(trial=trial, manifests=manifests), store=store)
    tracking.close(failed=False)
    experiment = MlflowClient(uri).get_experiment_by_name("viewed").experiment_id
    query = "workflowType=machine_learning&viewStateShareKey=occse-trials"
    with browser(tmp_path) as page:
        page.open(f"{uri}/#/experiments/{experiment}/runs?{query}")

        def shows(*texts: str) -> bool:
            text = page.run("return document.body.innerText")
            return all(each in text for each in texts)

        # Without the view the page has no column of scores.
        wait_until(lambda: shows("cam/miou", *(f"{score}" for _, score in SCORES)))
