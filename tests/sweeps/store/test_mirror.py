"""A store on a real S3 server: what is fetched, put and kept there."""

import hashlib
import json
import logging
import shutil
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from probe_stages import Probe, make_trial

from occse.artifacts.execute import MissingInput
from occse.pipeline import Node
from occse.stage import Context, Stage, fingerprint
from sweeps.store import mirror
from sweeps.store.store import Store

Machine = Callable[[str], Store]


@pytest.fixture
def machine(s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """The same store from another machine: a cache of its own, by name."""

    def open_store(name: str) -> Store:
        monkeypatch.setenv("OCCSE_CACHE", str(tmp_path / name))
        return Store(f"{s3}/{tmp_path.name}/runs/")

    return open_store


def two_nodes(*, num_steps: int = 0) -> tuple[Node, Node]:
    trial = make_trial(
        0, data=Probe(label="data"), oc=Probe(label="oc", upstream=("data",), num_steps=num_steps)
    )
    return trial.nodes["data"], trial.nodes["oc"]


def test_artifact_of_one_machine_is_found_and_fetched_by_another(
    machine: Machine,
) -> None:
    data, oc = two_nodes()
    one = machine("one")
    one.check_writable()
    assert data not in one
    made = one.execute(data)
    two = machine("two")
    assert data in two
    assert two.manifest(data) == made
    assert [*two.manifests()] == [made]
    assert not (two.root / "Probe").exists(), "nothing is fetched before it is needed"
    assert two.execute(data) == made
    two.execute(oc)
    assert {path.name for path in two.folder(data).iterdir()} == {
        "curves.json",
        "files.json",
        "manifest.json",
    }
    names = {entry.name for entry in two.files.find(f"Probe/{oc.fingerprint}")}
    assert {name.count("/") for name in names} == {2, 3}
    assert not list(two.files.find("scratch"))


def test_present_takes_one_listing_per_stage_class(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    made, cut, died, *missing = (
        make_trial(0, data=Probe(label=f"probe {n}")).nodes["data"] for n in range(30)
    )
    store = machine("one")
    for node in (made, cut):
        store.execute(node)
    store.files.write(f"Probe/{cut.fingerprint}/manifest.json", b"{")
    # an upload that died
    store.files.write(f"Probe/{died.fingerprint}/0123456789abcdef/files.json", b"{}")
    caplog.set_level(logging.INFO, logger="werkzeug")
    caplog.clear()
    assert store.present([made, cut, died, *missing]) == {made.fingerprint}
    requests = [line for line in caplog.text.splitlines() if "HTTP/1" in line]
    assert sum("list-type" in line for line in requests) == 1
    assert len(requests) <= 1 + 3, "a manifest is read only where something is"
    assert store.faults([made, cut, died]) == {}


def test_curves_are_read_without_the_other_files(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    data, _ = two_nodes()
    machine("one").execute(data)
    two = machine("two")
    assert two.curves(data) == [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}]
    assert not (two.root / "Probe").exists()
    caplog.set_level(logging.INFO, logger="werkzeug")
    caplog.clear()
    assert two.curves(data)
    assert len([line for line in caplog.text.splitlines() if "HTTP/1" in line]) == 1, (
        "whether it is there still"
    )
    assert two.path(data, "curves.json").read_bytes() == two.files.read(
        f"Probe/{data.fingerprint}/{two.peek('Probe', data.fingerprint)['files'][:16]}/curves.json"
    )


def test_input_is_fetched_once_by_the_stages_of_one_machine(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    data, _ = two_nodes()
    machine("one").execute(data)
    stores = [machine("two") for _ in range(4)]
    caplog.set_level(logging.INFO, logger="werkzeug")
    caplog.clear()
    threads = [threading.Thread(target=store.folder, args=(data,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (
        sum("GET" in line and "/curves.json HTTP" in line for line in caplog.text.splitlines()) == 1
    )


class Noisy(Stage):
    """As a training on a GPU, it never gives the same twice."""

    def run(self, ctx: Context) -> dict[str, float]:
        (ctx.output / "text").write_text(uuid.uuid4().hex)
        time.sleep(1)
        return {}


def test_artifact_of_the_first_of_two_machines_is_that_of_both(machine: Machine) -> None:
    node = Node(field="data", stage=Noisy(), inputs={}, fingerprint=fingerprint(Noisy(), {}))
    stores = [machine("one"), machine("two")]
    threads = [threading.Thread(target=store.execute, args=(node,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    text, other = (store.path(node, "text").read_text() for store in stores)
    assert text == other
    assert len(list(stores[0].files.find(f"Noisy/{node.fingerprint}"))) == len(
        {"manifest", "files", "text"}
    )


def test_damaged_artifact_on_the_store_is_set_aside_there_and_made_again(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    data, oc = two_nodes()
    one = machine("one")
    made = one.execute(data)
    harmed = f"Probe/{data.fingerprint}/{made.files[:16]}/curves.json"
    content = one.files.read(harmed)
    assert content is not None
    one.files.write(harmed, b"x" * len(content))
    two = machine("two")
    with pytest.raises(MissingInput, match=data.fingerprint):
        two.execute(oc)
    assert "curves.json has another SHA-256" in caplog.text
    assert data not in two
    (aside,) = two.files.children("corrupt/Probe")
    assert two.files.read(f"corrupt/Probe/{aside}/{made.files[:16]}/curves.json") == b"x" * len(
        content
    )
    assert two.execute(data).files == made.files
    two.execute(oc)


def test_damaged_copy_on_the_machine_is_fetched_again(machine: Machine) -> None:
    data, _ = two_nodes()
    machine("one").execute(data)
    two = machine("two")
    path = two.path(data, "curves.json")
    content = path.read_bytes()
    path.write_bytes(b"x" * len(content))
    assert two.path(data, "curves.json").read_bytes() == content
    assert data in two


def test_file_list_that_reaches_outside_is_refused(machine: Machine) -> None:
    data, _ = two_nodes()
    one = machine("one")
    made = one.execute(data)
    listing = json.dumps({"../../../outside": [1, hashlib.sha256(b"x").hexdigest()]}).encode()
    sealed = hashlib.sha256(listing).hexdigest()
    one.files.write(f"Probe/{data.fingerprint}/{sealed[:16]}/files.json", listing)
    changed = made.model_copy(update={"files": sealed}).model_dump_json()
    one.files.write(f"Probe/{data.fingerprint}/manifest.json", changed.encode())
    two = machine("two")
    with pytest.raises(ValueError, match="is not in the store"):
        two.folder(data)
    assert data not in two


def test_checkpoint_follows_the_stage_to_another_machine(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "MIRROR_S", 0.2)
    data, oc = two_nodes(num_steps=40)
    one = machine("one")
    one.execute(data)
    name = f"scratch/{oc.fingerprint}/step"
    thread = threading.Thread(target=one.execute, args=(oc,), daemon=True)
    thread.start()
    while not int(one.files.read(name) or 0):
        time.sleep(0.05)
    two = machine("two")
    two.execute(oc)
    first_steps = [
        int(line.split()[1]) for line in (two.root / "executions.txt").read_text().splitlines()
    ]
    assert first_steps[-1] > 0
    thread.join()
    assert not list(two.files.find("scratch"))


def test_cache_that_is_lost_is_made_again(machine: Machine) -> None:
    data, oc = two_nodes()
    one = machine("one")
    one.execute(data)
    shutil.rmtree(one.root)
    one.execute(oc)
    assert oc in one
