"""A detached sweep outlives its terminal, and is seen and ended by its name."""

import os
import sys
from pathlib import Path

import pytest
import yaml
from processes import Terminal
from small import SMALL
from waiting import wait_until

from sweeps.__main__ import main
from sweeps.driver.detached import EARLIER_LOGS, keep_earlier, log_path, start
from sweeps.progress.status import read_status, running
from sweeps.store.store import Store

SWEEP = {
    "name": "away",
    "question": "Does it go on?",
    "profile": "embedded",
    "base": SMALL | {"oc.epochs": 3000},
    "baseline": {},
    "targets": ["oc"],
    "resources": {"*": {"num_cpus": 1}},
}


DETACH = [sys.executable, "-m", "sweeps", "run", "away.yaml", "--num-cpus", "1", "--detach"]


def test_detached_sweep_outlives_its_terminal_and_is_stopped_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(*arguments: str, code: int = 0) -> str:
        assert main(arguments) == code
        return "".join(capsys.readouterr())

    monkeypatch.chdir(tmp_path)
    (tmp_path / "away.yaml").write_text(yaml.safe_dump(SWEEP))
    with Terminal(DETACH, folder=tmp_path) as terminal:
        assert terminal.end() == 0, terminal.printed
    assert "away goes on without this terminal" in terminal.printed
    store = Store(tmp_path / "runs" / "store")
    (status,) = read_status(store)
    assert running(store, status.key) == status
    # The session of the terminal is another one, and its end reached nobody.
    assert os.getsid(status.pid) == status.pid
    runs_already = f"away runs already, as process {status.pid}"
    assert runs_already in told("run", "away.yaml", "--detach", code=2)
    scratch = store.root / "scratch"
    wait_until(lambda: list(scratch.glob("*/.lock")) and list(store.root.glob("Pretrain/*")))
    assert "running" in told("status", "away")
    assert "1 trial" in told("logs", "away")
    assert "away has ended" in told("stop", "away")
    assert [status.state for status in read_status(store)] == ["stopped"]
    assert "to go on: " in told("logs", "away", "--follow")
    nothing_runs = f"expected the name of a sweep that runs on {store.url} (none), got away"
    assert nothing_runs in told("stop", "away", code=2)
    assert "there are logs of: away" in told("logs", "home", code=2)


def test_log_of_an_earlier_start_is_kept_with_a_number_and_old_ones_go(tmp_path: Path) -> None:
    store = Store(tmp_path)
    key = "again"
    log = log_path(store, key)
    log.parent.mkdir()
    for number in range(EARLIER_LOGS + 2):
        log.write_text(f"start {number}")
        keep_earlier(log)
    # as the first start, which may go on writing while a second one is made and refused
    with log.open("wb") as first:
        code = start(["schema"], store=store, name=key, tracking="", uri="sqlite:///mlflow.db")
        first.write(b"the first goes on")
    assert code == 0
    assert '"seeds"' in log.read_text()
    kept = [Path(f"{log}.{number}").read_text() for number in range(1, EARLIER_LOGS + 1)]
    assert kept[0] == "the first goes on"
    assert kept[1:] == [f"start {EARLIER_LOGS + 1 - back}" for back in range(EARLIER_LOGS - 1)]
    assert len(list(log.parent.iterdir())) == 1 + EARLIER_LOGS
