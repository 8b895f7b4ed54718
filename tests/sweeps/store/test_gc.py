"""Survey and clean-up of a store, on a folder and on an object store, with a real MLflow."""

import os
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient
from probe_stages import Probe, make_trial

from occse.pipeline import Node
from sweeps.__main__ import main
from sweeps.store.gc import DAY_S, remove, survey, unneeded
from sweeps.store.leases import Lease, Leases
from sweeps.store.store import Store

pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")  # of MLflow
LATER = time.time() + 30 * DAY_S


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("OCCSE_CACHE", str(tmp_path / "cache"))
    if request.param == "folder":
        return Store(tmp_path / "store")
    return Store(f"{request.getfixturevalue('s3')}/{tmp_path.name}/store")


@pytest.fixture
def nodes(store: Store) -> dict[str, Node]:
    """Three artifacts in the store: `data`, `oc` made from it, and `cam`, which stands alone."""
    probes = {
        "data": Probe(label="data"),
        "oc": Probe(label="oc", upstream=("data",)),
        "cam": Probe(label="cam"),
    }
    found = make_trial(0, **probes).nodes
    for node in found.values():
        store.execute(node)
    store.files.remove("executions.txt")
    return dict(found)


@pytest.fixture
def uri(tmp_path: Path) -> str:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    MlflowClient(uri).create_experiment("a sweep")
    return uri


def refer(uri: str, node: Node) -> str:
    tags = {f"occse.fingerprint.{node.field}": node.fingerprint}
    run = MlflowClient(uri).create_run(
        MlflowClient(uri).get_experiment_by_name("a sweep").experiment_id, tags=tags
    )
    run_id: str = run.info.run_id
    return run_id


def gone(
    store: Store, *, referenced: set[str], keep_s: float = 0.0, now: float = LATER
) -> set[str]:
    return {
        item.name
        for item in unneeded(store, survey(store), referenced=referenced, keep_s=keep_s, now=now)
    }


def at(node: Node) -> str:
    return f"Probe/{node.fingerprint}"


def test_gc_keeps_what_runs_refer_to_with_all_that_it_was_made_from(
    store: Store, nodes: dict[str, Node]
) -> None:
    assert gone(store, referenced={nodes["oc"].fingerprint}) == {at(nodes["cam"])}
    assert gone(store, referenced=set()) == {at(node) for node in nodes.values()}


def test_gc_keeps_what_is_young(store: Store, nodes: dict[str, Node]) -> None:
    assert gone(store, referenced=set(), keep_s=60 * DAY_S) == set()
    assert gone(store, referenced=set(), keep_s=DAY_S, now=time.time()) == set()


def test_gc_keeps_what_a_running_stage_needs(store: Store, nodes: dict[str, Node]) -> None:
    fingerprint = nodes["oc"].fingerprint
    for name in (
        f"scratch/{fingerprint}/checkpoint.pt",
        f"Probe/.{fingerprint}.abcd/part",
        "scratch/dead/checkpoint.pt",
    ):
        store.files.write(name, b"text")
    Leases(store.files, owner="one", clock=lambda: LATER).take(fingerprint)
    assert gone(store, referenced=set()) == {at(nodes["cam"]), "scratch/dead"}


def test_gc_removes_leftovers_after_a_day_and_an_expired_lease_at_once(
    store: Store, nodes: dict[str, Node]
) -> None:
    names = {
        "scratch/aa/step",
        "Probe/.bb.1234/part",
        "Probe/cc/part",
        ".tune-x/trial/log",
        "corrupt/Probe/dd.2026/part",
    }
    for name in names:
        store.files.write(name, b"text")
    lease = Lease(owner="dead", host="elsewhere", pid=1, since=0.0, heartbeat=time.time() - 1000)
    store.files.write("leases/ee.json", lease.model_dump_json().encode())
    referenced = {node.fingerprint for node in nodes.values()}
    assert gone(store, referenced=referenced, now=time.time() + 1) == {
        "leases/ee.json",
        "corrupt/Probe/dd.2026",
    }
    everything = {
        "leases/ee.json",
        "scratch/aa",
        "Probe/.bb.1234",
        "Probe/cc",
        ".tune-x",
        "corrupt/Probe/dd.2026",
    }
    assert gone(store, referenced=referenced) == everything


def test_gc_shows_first_and_removes_when_told(
    store: Store, nodes: dict[str, Node], uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    refer(uri, nodes["oc"])
    deleted = refer(uri, nodes["cam"])
    MlflowClient(uri).delete_run(deleted)
    command = ["store", "gc", "--store", store.url, "--tracking", uri, "--keep-days", "0"]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert f"artifact  {at(nodes['cam'])}" in out
    assert "no run refers to it" in out
    assert "refer to 1 of 3 artifacts" in out
    assert "; --delete removes them" in out
    assert all(node in store for node in nodes.values())
    assert main([*command, "--delete"]) == 0
    assert "removed 1 thing" in capsys.readouterr().out
    assert [field for field, node in nodes.items() if node in store] == ["data", "oc"]
    assert not list(store.files.find(at(nodes["cam"])))
    assert main(command) == 0
    assert "0 things, 0 B, may go\n" in capsys.readouterr().out


def test_gc_removes_nothing_on_the_word_of_another_tracking_server(
    store: Store,
    nodes: dict[str, Node],
    uri: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = ["store", "gc", "--store", store.url, "--keep-days", "0", "--delete", "--tracking"]
    assert main([*command, uri]) == 2
    assert "refers to anything in" in capsys.readouterr().err
    assert main([*command, f"sqlite:///{tmp_path}/none.db"]) == 2
    assert "there is no such file" in capsys.readouterr().err
    assert main([*command, "http://127.0.0.1:9"]) == 1
    assert "MLflow at http://127.0.0.1:9" in capsys.readouterr().err
    assert all(node in store for node in nodes.values())


def test_store_ls_lists_the_artifacts_with_their_differences(
    store: Store, nodes: dict[str, Node], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["store", "ls", "--store", store.url]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Probe: 3 artifacts"
    row = next(line for line in lines if nodes["oc"].fingerprint in line)
    assert f"data {nodes['data'].fingerprint[:6]}" in row
    assert 'label=oc, upstream=["data"]' in row
    assert row.endswith("miou 0.5")
    assert main(["store", "ls", "--store", store.url, "--kind", "Nothing"]) == 0
    assert capsys.readouterr().out == "no artifacts\n"


def test_store_du_shows_the_room_by_class(
    store: Store, nodes: dict[str, Node], capsys: pytest.CaptureFixture[str]
) -> None:
    store.files.write("scratch/aa/checkpoint.pt", b"x" * 10_000)
    assert main(["store", "du", "--store", store.url]) == 0
    head, probe, scratch, total = capsys.readouterr().out.splitlines()
    assert head.split() == ["class", "count", "size"]
    assert probe.split()[:2] == ["Probe", "3"]
    assert scratch.split() == ["(scratch)", "1", "10", "kB"]
    sizes = [entry.bytes for entry in store.files.find()]
    assert total.split()[:2] == ["total", "4"]
    assert float(total.split()[2]) == pytest.approx(sum(sizes) / 1000, rel=0.01)


def test_survey_takes_an_empty_hidden_folder_for_a_leftover(tmp_path: Path) -> None:
    folder = tmp_path / "Probe" / ".aa.1234"
    folder.mkdir(parents=True)
    os.utime(folder, (0, 0))
    assert gone(Store(tmp_path), referenced=set()) == {"Probe/.aa.1234"}


def test_gc_removes_an_upload_that_died_beside_a_finished_artifact_after_a_day(
    s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OCCSE_CACHE", str(tmp_path))
    store, node = (
        Store(f"{s3}/{tmp_path.name}"),
        make_trial(0, data=Probe(label="data")).nodes["data"],
    )
    store.execute(node)
    store.files.write(f"{at(node)}/0123456789abcdef/curves.json", b"half")
    referenced = {node.fingerprint}
    assert gone(store, referenced=referenced, now=time.time()) == set()
    assert gone(store, referenced=referenced) == {f"{at(node)}/0123456789abcdef"}
    remove(store, [item for item in survey(store) if item.what == "leftover"])
    assert store.folder(node)
    assert len(list(store.files.find(at(node)))) == len({"manifest", "files", "curves"})
