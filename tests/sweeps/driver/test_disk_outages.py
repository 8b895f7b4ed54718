"""A sweep whose disk is full, and the same command once there is room."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from probe_stages import Bulky, Probe, executions, make_trial
from sweeping import sweep_probes

from sweeps.driver.recorder import Summary
from sweeps.spec.model import Spec
from sweeps.store.store import Store

pytestmark = [
    pytest.mark.usefixtures("cluster"),
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning"),
]
SPEC = Spec(name="outage", question="Does it go on?", baseline={})


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of four megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small file system")
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def sweep(root: Path, disk: Path) -> Summary:
    trials = [
        make_trial(0, data=Probe(label="data"), oc=Bulky(label="bulky", upstream=("data",))),
        make_trial(1, data=Probe(label="data"), oc=Probe(label="light", upstream=("data",))),
    ]
    return sweep_probes(SPEC, trials, root, store=Store(disk / "store"))


def test_a_full_disk_fails_what_finds_no_room_and_the_same_command_goes_on_when_there_is(
    tmp_path: Path, small_disk: Path
) -> None:
    full = sweep(tmp_path, small_disk)
    (error,) = full.failed.values()
    assert (
        "takes no more (No space left on device): make room and run the same command again" in error
    )
    assert sorted(executions(small_disk / "store")) == ["bulky 0", "data 0", "light 0"]
    assert not list(small_disk.glob("store/*/.*/*")), "what did not fit is gone"

    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    roomy = sweep(tmp_path, small_disk)
    assert roomy.well
    assert (roomy.run, roomy.reused) == (1, 2)
    assert sorted(executions(small_disk / "store")) == ["bulky 0", "bulky 0", "data 0", "light 0"]
