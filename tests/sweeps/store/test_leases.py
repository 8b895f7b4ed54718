"""Leases of stages, on a folder, on a folder without hard links, and on an object store."""

import dataclasses
import json
import os
import platform
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from sweeps.store.backends import Files, FolderFiles, ObjectFiles
from sweeps.store.leases import EXPIRES_S, Lease, Leases, read_lease
from sweeps.store.process import this_process

DAY_S = 86400.0
# a library before the C library's own, under which no hard link can be made below a folder `nolink`
NO_LINKS = """
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
int linkat(int from, const char *old, int to, const char *new, int flags) {
    if (strstr(new, "/nolink/")) { errno = EPERM; return -1; }
    return syscall(SYS_linkat, from, old, to, new, flags);
}
int link(const char *old, const char *new) { return linkat(-100, old, -100, new, 0); }
"""
TAKE_AT_ONCE = """
import os, sys, time
from pathlib import Path
from sweeps.store.backends import FolderFiles
from sweeps.store.leases import Leases
root, owner, start = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
(root / owner).touch()
try:
    os.link(root / owner, root / "linked")
    sys.exit("this file system has hard links")
except PermissionError:
    pass
leases = Leases(FolderFiles(root), owner=owner)
time.sleep(max(0.0, start - time.time()))
holders = [leases.take(f"stage {number}") for number in range(50)]
print(*[number for number, holder in enumerate(holders) if holder is None])
"""
TAKE_IN_CONTAINER = """
import sys
from pathlib import Path
from sweeps.store.backends import FolderFiles
from sweeps.store.leases import Leases
holder = Leases(FolderFiles(Path(sys.argv[1])), owner="container").take("stage")
print("taken" if holder is None else f"held by {holder.owner}")
"""


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(params=["folder", "s3"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Files:
    if request.param == "folder":
        return FolderFiles(tmp_path)
    return ObjectFiles(f"{request.getfixturevalue('s3')}/{tmp_path.name}")


def lease_of(owner: str, *, pid: int | None = None, heartbeat: float = 1000.0) -> Lease:
    """The lease of a process of this machine, by default this one."""
    process = dataclasses.asdict(this_process())
    if pid is not None:
        process["pid"] = pid
    return Lease(owner=owner, since=1000.0, heartbeat=heartbeat, **process)


def write(files: Files, name: str, lease: Lease) -> None:
    # not by pydantic, which writes null for a number that JSON does not have
    files.write(f"leases/{name}.json", json.dumps(lease.model_dump()).encode())


def test_lease_goes_to_one_of_two_clusters_and_the_other_learns_its_holder(files: Files) -> None:
    clock = Clock()
    one, two = (Leases(files, owner=name, clock=clock) for name in ("one", "two"))
    assert one.take("stage") is None
    clock.now += 5
    holder = two.take("stage")
    assert holder == lease_of("one")
    assert (holder.host, holder.pid) == (platform.node(), os.getpid())
    assert two.take("another") is None
    two.release("stage")
    assert two.take("stage") == holder, "only its holder gives a lease back"
    one.release("stage")
    assert two.take("stage") is None


def test_lease_that_is_not_renewed_is_taken_over(files: Files) -> None:
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
    lease = read_lease(files, "stage", now=clock.now)
    assert lease is not None
    assert lease.owner == "two", "a scheduler that lost a lease does not give it back"


def test_lease_is_kept_by_a_scheduler_that_comes_back_after_a_crash(files: Files) -> None:
    clock = Clock()
    assert Leases(files, owner="one", clock=clock).take("stage") is None
    assert Leases(files, owner="one", clock=clock).take("stage") is None


def test_lease_of_a_process_that_died_on_this_machine_is_free_at_once(files: Files) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True
    )
    dead = lease_of("dead", pid=int(done.stdout))
    write(files, "stage", dead)
    write(files, "far", dead.model_copy(update={"boot": "another machine"}))
    write(files, "container", dead.model_copy(update={"namespace": "pid:[1]"}))
    leases = Leases(files, owner="one", clock=Clock())
    assert leases.take("stage") is None
    assert leases.take("far") is not None
    assert leases.take("container") is not None


def test_lease_of_a_process_whose_pid_was_given_to_another_is_free_at_once(tmp_path: Path) -> None:
    files = FolderFiles(tmp_path)
    write(files, "stage", lease_of("dead").model_copy(update={"started": "1"}))
    assert Leases(files, owner="one", clock=Clock()).take("stage") is None


@pytest.mark.skipif(os.getuid() != 0, reason="only root makes a pid namespace")
def test_lease_of_another_container_with_the_same_host_name_is_respected(tmp_path: Path) -> None:
    command = [sys.executable, "-c", TAKE_IN_CONTAINER, str(tmp_path)]
    container = ["unshare", "--pid", "--fork", "--mount-proc", *command]
    Leases(FolderFiles(tmp_path), owner="host").take("stage")
    done = subprocess.run(container, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "held by host"
    Leases(FolderFiles(tmp_path), owner="host").release("stage")
    done = subprocess.run(container, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "taken"
    holder = Leases(FolderFiles(tmp_path), owner="host").take("stage")
    assert holder is not None, "the pid of the container means nothing outside of it"
    assert holder.owner == "container"


@pytest.mark.parametrize("text", [b"", b"{}", b"\0", b"[" * 100_000])
def test_lease_that_cannot_be_read_is_free(files: Files, text: bytes) -> None:
    files.write("leases/stage.json", text)
    assert Leases(files, owner="one").take("stage") is None


@pytest.mark.parametrize("ahead_s", [DAY_S, float("nan"), float("inf")])
def test_lease_of_a_machine_with_a_wrong_clock_expires_as_others_do(
    files: Files, ahead_s: float
) -> None:
    lease = lease_of("dead", heartbeat=time.time() + ahead_s)
    write(files, "stage", lease.model_copy(update={"boot": "another machine"}))
    now = time.time()
    assert Leases(files, owner="one", clock=lambda: now).take("stage") is not None
    later = now + EXPIRES_S + 60
    assert Leases(files, owner="one", clock=lambda: later).take("stage") is None


def test_lease_of_the_future_on_a_store_of_the_future_blocks_nobody(tmp_path: Path) -> None:
    files, future = FolderFiles(tmp_path), time.time() + DAY_S
    write(files, "stage", lease_of("dead", heartbeat=future))
    os.utime(tmp_path / "leases" / "stage.json", (future, future))
    assert Leases(files, owner="one").take("stage") is None


def test_lease_on_a_file_system_without_hard_links_goes_to_one_of_many(tmp_path: Path) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc")
    assert compiler, "a C compiler is needed to take hard links away"
    source, library, root = tmp_path / "nolink.c", tmp_path / "nolink.so", tmp_path / "nolink" / "x"
    root.mkdir(parents=True)
    source.write_text(NO_LINKS)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], check=True)
    environment = os.environ | {"LD_PRELOAD": str(library)}
    start = str(time.time() + 8)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TAKE_AT_ONCE, str(root), f"owner {number}", start],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(3)
    ]
    taken = [process.communicate()[0].split() for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert sorted(number for numbers in taken for number in numbers) == sorted(map(str, range(50)))


def test_lease_is_given_to_one_of_several_threads_of_different_owners(files: Files) -> None:
    together = threading.Barrier(4)
    winners: list[str] = []

    def take(owner: str) -> None:
        leases = Leases(files, owner=owner)
        together.wait()
        if leases.take("stage") is None:
            winners.append(owner)

    threads = [threading.Thread(target=take, args=(f"owner {number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(winners) == 1
