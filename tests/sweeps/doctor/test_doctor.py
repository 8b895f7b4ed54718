"""What the doctor says of a healthy machine, and of each thing that can be wrong with one."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sweeps.__main__ import main
from sweeps.doctor.facts import Facts, Question
from sweeps.doctor.report import ask_here, judge, token_in
from sweeps.store.backends import FolderFiles

pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Facts:
    store = tmp_path_factory.mktemp("runs") / "store"
    store.mkdir()
    with token_in(FolderFiles(store)) as token:
        return ask_here(question(store, token))


def question(store: Path, token: str, **values: Any) -> Question:
    nothing = {"data": None, "data_root": None, "weights": None, "digests": []}
    return Question(
        store=str(store), token=token, tracking="sqlite:///mlflow.db", **nothing | values
    )


def errors(driver: Facts, machine: Facts) -> list[str]:
    return [finding.what for finding in judge(driver, [machine]) if finding.level == "error"]


def test_this_machine_is_healthy(healthy: Facts) -> None:
    assert errors(healthy, healthy) == []
    first = judge(healthy, [healthy])[0]
    assert first.level == "ok"
    assert "store writable" in first.what


def test_a_store_that_is_another_folder_elsewhere_is_an_error(
    healthy: Facts, tmp_path: Path
) -> None:
    elsewhere = ask_here(question(tmp_path, ".doctor.not-there"))
    (error,) = errors(healthy, elsewhere)
    assert "not the store that the driver sees" in error


def test_other_code_and_another_python_are_errors_and_another_torch_a_warning(
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


def test_a_gpu_that_torch_cannot_use_is_an_error(healthy: Facts) -> None:
    machine = healthy | {"num_gpus": 2.0, "gpus": ["GPU"], "cuda": "RuntimeError: driver too old"}
    (error,) = errors(healthy, machine)
    assert "2 GPUs" in error
    assert "driver too old" in error


def test_a_clock_that_is_off_is_noticed_in_either_direction(healthy: Facts) -> None:
    now = time.time()
    for off, side in ((-60, "behind"), (60, "ahead of")):
        machine = healthy | {"asked": now, "answered": now + 1, "time": now + off}
        assert any(
            f"clock is {60 if off < 0 else 59} s {side}" in finding.what
            for finding in judge(healthy, [machine])
        )


def test_data_of_another_content_and_missing_weights_are_errors(
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


def test_a_tracking_server_that_does_not_answer_is_an_error(
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
    assert "1 machines, 1 errors" in out


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


def test_every_node_of_a_cluster_looks_for_itself(
    two_nodes: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["doctor", "--store", str(tmp_path / "runs" / "store"), "--address", two_nodes]
    code = main([*command, "--tracking", f"sqlite:///{tmp_path}/mlflow.db"])
    out = capsys.readouterr().out
    assert out.count("store writable") == 2
    assert "Ray grants 1 GPUs, but torch cannot use them" in out  # a GPU that only Ray believes in
    assert code == 1
