import json
import subprocess
import sys
from pathlib import Path

import pytest
from probe_stages import Probe, executions, make_trial

from occse.pipeline import Node
from sweeps.store.store import Store


def test_store_makes_an_artifact_once_and_finds_it_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    (node,) = make_trial(0, data=Probe(label="data")).nodes.values()
    assert node not in store
    assert store.manifest(node) is None
    made = store.execute(node)
    assert node in store
    assert store.manifest(node) == store.execute(node) == made
    assert executions(tmp_path) == ["data 0"]


def test_manifest_of_another_configuration_is_an_error(tmp_path: Path) -> None:
    store = Store(tmp_path)
    (node,) = make_trial(0, data=Probe(label="data")).nodes.values()
    store.execute(node)
    path = tmp_path / "Probe" / node.fingerprint / "manifest.json"
    path.write_text(
        path.read_text().replace('"label": "data"', '"label": "other"').replace('"data"', '"other"')
    )
    with pytest.raises(ValueError, match=f"{path} does not match: config"):
        store.manifest(node)


def test_manifests_leave_out_what_cannot_be_read(tmp_path: Path) -> None:
    store = Store(tmp_path)
    (node,) = make_trial(0, data=Probe(label="data")).nodes.values()
    made = store.execute(node)
    seconds = {"Fast": [1.0, 2.0, 30.0], "Slow": [100.0]}
    expected = [made]
    for kind, values in seconds.items():
        for number, value in enumerate(values):
            expected.append(made.model_copy(update={"stage": kind, "seconds": value}))
            folder = tmp_path / kind / str(number)
            folder.mkdir(parents=True)
            (folder / "manifest.json").write_text(expected[-1].model_dump_json())
    for number, text in enumerate(("", "[]", '{"stage": "Fast", "seconds": 5}')):
        folder = tmp_path / "Broken" / str(number)
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text(text)
    order = {(manifest.stage, manifest.seconds): manifest for manifest in store.manifests()}
    assert order == {(manifest.stage, manifest.seconds): manifest for manifest in expected}


def test_path_leads_to_a_file_of_an_artifact(tmp_path: Path) -> None:
    store = Store(tmp_path)
    (node,) = make_trial(0, data=Probe(label="data")).nodes.values()
    store.execute(node)
    assert json.loads(store.path(node, "curves.json").read_text()) == store.curves(node)
    assert {path.name for path in store.folder(node).iterdir()} == {
        "curves.json",
        "files.json",
        "manifest.json",
    }


def test_store_is_imported_without_torch() -> None:
    code = (
        "import sys, sweeps.store.store;"
        "print(*{'torch', 'occse.pipeline'}.intersection(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not done.stdout.strip()


def test_check_writable_makes_a_store_and_leaves_it_empty(tmp_path: Path) -> None:
    store = Store(tmp_path / "runs" / "store")
    store.check_writable()
    store.check_writable()
    assert not list(store.root.iterdir())


def test_check_writable_refuses_a_disk_that_is_not_there(tmp_path: Path) -> None:
    root = tmp_path / "disk" / "runs" / "store"
    with pytest.raises(OSError, match=f"store {root}: {tmp_path / 'disk'} is not a folder"):
        Store(root).check_writable()


def test_check_writable_refuses_a_store_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(
        OSError, match=r"runs/store cannot be written: (File exists|Not a directory)"
    ):
        Store(tmp_path / "runs" / "store").check_writable()


def test_check_writable_refuses_a_full_disk_and_leaves_it_clean(tmp_path: Path) -> None:
    code = """
import pathlib, resource, sys
from occse.pipeline import Node
from sweeps.store.store import Store
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
Store(pathlib.Path(sys.argv[1])).check_writable()
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert f"OSError: store {tmp_path} cannot be written: File too large" in done.stderr
    assert not list(tmp_path.iterdir())


def test_manifests_tell_the_whole_configuration_of_a_result(
    small_store: Path, small_node: dict[str, Node]
) -> None:
    by_fingerprint = {manifest.fingerprint: manifest for manifest in Store(small_store).manifests()}
    configs: dict[str, object] = {}

    def follow(field: str, fingerprint: str) -> None:
        configs[field] = by_fingerprint[fingerprint].config
        for need, upstream in by_fingerprint[fingerprint].inputs.items():
            follow(need, upstream)

    follow("seg", small_node["seg"].fingerprint)
    # a leaf
    expected = {field: node.stage.config() for field, node in small_node.items() if field != "crf"}
    assert configs == expected
