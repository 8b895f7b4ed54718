"""Faults drawn at random: the same command ends a sweep with the same table, and nothing twice.

The faults are drawn anew in each run; the seed is printed, and OCCSE_CHAOS_SEED repeats it. A
campaign of many faults by hand: `python tests/sweeps/chaos.py --faults 200 --seed 7`.
"""

import os
import re
import signal
import time
from pathlib import Path
from random import Random

import pytest
from chaos import (
    NO_OBJECT_S,
    NUM_STAGES,
    PATIENCE_S,
    RECORDED,
    Campaign,
    Chaos,
    FaultsToCome,
    recorded,
    start_sweep,
    table,
    undisturbed,
)
from nodes import Nodes
from probe_stages import executions
from processes import processes
from waiting import wait_until

pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")
# About three minutes of an idle machine of two cores.
NUM_FAULTS = 8


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return undisturbed(tmp_path_factory.mktemp("undisturbed") / "root")


def check(root: Path, expected: bytes) -> None:
    """The same table, one run for each trial in MLflow, all ended, and nothing done twice."""
    assert table(root) == expected
    assert recorded(root) == RECORDED
    assert len(list(root.glob("store/[A-Z]*/*/manifest.json"))) == NUM_STAGES
    assert not [line for line in executions(root / "store") if line.endswith("finished")]


def test_random_faults_on_several_machines_change_nothing_in_the_table(
    nodes: Nodes, expected: bytes, tmp_path: Path
) -> None:
    seed = int(os.environ.get("OCCSE_CHAOS_SEED", time.time_ns() % 1_000_000))
    print(f"OCCSE_CHAOS_SEED={seed}")
    nodes.add(num_cpus=1)
    nodes.add(num_cpus=1)
    chaos = Chaos(tmp_path, nodes, seed=seed, number=NUM_FAULTS)
    chaos.run()
    faults = chaos.to_come.injected
    assert len(faults) == NUM_FAULTS
    assert chaos.problems(expected) == [], f"seed {seed}: {faults}"


def test_campaign_fails_and_its_table_says_so_where_an_injector_never_finds_its_object() -> None:
    kinds = ("worker killed", "node lost")
    found = FaultsToCome(dict.fromkeys(kinds, lambda: True), Random(1), number=6)
    lost = FaultsToCome({kinds[0]: lambda: False, kinds[1]: lambda: True}, Random(1), number=6)
    for faults in (found, lost):
        now = 1e6  # as of a machine that runs for days
        while faults.left:
            now += 1.0
            assert now < 1e6 + 100 * NO_OBJECT_S
            faults.turn(now)
    assert len(found.injected) == 6
    assert (set(found.injected), found.missed) == (set(kinds), [])
    assert (set(lost.injected), set(lost.missed)) == ({"node lost"}, {"worker killed"})
    campaign = Campaign()
    campaign.add(found, well=True)
    assert not campaign.failed
    campaign.add(lost, well=True)
    assert campaign.failed
    count = len(lost.missed)
    assert f"| worker killed | 3 | 3 | {count} |" in campaign.lines()
    assert campaign.lines()[-1] == f"| all | 12 | 12 | {count} |"


def test_a_driver_that_is_killed_takes_its_own_cluster_along_and_the_same_command_goes_on(
    expected: bytes, tmp_path: Path
) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "go").touch()
    driver = start_sweep(tmp_path)
    workers = wait_until(
        lambda: processes("ray::oc:", below=driver.pid), what="a worker", process=driver
    )
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    wait_until(
        lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers),
        what="the end of the workers",
    )
    before = {
        path: path.stat().st_mtime_ns for path in tmp_path.glob("store/[A-Z]*/*/manifest.json")
    }
    assert before
    assert not list(tmp_path.glob("store/.*")), (
        "what Tune keeps of a sweep does not lie in the store"
    )
    assert start_sweep(tmp_path).wait(PATIENCE_S) == 0
    assert all(path.stat().st_mtime_ns == written for path, written in before.items())
    output = (tmp_path / "output.txt").read_text()
    assert re.search(rf"{len(before)} from the store", output)
    check(tmp_path, expected)
