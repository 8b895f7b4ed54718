"""Faults drawn at random during a small sweep on a Ray cluster of several nodes.

`python tests/sweeps/chaos.py --faults 200 --seed 7` goes on with one sweep after the other until so
many faults were injected, and prints a table of them. The same command goes on after each end of a
driver, as a person would type it; whatever happened, the table of results must be the same."""

import argparse
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from mlflow import MlflowClient
from nodes import Nodes
from probe_stages import executions
from processes import hear_signals, processes

from sweeps.store.leases import EXPIRES_S

NAMES = {
    "worker": "ray::(?:data|pretrain|oc|cgnet|cam|crf|seg):",
    "trial": "ray::Coordinator",
    "scheduler": "ray::Scheduler",
}
# A loaded machine takes ten minutes for a sweep with a dozen faults.
PATIENCE_S = 1500.0
# A fault waits for its object, such as a worker while the driver starts anew: on a loaded machine
# for a minute. The last stage of the sweep waits for all faults, so every kind has an object sooner
# or later; one that has none by then looks for something that is not there any more.
NO_OBJECT_S = 180.0
# Long enough to be noticed by every party, short enough for a test.
HELD_S = 6.0
RECORDED = [("sweep", "FINISHED"), *[("trial", "FINISHED")] * 4]
NUM_STAGES = 15  # data, pretrain, oc; 2 of cgnet and cam; 4 of crf and seg
TABLE = ("-m", "analysis", "table", "probe", "--format", "csv", "--tracking")
DAY_S = 86400.0


class FaultsToCome:
    """Kinds of faults in the order that `draw` gives, and the time of the next one.

    Attributes:
        injected: kinds of those that were, in order.
        missed: kinds that found no object, in whose place another one was injected.
    """

    def __init__(
        self, injectors: Mapping[str, Callable[[], bool]], draw: random.Random, *, number: int
    ) -> None:
        self.injected: list[str] = []
        self.missed: list[str] = []
        self._injectors = injectors
        self._draw = draw
        kinds = list(injectors)
        # each kind once before any kind twice: a few faults are then as varied as they can be
        drawn = [kind for _ in range(number) for kind in draw.sample(kinds, len(kinds))]
        self._left = drawn[:number]
        # Of its own: when another fault is needed hangs on the machine, and what the seed draws
        # for the others must not.
        self._others = random.Random(f"in place of {drawn}")
        self._due = 0.0
        # when the next one began to look for its object
        self._since: float | None = None

    @property
    def left(self) -> int:
        """Number of those that are still to come."""
        return len(self._left)

    def turn(self, now: float) -> None:
        """Inject the next one if it is due at `now`, in seconds, and has an object."""
        if not self._left or now <= self._due:
            return
        if self._since is None:
            self._since = now
        if self._injectors[self._left[0]]():
            self.injected.append(self._left.pop(0))
            self._due = now + self._draw.uniform(0.5, 4.0)
            self._since = None
        elif now > self._since + NO_OBJECT_S:
            self.missed.append(self._left[0])
            self._left[0] = self._others.choice(list(self._injectors))
            self._since = None


class Chaos:
    """One sweep below `root`, and the faults that `seed` draws.

    Attributes:
        to_come: the faults.
        remade: artifacts that were made again though nobody had damaged them.
        endings: exit codes of the drivers before the last.
    """

    def __init__(self, root: Path, nodes: Nodes, *, seed: int, number: int) -> None:
        self.root, self.nodes = root, nodes
        self.draw = random.Random(seed)
        injectors = {kind: partial(inject, self) for kind, inject in FAULTS.items()}
        self.to_come = FaultsToCome(injectors, self.draw, number=number)
        self.remade: list[Path] = []
        self.endings: list[int] = []
        self._finished: dict[Path, tuple[int, int]] = {}
        self._harmed: set[Path] = set()
        self._driver = start_sweep(root, nodes.address)
        self._threads: list[threading.Thread] = []

    def run(self) -> None:
        """Inject the faults, at times that the seed gives, and see the sweep to its end."""
        deadline = time.monotonic() + PATIENCE_S
        while self._driver.returncode != 0:
            assert time.monotonic() < deadline, f"faults {self.to_come.injected}; {self._output()}"
            time.sleep(0.2)
            self._look()
            if self._driver.poll():
                self.endings.append(self._driver.returncode)
                assert self.to_come.injected, self._output()
                self._driver = start_sweep(self.root, self.nodes.address)
            # before the first artifact is finished, nothing could be lost
            if self._finished:
                self.to_come.turn(time.monotonic())
            if not self.to_come.left:
                # the last stage waits for it, so that no fault comes too late
                (self.root / "store" / "go").touch()
        for thread in self._threads:
            thread.join()
        self._look()

    def problems(self, expected: bytes) -> list[str]:
        """Everything that is not as it would be without faults; empty is well."""
        found = []
        if table(self.root) != expected:
            found.append("another table")
        if recorded(self.root) != RECORDED:
            found.append(f"recorded {recorded(self.root)}")
        if self.remade:
            found.append(f"made again: {self.remade}")
        whole = len(list(self.root.glob("store/[A-Z]*/*/manifest.json")))
        if not NUM_STAGES - len(self._harmed) <= whole <= NUM_STAGES:
            found.append(f"{whole} artifacts")
        again = [line for line in executions(self.root / "store") if line.endswith("finished")]
        if again:
            found.append(f"run though finished: {again}")
        if self.to_come.missed:
            found.append(f"no object for: {', '.join(self.to_come.missed)}")
        return found

    def kill(self, kind: str) -> bool:
        """SIGKILL of one of the processes of a kind; False where there is none now."""
        found = processes(NAMES[kind])
        if found:
            os.kill(self.draw.choice(found), signal.SIGKILL)
        return bool(found)

    def lose_node(self) -> bool:
        """SIGKILL of a node's raylet; another node joins."""
        self.nodes.kill(self.draw.choice(self.nodes.added))
        self.nodes.add(num_cpus=1)
        return True

    def signal_driver(self, number: int) -> bool:
        """A signal to the driver, which then ends; False where it does not run yet."""
        if self._driver.poll() is not None or not processes("ray::Coordinator"):
            return False
        self._driver.send_signal(number)
        self._driver.wait(PATIENCE_S)
        return True

    def freeze(self, kind: str) -> bool:
        """SIGSTOP of a process of a kind, which goes on a few seconds later."""
        found = processes(NAMES[kind])
        if not found:
            return False
        pid = self.draw.choice(found)
        os.kill(pid, signal.SIGSTOP)

        def thaw() -> None:
            time.sleep(HELD_S)
            try:
                os.kill(pid, signal.SIGCONT)
            except ProcessLookupError:
                return

        self._later(thaw)
        return True

    def lock_database(self) -> bool:
        """A lock on MLflow's database, as of a backup, for a few seconds."""
        database = self.root / "mlflow.db"

        def hold() -> None:
            connection = sqlite3.connect(database, isolation_level=None, timeout=HELD_S)
            try:
                connection.execute("BEGIN EXCLUSIVE")
                time.sleep(HELD_S)
                connection.execute("ROLLBACK")
            except sqlite3.OperationalError:  # somebody else writes all the time: it is locked
                return
            finally:
                connection.close()

        self._later(hold)
        return True

    def remove_artifact(self) -> bool:
        """An artifact is gone, as when a person tidies up."""
        path = self._some_artifact()
        self._harmed.add(path)
        shutil.rmtree(path.parent, ignore_errors=True)
        return True

    def damage_artifact(self) -> bool:
        """A file of an artifact has other bytes than it was sealed with."""
        path = self._some_artifact()
        files = [file for file in path.parent.glob("digest.txt") if file.is_file()]
        if not files:
            return False
        self._harmed.add(path)
        files[0].write_bytes(b"0" * 64)
        return True

    def cut_manifest(self) -> bool:
        """A manifest is cut off in the middle, as by a disk that filled up."""
        path = self._some_artifact()
        if path.parent.parent.name != "Link":
            return False
        self._harmed.add(path)
        # removed first: the probe takes a manifest that is there for a finished artifact
        shutil.rmtree(path.parent)
        path.parent.mkdir()
        path.with_name("manifest.json").write_text("{")
        return True

    def leave_lease(self, *, ahead_s: float) -> bool:
        """A lease of a cluster that is no more, whose clock was ahead by so much."""
        waiting = {path.name for path in (self.root / "store" / "scratch").glob("*")}
        waiting -= {path.parent.name for path in self._finished}
        if not waiting:
            return False
        name = self.draw.choice(sorted(waiting)).split(".")[0]
        lease = {
            "owner": "gone",
            "host": "elsewhere",
            "pid": 1,
            "since": 0.0,
            # half of it is over
            "heartbeat": time.time() + ahead_s - EXPIRES_S + HELD_S,
        }
        path = self.root / "store" / "leases" / f"{name}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(lease))
        return True

    def _some_artifact(self) -> Path:
        """The manifest of a finished artifact of a probe."""
        probes = [path for path in self._finished if path.parent.parent.name == "Link"]
        return self.draw.choice(sorted(probes or self._finished))

    def _later(self, call: Callable[[], None]) -> None:
        thread = threading.Thread(target=call)
        thread.start()
        self._threads.append(thread)

    def _look(self) -> None:
        """Note which artifacts are finished, and whether one that was is there anew."""
        for path in self.root.glob("store/[A-Z]*/*/manifest.json"):
            try:
                now = path.stat()
            except FileNotFoundError:  # set aside in this moment
                continue
            mark = (now.st_ino, now.st_mtime_ns)
            if path in self._harmed:
                self._finished[path] = mark
            elif self._finished.setdefault(path, mark) != mark:
                self.remade.append(path)

    def _output(self) -> str:
        return (self.root / "output.txt").read_text()[-3000:]


# Each returns whether it could be injected now.
FAULTS: dict[str, Callable[[Chaos], bool]] = {
    "worker killed": lambda chaos: chaos.kill("worker"),
    "worker frozen": lambda chaos: chaos.freeze("worker"),
    "coordinator killed": lambda chaos: chaos.kill("trial"),
    "coordinator frozen": lambda chaos: chaos.freeze("trial"),
    "scheduler killed": lambda chaos: chaos.kill("scheduler"),
    "scheduler frozen": lambda chaos: chaos.freeze("scheduler"),
    "node lost": Chaos.lose_node,
    "driver killed": lambda chaos: chaos.signal_driver(signal.SIGKILL),
    "driver terminated": lambda chaos: chaos.signal_driver(signal.SIGTERM),
    "terminal closed": lambda chaos: chaos.signal_driver(signal.SIGHUP),
    "Ctrl-C": lambda chaos: chaos.signal_driver(signal.SIGINT),
    "database locked": Chaos.lock_database,
    "artifact removed": Chaos.remove_artifact,
    "artifact damaged": Chaos.damage_artifact,
    "manifest cut off": Chaos.cut_manifest,
    "lease left behind": lambda chaos: chaos.leave_lease(ahead_s=0.0),
    "lease of tomorrow": lambda chaos: chaos.leave_lease(ahead_s=DAY_S),
}


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
    """The table of the sweep when nothing happens, on a cluster of its own."""
    (root / "store").mkdir(parents=True)
    (root / "store" / "go").touch()
    assert start_sweep(root).wait(PATIENCE_S) == 0, (root / "output.txt").read_text()[-3000:]
    return table(root)


@dataclass
class Campaign:
    """Counts over many sweeps.

    Attributes:
        injected: faults by kind.
        missed: faults by kind that found no object: their injector is out of date.
        bad: faults by kind, of sweeps that did not come out well.
        endings: how often a driver ended with which exit code before the sweep was done.
    """

    injected: Counter[str] = field(default_factory=Counter)
    missed: Counter[str] = field(default_factory=Counter)
    bad: Counter[str] = field(default_factory=Counter)
    endings: Counter[int] = field(default_factory=Counter)

    def take(self, chaos: Chaos, problems: list[str]) -> None:
        """Add a sweep that came to its end."""
        self.add(chaos.to_come, well=not problems)
        self.endings.update(chaos.endings)

    def add(self, faults: FaultsToCome, *, well: bool) -> None:
        """Count the faults of a sweep, which came out well or not."""
        self.injected.update(faults.injected)
        self.missed.update(faults.missed)
        if not well:
            self.bad.update(faults.injected)

    @property
    def failed(self) -> bool:
        """True if a sweep did not come out well, or an injector never found its object."""
        return bool(self.bad or self.missed)

    def lines(self) -> list[str]:
        """The counts as a Markdown table."""
        rows = [
            f"| {kind} | {self.injected[kind]} | {self.injected[kind] - self.bad[kind]} "
            f"| {self.missed[kind] or ''} |"
            for kind in FAULTS
        ]
        total = self.injected.total()
        rows.append(f"| all | {total} | {total - self.bad.total()} | {self.missed.total()} |")
        head = "| fault | injected | same table, nothing twice | found no object |"
        return [head, "|---|---|---|---|", *rows]


def main() -> int:
    """Inject faults until there were enough, and print what came out of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", type=int, default=200, help="how many in all (200)")
    parser.add_argument("--each", type=int, default=8, help="how many in one sweep (8)")
    parser.add_argument("--seed", type=int, default=0, help="of the first sweep (0)")
    options = parser.parse_args()
    hear_signals()
    campaign, seed = Campaign(), options.seed
    with tempfile.TemporaryDirectory() as folder:
        expected = undisturbed(Path(folder, "undisturbed"))
        while campaign.injected.total() < options.faults:
            nodes = Nodes()
            nodes.add(num_cpus=1)
            nodes.add(num_cpus=1)
            start = time.monotonic()
            root = Path(folder, str(seed))
            root.mkdir()
            chaos = Chaos(root, nodes, seed=seed, number=options.each)
            chaos.run()
            problems = chaos.problems(expected)
            campaign.take(chaos, problems)
            what = "; ".join(problems) or "well"
            took = f"{time.monotonic() - start:.0f} s"
            print(f"seed {seed}: {took}, {', '.join(chaos.to_come.injected)}: {what}", flush=True)
            nodes.shutdown()
            seed += 1
    print(f"\nseeds {options.seed} to {seed - 1}; exit codes {dict(campaign.endings)}\n")
    print("\n".join(campaign.lines()))
    return 1 if campaign.failed else 0


if __name__ == "__main__":
    sys.exit(main())
