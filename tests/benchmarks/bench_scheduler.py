"""CPU time that the scheduler takes to choose machines, with thousands of stages that wait.

A cluster of 8 machines with 8 GPUs each is full. A stage costs two turns of the scheduler: one when
it begins to wait, in which nothing has room, and one when a stage ends and another one takes its
place. Ray is not started: the time is that of the choice alone.

Run: python tests/benchmarks/bench_scheduler.py [--waiting 3000]
"""

import argparse
import os
import time

from sweeps.cluster.messages import SchedulerSettings, StageRequest
from sweeps.cluster.scheduler import Scheduler
from sweeps.cluster.stage_run import ReadyLine, StageRun, StageState
from sweeps.cluster.view import ClusterView

MACHINES = {f"machine {number}": {"CPU": 64.0, "GPU": 8.0} for number in range(8)}
# Chosen often enough for a mean that is known to a tenth.
TURNS = 50
KINDS = ({"num_cpus": 4.0, "num_gpus": 1.0}, {"num_cpus": 2.0, "num_gpus": 0.0})


class Turns(Scheduler):
    """The scheduler's state and its choice, without Ray and without a store."""

    def __init__(self, waiting: int) -> None:
        self._settings = SchedulerSettings(root="")
        self._view = ClusterView(autoscaling=False)
        self._view.machines = dict(MACHINES)
        self._paused = set()
        self._line = ReadyLine()
        self._runs = {}
        for number in range(waiting):
            self._add(str(number), number)
        self._submit_ready()

    def _add(self, key: str, number: int) -> None:
        self._runs[key] = run_of(number)
        self._line.put(self._runs[key])

    def turn(self) -> None:
        """Choose machines for what waits."""
        self._submit_ready()

    def end_one(self) -> None:
        """End a stage that holds a GPU, and put another one behind all that wait."""
        done = next(
            key
            for key, run in self._runs.items()
            if run.state is StageState.RUNNING and run.request.num_gpus
        )
        del self._runs[done]
        number = 3 * len(self._runs)
        self._add(f"after {done}", number)

    def run_chosen(self) -> None:
        """Let every stage that has a machine run."""
        for run in self._runs.values():
            if run.machine:
                run.state = StageState.RUNNING


def run_of(number: int) -> StageRun:
    """Return a stage that waits; two of three need a GPU."""
    node = {"field": "cgnet", "kind": "TrainCGNet", "fingerprint": str(number), "inputs": {}}
    kind = KINDS[number % 3 == 2]
    request = StageRequest(node=node, path_s=float(number * 7919 % 1000), cpus_per_gpu=4.0, **kind)
    run = StageRun(request=request, holds={"trial": float("inf")})
    run.ready()
    return run


def main() -> None:
    """Print the milliseconds of a stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--waiting", type=int, default=3000)
    options = parser.parse_args()
    scheduler = Turns(options.waiting)
    scheduler.run_chosen()
    spent = {"begins to wait": 0.0, "ends": 0.0}
    for _ in range(TURNS):
        start = time.process_time()
        scheduler.turn()
        spent["begins to wait"] += time.process_time() - start
        scheduler.end_one()
        start = time.process_time()
        scheduler.turn()
        spent["ends"] += time.process_time() - start
        scheduler.run_chosen()
    print(f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}")
    for what, seconds in spent.items():
        print(f"{options.waiting} stages wait, one {what}: {1000 * seconds / TURNS:.2f} ms of CPU")
    total = 1000 * sum(spent.values()) / TURNS
    print(f"a stage on 64 GPUs: {total:.2f} ms of CPU (below 3)")


if __name__ == "__main__":
    main()
