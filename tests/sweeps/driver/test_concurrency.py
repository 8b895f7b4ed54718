"""Trials at a time, as the machines of the cluster come and go."""

from occse.stage import Resources
from sweeps.driver.concurrency import LOOK_S, MOST, Concurrency

HEAD = {"CPU": 0.0}


class Grown:
    """A cluster that a test changes, and the clock."""

    def __init__(self, *, wanted: int | None = None, growing: bool = False) -> None:
        self.machines = [HEAD]
        self.now = 0.0
        self.said: list[str] = []
        self.concurrency = Concurrency(
            wanted=wanted,
            growing=growing,
            say=self.said.append,
            see=lambda: self.machines,
            clock=lambda: self.now,
        )
        self.concurrency.add([Resources(num_cpus=1)] * 100)

    def add(self, number: int, *, cpus: float) -> None:
        """More machines, and time to see them."""
        self.machines = [*self.machines, *[{"CPU": cpus}] * number]
        self.now += LOOK_S + 1


def test_trials_at_a_time_follow_a_growing_cluster() -> None:
    grown = Grown(growing=True)
    assert grown.concurrency.limit() == 16
    grown.add(4, cpus=8)
    assert grown.concurrency.limit() == 64
    grown.machines = [HEAD, {"CPU": 8.0}]
    assert grown.concurrency.limit() == 64, "it looks again only after a while"
    grown.now += LOOK_S + 1
    assert grown.concurrency.limit() == 16


def test_number_of_trials_is_told_once_in_one_line_and_has_a_bound() -> None:
    grown = Grown()
    grown.add(10, cpus=16)
    for _ in range(3):
        grown.concurrency.tell(1000)
    assert grown.said == ["320 trials at a time; --max-concurrent gives another number"]
    grown.concurrency.add([Resources(num_cpus=1)] * 10_000)
    grown.add(1000, cpus=16)
    assert grown.concurrency.limit() == MOST


def test_number_of_the_user_counts_and_a_pause_more() -> None:
    grown = Grown(wanted=3)
    grown.add(4, cpus=8)
    assert grown.concurrency.limit() == 3
    grown.concurrency.paused = True
    assert grown.concurrency.limit() == 0
    grown.concurrency.paused = False
    grown.concurrency.wanted = 500
    assert grown.concurrency.limit() == 500
