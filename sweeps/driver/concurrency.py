"""Number of trials at a time, which follows the cluster while a sweep runs."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import ray

from occse.naming.counts import number
from occse.stage import Resources
from sweeps.cluster.head import HEAD
from sweeps.cluster.machines import Machine
from sweeps.plan.room import stages_at_once
from sweeps.text import Say

# Trials at a time on a cluster that may grow, whatever it has now: the machines that their stages
# ask for make room for more.
GROWING = 16
# A trial waits for its stages most of the time, and one that waits occupies nothing.
PER_SLOT = 2
# On a machine of one CPU too, the stages of several trials keep it busy without a pause.
LEAST = 4
# Each coordinator holds a thousandth of the mark on the head; the rest is for the scheduler.
MOST = 900
# Memory of a coordinator's process, as measured.
COORDINATOR_BYTES = 200 << 20
# Part of the head's memory that coordinators may take: driver, scheduler and MLflow need theirs,
# and so do stages where the head runs some.
PART_OF_HEAD = 0.5
PART_BESIDE_STAGES = 0.25
# A machine takes minutes to start.
LOOK_S = 10.0


@dataclass(frozen=True, kw_only=True)
class View:
    """Machines of a cluster that are alive, and the bytes that its head has for trials."""

    machines: Sequence[Machine]
    head_bytes: float


def see_cluster() -> View:
    """Return the machines of the cluster that this process is connected to."""
    (mark,) = HEAD
    resources = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    head_bytes = 0.0
    for machine in resources:
        if mark in machine:
            part = PART_BESIDE_STAGES if machine.get("CPU") else PART_OF_HEAD
            head_bytes += part * machine.get("memory", 0.0)
    return View(machines=resources, head_bytes=head_bytes)


class Concurrency:
    """Decides how many trials run at a time: enough to fill the cluster as it is now.

    Args:
        wanted: number that the user asked for; None for one that follows the cluster.
        growing: whether the cluster starts machines on demand.
        say: takes a line when the number changes.
        see: looks at the cluster.
        clock: seconds of a monotonic clock.

    Attributes:
        wanted: may be set while the sweep runs.
        paused: may be set while the sweep runs; no trial starts then.
    """

    def __init__(
        self,
        *,
        wanted: int | None,
        growing: bool,
        say: Say,
        see: Callable[[], View] = see_cluster,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.wanted = wanted
        self.paused = False
        self._growing = growing
        self._say = say
        self._see = see
        self._clock = clock
        self._stages: Counter[Resources] = Counter()
        self._told = ""
        self._view = see()
        self._looked = clock()

    @property
    def machines(self) -> Sequence[Machine]:
        """Machines that were alive at the last look."""
        return self._view.machines

    def add(self, stages: Iterable[Resources]) -> None:
        """Take in the resources of stages that are to run."""
        self._stages.update(stages)

    def look(self) -> None:
        """Look at the cluster again."""
        view = self._see()
        # Nothing is alive only while the head does not answer.
        self._view = view if view.machines else self._view
        self._looked = self._clock()

    def limit(self) -> int:
        """Return how many trials may run now; look at the cluster again if that was long ago."""
        if self._clock() - self._looked > LOOK_S:
            self.look()
        if self.paused:
            return 0
        if self.wanted is not None:
            return self.wanted
        return self._follow()

    def slots(self) -> int:
        """Return how many stages run at a time, on average."""
        return stages_at_once(self._stages, self._view.machines)

    def tell(self, trials: int) -> None:
        """Say how many trials run at a time where that is fewer than `trials`, and why."""
        bound = self.limit()
        # nobody needs to be told the number that he asked for
        if bound >= trials or self.paused or self.wanted is not None:
            return
        line = f"{number(bound, 'trial')} at a time"
        if self._enough() > self._most():
            line += f", for the head has {self._view.head_bytes / 2**30:.1f} GB for them"
        line += "; --max-concurrent gives another number"
        if line != self._told:
            self._told = line
            self._say(line)

    def _follow(self) -> int:
        return min(self._enough(), self._most())

    def _enough(self) -> int:
        """Return how many trials fill the cluster."""
        least = GROWING if self._growing else LEAST
        return max(least, PER_SLOT * self.slots())

    def _most(self) -> int:
        """Return how many coordinators the head holds."""
        held = int(self._view.head_bytes / COORDINATOR_BYTES)
        return min(max(LEAST, held), MOST)
