"""Report of the doctor on a healthy machine, and on each fault that a machine can have."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sweeps.__main__ import main
from sweeps.doctor.facts import Facts, Question, try_folder
from sweeps.doctor.report import ask_here, judge, question_for, token_in
from sweeps.store.backends import FolderFiles
from sweeps.store.store import Store

pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Facts:
    store = tmp_path_factory.mktemp("runs") / "store"
    store.mkdir()
    with token_in(FolderFiles(store)) as token:
        return ask_here(question(store, token))


def question(store: Path | str, token: str, **values: Any) -> Question:
    nothing = {"data": None, "data_root": None, "weights": None, "digests": []}
    return Question(
        store=str(store), token=token, tracking="sqlite:///mlflow.db", **nothing | values
    )


def errors(driver: Facts, machine: Facts) -> list[str]:
    return [finding.what for finding in judge(driver, [machine]) if finding.level == "error"]


def test_doctor_finds_this_machine_healthy(healthy: Facts) -> None:
    assert errors(healthy, healthy) == []
    first = judge(healthy, [healthy])[0]
    assert first.level == "ok"
    assert "store writable" in first.what


def test_doctor_tells_a_store_that_is_another_folder_elsewhere(
    healthy: Facts, tmp_path: Path
) -> None:
    elsewhere = ask_here(question(tmp_path, ".doctor.not-there"))
    (error,) = errors(healthy, elsewhere)
    assert "not the store that the driver sees" in error


def test_doctor_tells_other_code_and_versions(
    healthy: Facts,
) -> None:
    assert "other code" in errors(healthy, healthy | {"code": "0000"})[0]
    versions = healthy["versions"] | {"python": "3.9.1"}
    assert "python 3.9.1" in errors(healthy, healthy | {"versions": versions})[0]
    machine = healthy | {"versions": healthy["versions"] | {"torch": "0.4"}}
    findings = [
        finding
        for finding in judge(healthy, [machine])
        if "torch 0.4, the driver has" in finding.what
    ]
    assert [finding.level for finding in findings] == ["warning"]


def test_doctor_tells_a_gpu_that_torch_cannot_use(healthy: Facts) -> None:
    machine = healthy | {"num_gpus": 2.0, "gpus": ["GPU"], "cuda": "RuntimeError: driver too old"}
    (error,) = errors(healthy, machine)
    assert "2 GPUs" in error
    assert "driver too old" in error


def test_doctor_tells_a_clock_that_is_off_in_either_direction(healthy: Facts) -> None:
    now = time.time()
    for off, side in ((-60, "behind"), (60, "ahead of")):
        machine = healthy | {"asked": now, "answered": now + 1, "time": now + off}
        seconds = 60 if off < 0 else 59
        whats = [finding.what for finding in judge(healthy, [machine])]
        assert any(f"clock is {seconds} s {side}" in what for what in whats)


@pytest.mark.parametrize(
    ("facts", "level", "what"),
    [
        ({"rename": "Operation not permitted"}, "error", "cannot rename a folder: Operation not"),
        ({"exclusive": False}, "error", "lets two processes create the same file"),
        ({"links": False}, "warning", "has no hard links"),
        ({"clock": -90.0}, "warning", "the store's clock is 90 s behind this machine's"),
        ({"clock": 90.0}, "warning", "the store's clock is 90 s ahead of this machine's"),
        ({"free": 1 << 30}, "warning", "1.0 GB free for the store"),
        ({"shared": True}, "warning", "others may write to the store"),
    ],
)
def test_doctor_tells_what_the_store_cannot_do(
    healthy: Facts, facts: Facts, level: str, what: str
) -> None:
    known = judge(healthy, [healthy])
    findings = judge(healthy, [healthy | {"store": healthy["store"] | facts}])
    (finding,) = [each for each in findings if each.what not in {each.what for each in known}]
    assert finding.level == level
    assert what in finding.what
    assert finding.advice


def test_doctor_tries_a_folder_and_leaves_nothing_there(tmp_path: Path) -> None:
    assert try_folder(tmp_path) == {
        "rename": "",
        "links": True,
        "exclusive": True,
        "clock": pytest.approx(0.0, abs=2.0),
        "shared": False,
    }
    assert not list(tmp_path.iterdir())


def test_doctor_tells_a_folder_that_others_share_and_this_user_closes(tmp_path: Path) -> None:
    tmp_path.chmod(0o2775)
    before = os.umask(0o022)
    try:
        assert try_folder(tmp_path)["shared"]
        os.umask(0o002)
        assert not try_folder(tmp_path)["shared"]
    finally:
        os.umask(before)


def test_doctor_tries_an_object_store(
    s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OCCSE_CACHE", str(tmp_path))
    store = Store(f"{s3}/{tmp_path.name}")
    with token_in(store.files) as token:
        facts = ask_here(question(store.url, token))["store"]
    assert facts["exclusive"]
    assert abs(facts["clock"]) < 5
    assert not list(store.files.find())


def test_doctor_asks_a_node_only_for_what_it_needs() -> None:
    asked = question("store", "token", data={"kind": "voc"}, digests=["0" * 64])
    assert asked.tracking
    worker = question_for(asked, {"CPU": 8.0, "GPU": 1.0})
    assert (worker.tracking, worker.data, worker.digests) == ("", {"kind": "voc"}, ["0" * 64])
    head = question_for(asked, {"memory": 1e9})
    assert (head.tracking, head.data, head.digests) == ("", None, ())


def test_doctor_tells_data_of_another_content_and_missing_weights(
    tmp_path: Path, healthy: Facts
) -> None:
    (tmp_path / "token").touch()
    weights = tmp_path / "weights"
    weights.mkdir()
    found = ask_here(
        question(
            tmp_path,
            "token",
            data={"kind": "folder"},
            data_root=str(tmp_path / "nowhere"),
            weights=str(weights),
            digests=["0" * 64],
        )
    )
    data, missing = errors(healthy, found)
    assert "nowhere" in data
    assert "no file in" in missing


def test_doctor_tells_a_tracking_server_that_does_not_answer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [
        "doctor",
        "--store",
        str(tmp_path / "runs" / "store"),
        "--tracking",
        "http://127.0.0.1:1",
    ]
    assert main(command) == 1
    out = capsys.readouterr().out
    assert "tracking: API request" in out
    assert "-> start the server" in out
    assert "1 machine, 1 error" in out


@pytest.fixture
def two_nodes() -> Iterator[str]:
    """A real cluster of two nodes on this machine; the address of its head."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
    )
    cluster.add_node(num_cpus=1, num_gpus=1)
    yield cluster.address
    cluster.shutdown()


def test_doctor_has_every_node_of_a_cluster_look_for_itself(
    two_nodes: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["doctor", "--store", str(tmp_path / "runs" / "store"), "--address", two_nodes]
    code = main([*command, "--tracking", f"sqlite:///{tmp_path}/mlflow.db"])
    out = capsys.readouterr().out
    assert out.count("store writable") == 2
    assert "Ray grants 1 GPUs, but torch cannot use them" in out  # a GPU that only Ray believes in
    assert code == 1
