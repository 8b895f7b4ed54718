"""The status file, from a sweep through the store to another process."""

import io
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from test_progress import event, news, progress_of, ran, trial_of

from sweeps.__main__ import main
from sweeps.cluster.messages import ActiveStage, EventKind, Worker
from sweeps.progress.control import Wishes, forget_wishes, read_wishes, write_wishes
from sweeps.progress.screen import MOST_RUNNING, Screen, describe, render
from sweeps.progress.status import GONE_S, Status, read_status, sweep_key, write_status
from sweeps.store.store import Store


def status_of() -> Status:
    """Two trials that share data, which was there, and oc 0, whose cam runs."""
    one, two = trial_of(0), trial_of(1)
    progress, _ = progress_of(one, two, stored=1, history=ran(one, seconds=8.0), num_gpus=0.5)
    cam = one.nodes["cam"].fingerprint
    worker = Worker(pid=1, node="node")
    progress.update(
        news(
            event(one, "oc", EventKind.DONE, seconds=4.0),
            event(two, "oc", EventKind.FAILED, text="no such image"),
            running=[ActiveStage(field="cam", fingerprint=cam, worker=worker, seconds=3.0)],
        )
    )
    return progress.status()


def text_of(status: Status, *, width: int = 80) -> list[str]:
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    console.print(render(status))
    output = console.file
    assert isinstance(output, io.StringIO)
    return [" ".join(line.split()) for line in output.getvalue().splitlines()]


def test_stages_are_counted_where_they_stand_and_time_is_summed() -> None:
    status = status_of()
    (row,) = status.stages
    assert (row.fields, row.queued, row.running, row.done, row.reused, row.failed) == (
        "data, oc, cam",
        1,
        1,
        1,
        1,
        1,
    )
    assert (status.trials, status.trials_done, status.state, status.command) == (
        2,
        0,
        "running",
        "again",
    )
    assert status.spent_s == 4.0
    assert status.saved_s == 8.0 * 2, "both trials would have made the data"
    assert status.gpu_spent_s == 2.0
    assert status.gpu_saved_s == 8.0
    assert status.failed == [f"oc {trial_of(1).nodes['oc'].fingerprint[:8]}: no such image"]


def test_the_view_says_it_all_on_80_columns() -> None:
    lines = text_of(status_of())
    assert lines[:2] == ["stage queued running done reused failed", "data, oc, cam 1 1 1 1 1"]
    assert lines[2].startswith("cam ")
    assert lines[2].endswith("3.0 s variant 0 · s0")
    assert "2 of 5 stages, 0 of 2 trials; about" in lines[4]
    assert lines[5:] == [
        "stage time: 4.0 s spent, 16 s saved by sharing",
        "GPU hours: 0.00 spent, 0.00 saved",
    ]


def test_many_running_stages_are_folded() -> None:
    status = status_of()
    many = status.model_copy(update={"running": status.running * (MOST_RUNNING + 2)})
    assert "... and 2 more running stages" in text_of(many)


def test_another_process_reads_the_status_of_every_sweep(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first = status_of()
    write_status(store, first)
    write_status(store, first.model_copy(update={"name": "later", "updated": first.updated + 1}))
    (tmp_path / "status" / "broken.json").write_text("{")
    assert [status.name for status in read_status(store)] == ["later", "s"]
    assert read_status(store)[1] == first
    assert store.kinds() == [], "a status is not an artifact"


def test_a_driver_is_alive_as_long_as_it_writes_and_its_process_is_there() -> None:
    status = status_of()
    assert (status.host, status.pid) == (platform.node(), os.getpid())
    assert status.alive(status.updated + GONE_S - 1)
    assert not status.alive(status.updated + GONE_S + 1)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    dead = status.model_copy(update={"pid": ended.pid})
    assert not dead.alive(status.updated)
    assert dead.model_copy(update={"boot": "another"}).alive(status.updated), (
        "who cannot look believes the clock"
    )
    (first, second) = describe(dead, now=dead.updated + 90)
    assert "its driver is gone" in first
    assert "last seen 90 s ago" in first
    assert second == "to go on: again"


def test_the_command_prints_what_runs_or_else_the_last_sweep(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["status", "--store", str(tmp_path)]
    assert main(command) == 2
    assert "no sweep" in capsys.readouterr().err
    status = status_of()
    write_status(Store(tmp_path), status)
    write_status(Store(tmp_path), status.model_copy(update={"name": "done", "state": "ended"}))
    assert main(command) == 0
    out = capsys.readouterr().out
    assert out.startswith("s: running on")
    assert "done" not in out.splitlines()[0]
    assert main([*command, "done"]) == 0
    assert capsys.readouterr().out.startswith("done: ended ")
    assert main([*command, "other"]) == 2
    assert "no sweep other has run on" in capsys.readouterr().err


def test_without_a_terminal_lines_are_plain_and_there_is_no_view(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with Screen() as screen:
        screen.say("00:01  done [red]")
        assert not screen.live
    assert capsys.readouterr().out == "00:01  done [red]\n"


def test_on_a_terminal_lines_scroll_above_the_view_which_stays() -> None:
    console = Console(file=io.StringIO(), width=80, height=30, force_terminal=True)
    with Screen(console) as screen:
        screen.show(status_of())
        screen.say("00:01  done [red]")
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert shown.index("00:01  done [red]") < shown.rindex("of 2 trials")


HOME, WORK = "sqlite:////home/mlflow.db", "http://ml:5000"


@pytest.fixture
def namesakes(tmp_path: Path) -> Store:
    """A store with two living sweeps of one name, whose logs are there."""
    store = Store(tmp_path)
    for place in (HOME, WORK):
        status = status_of().model_copy(update={"tracking": place})
        write_status(store, status)
        store.files.write(f"logs/{status.key}.log", place.encode())
    return store


def test_two_sweeps_of_one_name_are_both_shown_and_a_command_asks_which_is_meant(
    namesakes: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--store", namesakes.url]
    assert main(["status", "s", *where]) == 0
    shown = capsys.readouterr().out
    assert f"recorded at {HOME}" in shown
    assert f"recorded at {WORK}" in shown
    assert main(["status", "s", *where, "--tracking", HOME]) == 0
    assert WORK not in capsys.readouterr().out
    for command in (
        ["stop", "s", *where],
        ["control", "s", "pause", *where],
        ["logs", "s", *where],
    ):
        assert main(command) == 2
        error = capsys.readouterr().err
        assert "s: expected the name of one sweep" in error
        assert f"--tracking {HOME}" in error
        assert f"--tracking {WORK}" in error
    password = WORK.replace("//", "//me:secret@")
    assert main(["control", "s", *where, "--tracking", password, "pause"]) == 0
    assert read_wishes(namesakes, sweep_key("s", WORK)).paused
    assert not read_wishes(namesakes, sweep_key("s", HOME)).paused
    capsys.readouterr()
    assert main(["logs", "s", *where, "--tracking", f"{HOME}?timeout=60"]) == 0
    assert capsys.readouterr().out == HOME


def test_files_of_an_earlier_version_are_read_until_there_are_new_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(tmp_path)
    old = status_of()
    written = old.model_dump_json(exclude={"tracking"}).encode()
    store.files.write("status/s.json", written)
    store.files.write("logs/s.log", b"old")
    where = ["--store", str(tmp_path), "--tracking", HOME]
    assert read_status(store) == [old]
    assert main(["control", "s", "pause", *where]) == 0
    assert store.files.read("control/s.json")
    capsys.readouterr()
    assert main(["logs", "s", *where]) == 0
    assert capsys.readouterr().out == "old"
    new = old.model_copy(update={"tracking": HOME})
    store.files.write(f"logs/{new.key}.log", b"new")
    assert main(["logs", "s", *where[:2]]) == 0
    assert capsys.readouterr().out == "new"


OTHER_DRIVER = """
import dataclasses, json, sys
from sweeps.store.process import this_process
print(json.dumps(dataclasses.asdict(this_process())), flush=True)
sys.stdin.read()
"""


def test_second_driver_of_a_paused_sweep_leaves_the_pause_as_long_as_the_first_lives(
    tmp_path: Path,
) -> None:
    store = Store(tmp_path)
    command = [sys.executable, "-c", OTHER_DRIVER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        process = json.loads(other.stdout.readline())
        process["started_ticks"] = process.pop("started")
        first = status_of().model_copy(update={"tracking": HOME, "state": "paused"} | process)
        write_status(store, first)
        write_wishes(store, first.key, Wishes(paused=True))
        forget_wishes(store, first.key)
        assert read_wishes(store, first.key).paused
    assert not first.alive(first.updated)
    forget_wishes(store, first.key)
    assert not read_wishes(store, first.key).paused
