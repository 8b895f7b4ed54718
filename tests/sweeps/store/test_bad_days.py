"""Stores of several users, manifests of any size, and what a killed process leaves in a cache."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from probe_stages import Probe, make_trial

from occse.artifacts import manifest
from sweeps.store import backends
from sweeps.store.mirror_cache import trim
from sweeps.store.store import Store

# an id that owns nothing on this machine
STRANGER = 65533
AS_STRANGER = """
import os, sys
sys.path[:0] = sys.argv[2:]
from sweeps.store.store import Store
os.setgid(65533), os.setuid(65533)
store = Store(sys.argv[1])
for action in (store.check_writable, lambda: store.files.write("leases/a.json", b"")):
    try:
        action()
    except OSError as error:
        print(error)
"""
NESTED = "[" * 100_000


@pytest.mark.skipif(os.getuid() != 0, reason="only root can act as another user")
def test_store_of_another_user_with_the_default_umask_is_refused_with_the_remedy(
    tmp_path: Path,
) -> None:
    root = tmp_path / "runs" / "store"
    Store(root).files.write("leases/other.json", b"")
    for folder in (*tmp_path.parents, tmp_path, root.parent, root):
        if folder.stat().st_uid == os.getuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o005)
    root.chmod(0o777)
    done = subprocess.run(
        [sys.executable, "-c", AS_STRANGER, str(root), *sys.path],
        capture_output=True,
        text=True,
        check=True,
    )
    refused, lease = done.stdout.splitlines()
    assert f"no permission for {root / 'leases'}" in refused
    assert "no permission to change leases/a.json" in lease
    for line in (refused, lease):
        assert "group-writable folders" in line


@pytest.mark.parametrize("place", ["folder", "s3"])
def test_manifest_above_any_sensible_size_is_no_artifact_and_is_not_read_whole(
    place: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OCCSE_CACHE", str(tmp_path / "cache"))
    bucket = request.getfixturevalue("s3") if place == "s3" else tmp_path
    store = Store(f"{bucket}/store")
    node = make_trial(0, data=Probe(label=f"large {place}")).nodes["data"]
    store.execute(node)
    for module in (backends, manifest):
        monkeypatch.setattr(module, "MOST_BYTES", 1 << 20)
    name = f"Probe/{node.fingerprint}/manifest.json"
    store.files.write(name, json.dumps({"text": "x" * (2 << 20)}).encode())
    assert len(store.files.read(name) or b"") == 1 << 20
    assert node not in store
    assert store.manifest(node) is None
    assert store.present([node]) == set()
    assert list(store.manifests()) == []


@pytest.mark.parametrize("text", [NESTED, '{"a":' * 100_000])
def test_manifest_that_is_nested_too_deeply_is_no_artifact(tmp_path: Path, text: str) -> None:
    store = Store(tmp_path)
    node = make_trial(0, data=Probe(label="nested")).nodes["data"]
    store.execute(node)
    (tmp_path / "Probe" / node.fingerprint / "manifest.json").write_text(text)
    assert node not in store
    assert store.manifest(node) is None
    assert list(store.manifests()) == []


def test_cache_is_cleared_of_what_killed_processes_left_a_day_ago(tmp_path: Path) -> None:
    old, young = tmp_path / "Probe" / ".old.1234", tmp_path / "Probe" / ".young.1234"
    for folder in (old, young):
        folder.mkdir(parents=True)
        (folder / "part").touch()
    os.utime(old, (time.time() - 2 * 86400,) * 2)
    trim(tmp_path, most=1e9)
    assert [folder.name for folder in (tmp_path / "Probe").iterdir()] == [".young.1234"]
