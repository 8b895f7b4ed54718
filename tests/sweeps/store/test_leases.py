"""Leases of stages, on a folder and on an object store."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from sweeps.store.backends import Files, FolderFiles, ObjectFiles
from sweeps.store.leases import EXPIRES_S, Lease, Leases, read_lease


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(params=["folder", "s3"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Files:
    if request.param == "folder":
        return FolderFiles(tmp_path)
    return ObjectFiles(f"{request.getfixturevalue('s3')}/{tmp_path.name}")


def test_one_of_two_clusters_gets_a_lease_and_the_other_learns_who_has_it(files: Files) -> None:
    clock = Clock()
    one, two = (Leases(files, owner=name, clock=clock) for name in ("one", "two"))
    assert one.take("stage") is None
    clock.now += 5
    holder = two.take("stage")
    assert holder == Lease(
        owner="one", host=platform.node(), pid=os.getpid(), since=1000.0, heartbeat=1000.0
    )
    assert two.take("another") is None
    two.release("stage")
    assert two.take("stage") == holder, "only who has it gives it back"
    one.release("stage")
    assert two.take("stage") is None


def test_a_lease_that_is_not_renewed_is_taken_over(files: Files) -> None:
    clock = Clock()
    one, two = (Leases(files, owner=name, clock=clock) for name in ("one", "two"))
    one.take("stage")
    clock.now += EXPIRES_S - 1
    one.renew("stage")
    clock.now += EXPIRES_S - 1
    assert two.take("stage") is not None
    clock.now += 2
    assert two.take("stage") is None
    one.release("stage")
    lease = read_lease(files, "stage")
    assert lease is not None
    assert lease.owner == "two", "who lost it does not give it back"


def test_who_comes_back_after_a_crash_has_its_lease_still(files: Files) -> None:
    clock = Clock()
    assert Leases(files, owner="one", clock=clock).take("stage") is None
    assert Leases(files, owner="one", clock=clock).take("stage") is None


def test_the_lease_of_a_process_that_died_on_this_machine_is_free_at_once(files: Files) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True
    )
    lease = Lease(
        owner="dead", host=platform.node(), pid=int(done.stdout), since=1000.0, heartbeat=1000.0
    )
    files.write("leases/stage.json", lease.model_dump_json().encode())
    files.write(
        "leases/far.json", lease.model_copy(update={"host": "elsewhere"}).model_dump_json().encode()
    )
    leases = Leases(files, owner="one", clock=Clock())
    assert leases.take("stage") is None
    assert leases.take("far") is not None


@pytest.mark.parametrize("text", [b"", b"{}", b"\0"])
def test_a_lease_that_cannot_be_read_is_free(files: Files, text: bytes) -> None:
    files.write("leases/stage.json", text)
    assert Leases(files, owner="one").take("stage") is None
