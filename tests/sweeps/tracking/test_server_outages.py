"""A tracking server that goes away in the middle of a sweep: nothing of the record is lost, and
nothing comes twice.
"""

import subprocess
import sys
import threading
from collections import Counter
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from mlflow import MlflowClient
from probe_stages import CURVE, Link, executions, make_trial
from served import free_port, losing, server
from sweeping import database, sweep_probes, trial_runs
from waiting import wait_until

from sweeps.driver import recorder
from sweeps.driver.recorder import Summary
from sweeps.spec.model import Spec
from sweeps.store.store import Store
from sweeps.tracking.tags import curve, milliseconds
from sweeps.tracking.writer import Tracking

pytestmark = [
    pytest.mark.usefixtures("cluster"),
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning"),
]
SPEC = Spec(name="probe", question="Is all of it recorded, once?", baseline={})
PATIENCE_S = 240.0
AWAY, BACK = "away", "back"
TRIALS = [
    make_trial(
        order,
        data=Link(label="data"),
        cam=Link(label=f"cam {order}", upstream=("data",), waits=("", AWAY, BACK, "")[order]),
    )
    for order in range(4)
]


def sweep(root: Path, uri: str, lines: list[str]) -> Summary:
    return sweep_probes(SPEC, TRIALS, root, uri=uri, say=lines.append)


def open_gates(root: Path, *names: str) -> None:
    (root / "store").mkdir(exist_ok=True)
    for name in names:
        (root / "store" / name).touch()


def table(root: Path) -> str:
    command = (
        sys.executable,
        "-m",
        "analysis",
        "table",
        SPEC.name,
        "--format",
        "csv",
        "--tracking",
        database(root),
    )
    return subprocess.run(command, capture_output=True, check=True, text=True).stdout


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The table when no server is missed."""
    root = tmp_path_factory.mktemp("expected")
    open_gates(root, AWAY, BACK)
    assert sweep(root, database(root), []).well
    return table(root)


def check(root: Path, expected: str) -> None:
    """One run for the sweep and for each trial, all ended, every point of a curve once, and the
    same table.
    """
    client = MlflowClient(database(root))
    runs = client.search_runs([client.get_experiment_by_name(SPEC.name).experiment_id])
    kinds = Counter((run.data.tags["occse.kind"], run.info.status) for run in runs)
    assert kinds == {("sweep", "FINISHED"): 1, ("trial", "FINISHED"): len(TRIALS)}
    assert len({run.data.tags.get("occse.trial") for run in runs}) == len(TRIALS) + 1
    for run in runs:
        if run.data.tags["occse.kind"] == "trial":
            curve = client.get_metric_history(run.info.run_id, "cam/loss")
            assert sorted((point.step, point.value) for point in curve) == [(1, 2.0), (2, 1.0)]
    assert table(root) == expected
    assert sorted(executions(root / "store")) == [
        *(f"cam {order} 0" for order in range(4)),
        "data 0",
    ]


def leave_and_return(
    root: Path, lines: list[str], *, stack: ExitStack, port: int, returns: bool
) -> None:
    """End the server once a trial is recorded, let another end and one start without it, and let
    the server return, or not.
    """
    try:
        # two at a time: the first has ended
        wait_until(lambda: {"cam 1 0", "cam 2 0"} <= set(executions(root / "store")))
        stack.close()
        open_gates(root, AWAY)
        # the last one starts where the second one was, and nobody can be told
        wait_until(lambda: "cam 3 0" in executions(root / "store"))
        wait_until(lambda: any("the sweep goes on" in line for line in lines))
        if returns:
            stack.enter_context(server(database(root), port=port))
            wait_until(lambda: is_recorded(root, "variant 1"))  # while the sweep goes on
    finally:
        open_gates(root, AWAY, BACK)  # or the sweep would wait for ever


def is_recorded(root: Path, variant: str) -> bool:
    """Tell whether a run of a trial has ended; for a moment a trial that starts has two runs."""
    return any(
        run.data.tags["occse.variant"] == variant and run.info.status == "FINISHED"
        for run in trial_runs(root, SPEC.name)
    )


@pytest.mark.parametrize("returns", [True, False])
def test_record_that_a_server_missed_is_logged_later_once(
    tmp_path: Path, expected: str, returns: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "PAUSE_S", 1.0)
    lines: list[str] = []
    port = free_port()
    with ExitStack() as stack:
        uri = stack.enter_context(server(database(tmp_path), port=port))
        options = {"stack": stack, "port": port, "returns": returns}
        away = threading.Thread(target=leave_and_return, args=(tmp_path, lines), kwargs=options)
        away.start()
        summary = sweep(tmp_path, uri, lines)
        away.join()
        assert not summary.failed
        assert (summary.run, summary.well, summary.unrecorded > 0) == (5, returns, not returns)
        if not returns:
            stack.enter_context(server(database(tmp_path), port=port))
            again = sweep(tmp_path, uri, lines)
            assert (again.well, again.run, again.reused) == (True, 0, 5)
    check(tmp_path, expected)
    if returns:
        check_times(tmp_path)


def check_times(root: Path) -> None:
    """Every run starts before the last stage of its trial, and lasts at least as long as that."""
    store = Store(root / "store")
    for run in trial_runs(root, SPEC.name):
        trial = TRIALS[int(run.data.tags["occse.order"])]
        manifest = store.manifest(trial.nodes["cam"])
        assert manifest is not None
        # a manifest is dated to the second, at the end of the stage
        stage_ms = milliseconds(manifest) + 1000 - 1000 * manifest.seconds
        assert run.info.start_time <= stage_ms
        assert run.info.end_time - run.info.start_time >= 1000 * manifest.seconds


def test_answers_that_are_lost_make_no_second_record(tmp_path: Path, expected: str) -> None:
    """MLflow sends a request again when no answer comes, whether or not the server did what it
    asked for.
    """
    open_gates(tmp_path, AWAY, BACK)
    lost = ["runs/create", "runs/create", "runs/log-batch", "runs/log-batch"]
    with server(database(tmp_path)) as direct, losing(direct, lost) as uri:
        for _ in range(2):
            with suppress(ConnectionError):
                Tracking(uri, spec=SPEC).open(TRIALS)
        assert not lost
        live = Tracking(uri, spec=SPEC)
        live.open(TRIALS)
        lost += ["runs/log-batch", "runs/log-batch"]
        for at in (1, 2):
            with suppress(ConnectionError):
                live.append(TRIALS[0], curve("cam", CURVE[0], at=at))
        assert not lost
        assert sweep(tmp_path, direct, []).well
    check(tmp_path, expected)
