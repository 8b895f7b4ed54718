"""Simulation of a cluster: durations replayed through the scheduler's own policy."""

import heapq
import itertools
import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from sweeps.cluster.policy import EXACT, Amounts, Waiting, choose, cpus_beside_gpus, longest_paths


@dataclass(frozen=True, kw_only=True)
class Task:
    """A stage to run: the fingerprints that it reads, its resources and its duration."""

    inputs: Collection[str]
    needs: Amounts
    seconds: float


def makespan(tasks: Mapping[str, Task], machines: Sequence[Amounts]) -> float:
    """Return the seconds from the first start to the last end of `tasks` on `machines`.

    Tasks are given by fingerprint, upstream first. Inputs that are no task are in the store. The
    time that Ray takes to start a process is not counted.

    Raises:
        ValueError: a stage needs more than any machine has.
    """
    replay = _Replay(tasks, machines)
    now = 0.0
    replay.start()
    while replay.running:
        now = replay.advance()
    if replay.ready:
        needs = ", ".join(f"{amount:g} {name}" for name, amount in replay.ready[0].needs.items())
        raise ValueError(f"no machine of the cluster has {needs}")
    return now


class _Replay:
    def __init__(self, tasks: Mapping[str, Task], machines: Sequence[Amounts]) -> None:
        self._tasks = tasks
        self._totals = machines
        self._free = [dict(machine) for machine in machines]
        inputs = {name: task.inputs for name, task in tasks.items()}
        self._paths = longest_paths(inputs, {name: task.seconds for name, task in tasks.items()})
        self._kept = cpus_beside_gpus(inputs, {name: task.needs for name, task in tasks.items()})
        self._known: Counter[float] = Counter()  # of what is ready or runs, the CPUs to keep for it
        self._missing = {
            name: len({need for need in task.inputs if need in tasks})
            for name, task in tasks.items()
        }
        self._users: dict[str, list[str]] = {}
        for name, task in tasks.items():
            for need in set(task.inputs):
                self._users.setdefault(need, []).append(name)
        # by what they need, the longest path first: of those that need the same, the first is as
        # good as all
        self._ready: dict[tuple[tuple[str, float], ...], list[tuple[float, int, Waiting]]] = {}
        self._order = {name: number for number, name in enumerate(tasks)}
        self.running: list[tuple[float, int, str, int]] = []

    @property
    def ready(self) -> list[Waiting]:
        heaps = itertools.chain.from_iterable(self._ready.values())
        return [stage for _, _, stage in heaps]

    def start(self) -> None:
        for name, missing in self._missing.items():
            if not missing:
                self._make_ready(name)
        self._start_what_fits(0.0)

    def advance(self) -> float:
        """To the next time at which something ends."""
        now = self.running[0][0]
        while self.running and self.running[0][0] <= now:
            _, _, name, place = heapq.heappop(self.running)
            self._occupy(name, place, -1)
            self._known[self._kept[name]] -= 1
            for user in self._users.get(name, ()):
                self._missing[user] -= 1
                if not self._missing[user]:
                    self._make_ready(user)
        self._start_what_fits(now)
        return now

    def _make_ready(self, name: str) -> None:
        needs = self._tasks[name].needs
        stage = Waiting(fingerprint=name, needs=needs, path_s=self._paths[name])
        heap = self._ready.setdefault(tuple(needs.items()), [])
        # The order makes entries differ, so that stages themselves are never compared.
        heapq.heappush(heap, (-stage.path_s, self._order[name], stage))
        self._known[self._kept[name]] += 1

    def _start_what_fits(self, now: float) -> None:
        first = list(self._first())
        kept = max((kept for kept, count in self._known.items() if count), default=0.0)
        chosen = choose([entry[-1] for entry in first], self._free, totals=self._totals, kept=kept)
        for stage, place in chosen:
            name = stage.fingerprint
            self._occupy(name, place, 1)
            heapq.heappush(
                self.running, (now + self._tasks[name].seconds, self._order[name], name, place)
            )
        started = {stage.fingerprint for stage, _ in chosen}
        for entry in first:
            if entry[-1].fingerprint not in started:
                heapq.heappush(self._ready[tuple(entry[-1].needs.items())], entry)

    def _first(self) -> Iterator[tuple[float, int, Waiting]]:
        """Take out, of those that need the same, as many as there is room for, and at least one.

        The first of them may reserve a machine though it has no room yet."""
        for needs, heap in self._ready.items():
            for _ in range(min(len(heap), max(1, self._room(needs)))):
                yield heapq.heappop(heap)

    def _room(self, needs: tuple[tuple[str, float], ...]) -> int:
        asked = [(name, amount) for name, amount in needs if amount]
        if not asked:
            return len(self._tasks)
        return sum(
            math.floor(min((machine.get(name, 0.0) + EXACT) / amount for name, amount in asked))
            for machine in self._free
        )

    def _occupy(self, name: str, place: int, sign: int) -> None:
        for resource, amount in self._tasks[name].needs.items():
            self._free[place][resource] = self._free[place].get(resource, 0.0) - sign * amount
