"""Seeded random kills during a small sweep on a Ray cluster of several nodes: `python chaos.py
SEED...` tries seeds.

Killed are workers of stages, trials, the scheduler's actor, a node and the driver; the same command
goes on each time."""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mlflow import MlflowClient
from nodes import Nodes
from probe_stages import executions
from processes import processes

KINDS = ("worker", "worker", "trial", "actor", "node", "driver")
NAMES = {
    "worker": "ray::(?:data|pretrain|oc|cgnet|cam|crf|seg):",
    "trial": "ray::ImplicitFunc",
    "actor": "ray::Scheduler",
}
PATIENCE_S = 600.0
RECORDED = [("sweep", "FINISHED"), *[("trial", "FINISHED")] * 4]
TABLE = ("-m", "analysis", "table", "probe", "--format", "csv", "--tracking")


class Chaos:
    """One sweep below `root`, and the kills that `seed` draws."""

    def __init__(self, root: Path, nodes: Nodes, *, seed: int) -> None:
        self.root, self.nodes = root, nodes
        self.draw = random.Random(seed)
        self.killed: list[str] = []
        self.finished: dict[Path, tuple[int, int]] = {}
        self.remade: list[Path] = []

    def run(self) -> None:
        """Kill one of each kind, in an order and at times that the seed gives, and see the sweep to
        its end.
        """
        left = self.draw.sample(KINDS, len(KINDS))
        driver = start_sweep(self.root, self.nodes.address)
        deadline = time.monotonic() + PATIENCE_S
        at = 0.0
        while driver.returncode != 0:
            assert time.monotonic() < deadline, f"killed {self.killed}; {self._output()}"
            time.sleep(0.2)
            self._look()
            if driver.poll():
                assert driver.returncode == -signal.SIGKILL, self._output()
                driver = start_sweep(self.root, self.nodes.address)
            # before the first is finished, nothing could be lost
            due = self.finished and time.monotonic() > at
            if left and due and self._kill(left[0], driver):
                self.killed.append(left.pop(0))
                at = time.monotonic() + self.draw.uniform(0.5, 4.0)
            if not left:
                # the last stage waits for it, so that no kill comes too late
                (self.root / "store" / "go").touch()
        self._look()

    def _kill(self, kind: str, driver: "subprocess.Popen[bytes]") -> bool:
        if kind == "driver":
            driver.kill()
            driver.wait()
        elif kind == "node":
            self.nodes.kill(self.draw.choice(self.nodes.added))
            self.nodes.add(num_cpus=1)
        elif found := processes(NAMES[kind]):
            os.kill(self.draw.choice(found), signal.SIGKILL)
        else:
            return False
        return True

    def _look(self) -> None:
        """Note which artifacts are finished, and whether one that was is there anew."""
        for path in self.root.glob("store/[A-Z]*/*/manifest.json"):
            now = path.stat()
            seen = self.finished.setdefault(path, (now.st_ino, now.st_mtime_ns))
            if seen != (now.st_ino, now.st_mtime_ns):
                self.remade.append(path)

    def _output(self) -> str:
        return (self.root / "output.txt").read_text()[-3000:]

    def started_after_its_end(self) -> list[str]:
        """Stages that began once more after they were finished, which the store would have told."""
        return [line for line in executions(self.root / "store") if line.endswith("finished")]


def start_sweep(root: Path, address: str | None = None) -> "subprocess.Popen[bytes]":
    """The sweep as a process; what it says goes to `output.txt`."""
    command = [
        sys.executable,
        str(Path(__file__).with_name("probe_sweep.py")),
        str(root),
        *([address] if address else []),
    ]
    with (root / "output.txt").open("ab") as output:
        return subprocess.Popen(command, stdout=output, stderr=output)


def table(root: Path) -> bytes:
    """The result table of the sweep below `root`."""
    done = subprocess.run(
        [sys.executable, *TABLE, f"sqlite:///{root}/mlflow.db"], capture_output=True, check=True
    )
    return done.stdout


def recorded(root: Path) -> list[tuple[str, str]]:
    """Kind and status of every run in MLflow."""
    client = MlflowClient(f"sqlite:///{root}/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("probe").experiment_id])
    return sorted((run.data.tags["occse.kind"], run.info.status) for run in runs)


def undisturbed(root: Path) -> bytes:
    """The table of the sweep when nothing is killed, on a cluster of its own."""
    (root / "store").mkdir(parents=True)
    (root / "store" / "go").touch()
    assert start_sweep(root).wait(PATIENCE_S) == 0, (root / "output.txt").read_text()[-3000:]
    return table(root)


def main(seeds: list[int]) -> int:
    """Try `seeds` against one undisturbed sweep, and say what each of them did."""
    bad = 0
    with tempfile.TemporaryDirectory() as folder:
        expected = undisturbed(Path(folder, "undisturbed"))
        for seed in seeds:
            nodes = Nodes()
            nodes.add(num_cpus=1)
            nodes.add(num_cpus=1)
            start = time.monotonic()
            (root := Path(folder, str(seed))).mkdir()
            chaos = Chaos(root, nodes, seed=seed)
            chaos.run()
            well = (
                table(root) == expected
                and recorded(root) == RECORDED
                and not chaos.remade
                and not chaos.started_after_its_end()
            )
            bad += not well
            what = f"{'the same table' if well else 'NOT WELL'}, killed {', '.join(chaos.killed)}"
            print(f"seed {seed}: {time.monotonic() - start:.0f} s, {what}", flush=True)
            nodes.shutdown()
    return min(bad, 1)


if __name__ == "__main__":
    sys.exit(main([int(seed) for seed in sys.argv[1:]]))
