"""Number of trials at a time, which follows the cluster while a sweep runs."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import ray

from occse.naming.counts import number
from occse.stage import Resources
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
# A few coordinators see so many through. Each waiting request is one of the scheduler's concurrent
# calls, and a trial may wait for five stages at once.
MOST = 2000
# A machine takes minutes to start.
LOOK_S = 10.0


def see_cluster() -> Sequence[Machine]:
    """Return the machines that are alive of the cluster that this process is connected to."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


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
        see: Callable[[], Sequence[Machine]] = see_cluster,
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
        self._machines = see()
        self._looked = clock()

    @property
    def machines(self) -> Sequence[Machine]:
        """Machines that were alive at the last look."""
        return self._machines

    def add(self, stages: Iterable[Resources]) -> None:
        """Take in the resources of stages that are to run."""
        self._stages.update(stages)

    def look(self) -> None:
        """Look at the cluster again."""
        # Nothing is alive only while the head does not answer.
        self._machines = self._see() or self._machines
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
        return stages_at_once(self._stages, self._machines)

    def tell(self, trials: int) -> None:
        """Say how many trials run at a time where that is fewer than `trials`, and why."""
        bound = self.limit()
        # nobody needs to be told the number that he asked for
        if bound >= trials or self.paused or self.wanted is not None:
            return
        line = f"{number(bound, 'trial')} at a time; --max-concurrent gives another number"
        if line != self._told:
            self._told = line
            self._say(line)

    def _follow(self) -> int:
        """Return how many trials fill the cluster."""
        least = GROWING if self._growing else LEAST
        return min(max(least, PER_SLOT * self.slots()), MOST)
