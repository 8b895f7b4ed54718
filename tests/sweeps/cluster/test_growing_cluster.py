"""Sweeps on Ray's real autoscaler, which starts machines for them from none."""

import re
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import growing_sweep
import pytest
import ray
from probe_stages import Probe, executions, make_trial
from ray.util import list_named_actors
from ray_head import FakeCloud
from sweeping import trial_runs
from waiting import wait_until

from sweeps.__main__ import main
from sweeps.cluster.connection import Cluster, start_ray
from sweeps.cluster.head import NAMESPACE
from sweeps.cluster.view import SCHEDULER
from sweeps.driver.sweep import run_sweep
from sweeps.progress.status import Status, read_status
from sweeps.spec.model import Spec
from sweeps.store.store import Store
from sweeps.tracking.writer import Tracking

pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")
NAMES = ("one", "two")
GPUS = {"num_cpus": 1, "num_gpus": 4}


@pytest.fixture(scope="module")
def cloud() -> Iterator[FakeCloud]:
    """A cluster without workers, which the tests make grow one after the other."""
    cloud = FakeCloud({"cpu": {"CPU": 1}, "gpu": {"CPU": 1, "GPU": 1}}, most={"gpu": 2})
    try:
        start_ray(print, address=cloud.address)
        yield cloud
    finally:
        cloud.shutdown()


@pytest.fixture
def start(cloud: FakeCloud, tmp_path: Path) -> Iterator[Callable[[str], "Shell"]]:
    """Starts a sweep in a shell of its own; none of them is left behind."""
    shells: list[Shell] = []

    def start_one(name: str) -> Shell:
        shells.append(Shell(tmp_path, cloud, name))
        return shells[-1]

    yield start_one
    for shell in shells:
        shell.process.kill()
        shell.process.wait()


class Shell:
    """A sweep that runs in a process of its own."""

    def __init__(self, root: Path, cloud: FakeCloud, name: str) -> None:
        (root / "store").mkdir(exist_ok=True)
        (root / name).mkdir()
        self.name = name
        self._root = root
        self._log = root / f"{name}.log"
        command = [sys.executable, growing_sweep.__file__, str(root), cloud.address, name]
        with self._log.open("w") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)

    def said(self) -> str:
        return self._log.read_text()

    def status(self) -> Status | None:
        statuses = read_status(Store(self._root / "store"))
        return next((status for status in statuses if status.name == self.name), None)

    def end(self) -> int:
        wait_until(lambda: self.process.poll() is not None, what=f"the end of {self.name}")
        code = self.process.returncode
        assert code is not None
        return code


def metrics() -> str:
    """The metrics of every node of the cluster, as Prometheus reads them."""
    texts = []
    for node in ray.nodes():
        if node["Alive"]:
            url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
            # A machine that comes or goes does not answer yet, or any more.
            with suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:
                texts.append(answer.read().decode())
    return "\n".join(texts)


def on_machines(sweep: str) -> int:
    """Stages of a sweep that a machine has, or that Ray is starting there."""
    names = [actor["name"] for actor in list_named_actors(all_namespaces=True)]
    count = 0
    for name in names:
        if name.startswith(SCHEDULER):
            account = ray.get(ray.get_actor(name, namespace=NAMESPACE).account.remote())
            count += sum(stage["sweep"] == sweep for stage in account["held"])
    return count


def alive() -> int:
    """Machines of the cluster, the head among them."""
    return sum(node["Alive"] for node in ray.nodes())


def labels(root: Path, sweep: str = "") -> list[str]:
    """Labels of the stages that were started, those of one sweep if it is given."""
    started = [line.rsplit(" ", 1)[0] for line in executions(root / "store")]
    return [label for label in started if label.startswith(sweep)]


def test_doctor_starts_one_machine_of_each_type_and_checks_them(
    cloud: FakeCloud, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert alive() == 1
    command = ["doctor", "--store", str(tmp_path), "--address", cloud.address, "--autoscaling"]
    code = main(command)
    said = capsys.readouterr().out
    assert "node type cpu (1 CPU): a machine started" in said
    assert "node type gpu (1 CPU, 1 GPU): a machine started" in said
    assert "3 machines" in said
    # the GPUs of the fake machines are only counted
    assert code == 1
    assert "Ray grants 1 GPUs, but torch cannot use them" in said


def test_two_sweeps_from_two_shells_share_one_growing_cluster_and_one_of_them_is_paused(
    start: Callable[[str], Shell], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = len(ray.nodes())  # also those that have ended
    store = ["--store", str(tmp_path / "store")]
    one, two = (start(name) for name in NAMES)
    assert main(["control", "other", "pause", *store]) == 2
    assert "expected the name of a sweep that runs" in capsys.readouterr().err
    wait_until(lambda: labels(tmp_path, "two"), what="a stage of two", process=two.process)
    assert main(["control", "two", "pause", *store]) == 0
    wait_until(
        lambda: (status := two.status()) and status.state == "paused" and not on_machines("two"),
        what="the pause",
        process=two.process,
    )
    held = labels(tmp_path, "two")
    assert len(held) < 2 * growing_sweep.NUM_TRIALS
    assert wait_until(
        lambda: re.search(r"occse_gpu_seconds\S*kind=\"spent\"\S* [1-9]", metrics()),
        what="GPU seconds in the metrics",
        every_s=1,
    )
    assert one.end() == 0, one.said()
    # by those that ever were: a machine without work may have ended by now
    assert len(ray.nodes()) > before, "the cluster did not grow"
    assert labels(tmp_path, "two") == held, "a paused sweep started a stage"
    assert main(["control", "two", "resume", "--max-concurrent", "1", *store]) == 0
    assert two.end() == 0, two.said()
    for line in ("paused: nothing more starts", "resumed", "1 trial at a time from now on"):
        assert line in two.said()
    assert set(Counter(labels(tmp_path)).values()) == {1}, "a stage ran twice"
    assert len(labels(tmp_path)) == 1 + 2 * 2 * growing_sweep.NUM_TRIALS
    numbers: set[float] = set()
    for name in NAMES:
        runs = trial_runs(tmp_path, name)
        assert [run.info.status for run in runs] == ["FINISHED"] * growing_sweep.NUM_TRIALS
        by_variant = {run.data.tags["occse.variant"]: run.data for run in runs}
        for trial in growing_sweep.trials_of(name):
            manifest = Store(tmp_path / "store").manifest(trial.nodes["crf"])
            assert manifest is not None
            recorded = by_variant[trial.variant].metrics["crf/miou"]
            assert recorded == pytest.approx(manifest.metrics["miou"])
            numbers.add(recorded)
    assert len(numbers) == 2 * growing_sweep.NUM_TRIALS, "two trials have one number"


def test_sweep_that_no_node_type_can_meet_is_refused_at_the_start(
    cloud: FakeCloud, tmp_path: Path
) -> None:
    spec = Spec(name="wide", question="Is it refused?", baseline={}, resources={"oc": GPUS})
    trials = [make_trial(0, oc=Probe(label="wide"))]
    with pytest.raises(ValueError, match="oc asks for 1 CPU, 4 GPUs on one machine") as error:
        run_sweep(
            spec,
            trials,
            store=Store(tmp_path),
            tracking=Tracking(f"sqlite:///{tmp_path}/mlflow.db", spec=spec),
            cluster=Cluster(address=cloud.address, autoscaling=True),
            say=print,
        )
    assert "cpu (1 CPU), gpu (1 CPU, 1 GPU)" in str(error.value)
    assert not executions(tmp_path)
