"""Bound on the copies from an object store, and the copies that a stage works with."""

import threading
import time
from pathlib import Path

import pytest
from probe_stages import Bulky, Link, make_trial

from occse.pipeline import Node
from sweeps.store import mirror_cache as cache
from sweeps.store.store import Store

BULK_GB = 0.0085  # what a bulky probe leaves, and a little


@pytest.fixture
def store(s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store on S3 whose cache on this machine holds two bulky artifacts, with nothing too recent
    to go.
    """
    monkeypatch.setenv("OCCSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OCCSE_CACHE_GB", str(2 * BULK_GB))
    monkeypatch.setattr(cache, "RECENT_S", 0.0)
    return Store(f"{s3}/{tmp_path.name}")


def bulky(number: int) -> Node:
    return make_trial(0, data=Bulky(label=f"bulky {number}")).nodes["data"]


def kept(store: Store) -> set[str]:
    return {path.parent.name for path in store.root.glob("*/*/manifest.json")}


def test_copies_that_were_used_longest_ago_go_and_are_fetched_again(store: Store) -> None:
    first, second, third = map(bulky, range(3))
    store.execute(first)
    store.execute(second)
    store.folder(first)
    store.execute(third)
    assert kept(store) == {first.fingerprint, third.fingerprint}
    assert (store.folder(second) / "bulk").stat().st_size == 8 << 20
    assert kept(store) == {second.fingerprint, third.fingerprint}
    assert not list(store.root.glob("*/.*")), "nothing is left aside"


def test_copies_that_a_running_stage_works_with_stay(store: Store) -> None:
    nodes = make_trial(
        0, data=Bulky(label="input"), cam=Link(label="runs", upstream=("data",), waits="go")
    ).nodes
    store.execute(nodes["data"])
    runs = threading.Thread(target=store.execute, args=(nodes["cam"],))
    runs.start()
    while (
        not (store.root / "executions.txt").exists()
        or "runs" not in (store.root / "executions.txt").read_text()
    ):
        time.sleep(0.05)
    for number in range(3):
        store.execute(bulky(number))
    assert nodes["data"].fingerprint in kept(store)
    (store.root / "go").touch()
    runs.join()
    assert nodes["cam"] in store
    store.execute(bulky(3))
    assert nodes["data"].fingerprint not in kept(store)


def test_copies_that_were_used_a_moment_ago_stay(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "RECENT_S", 600.0)
    for number in range(3):
        store.execute(bulky(number))
    assert len(kept(store)) == 3


def test_limit_that_is_no_size_is_refused(monkeypatch: pytest.MonkeyPatch, s3: str) -> None:
    for text in ("much", "-1", "nan"):
        monkeypatch.setenv("OCCSE_CACHE_GB", text)
        with pytest.raises(
            ValueError, match=f"OCCSE_CACHE_GB={text}: expected a number of gigabytes"
        ):
            Store(f"{s3}/bad")
