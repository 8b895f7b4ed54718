from sweeps.cluster.messages import (
    ActiveStage,
    EventKind,
    News,
    StageEvent,
    WaitingStage,
    Worker,
)
from sweeps.driver.watchdog import STILL_S, Watchdog


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def waiting(why: str, *, number: int = 1) -> News:
    stages = tuple(
        WaitingStage(field="cam", fingerprint=str(index), why=why) for index in range(number)
    )
    return News(pid=1, waiting=stages)


def test_watchdog_is_silent_until_nothing_moved_for_long_and_then_names_the_reason() -> None:
    clock = Clock()
    dog = Watchdog(clock)
    still = waiting("the store does not answer: no route to host", number=3)
    assert dog.look(still) == ""
    clock.now = STILL_S - 1
    assert dog.look(still) == ""
    clock.now = STILL_S
    assert dog.look(still) == (
        "nothing has moved for 5 min, because the store does not answer: no route to host "
        "(3 waiting)"
    )
    clock.now = STILL_S + 1
    assert dog.look(still) == "", "told a moment ago"
    clock.now = 2 * STILL_S
    assert dog.look(still).startswith("nothing has moved for 10 min")


def test_watchdog_takes_any_event_or_start_as_movement() -> None:
    clock = Clock()
    dog = Watchdog(clock)
    clock.now = STILL_S - 1
    event = StageEvent(id=1, kind=EventKind.DONE, field="cam", fingerprint="f")
    dog.look(News(pid=1, events=(event,)))
    clock.now = 2 * STILL_S - 2
    assert dog.look(News(pid=1)) == ""
    worker = Worker(pid=7, node="node")
    stage = ActiveStage(field="crf", fingerprint="abcdef0123", worker=worker, seconds=1.0)
    assert dog.look(News(pid=1, running=(stage,))) == ""
    clock.now = 4 * STILL_S
    assert "crf abcdef01 runs for 1.0 s (process 7 on node node)" in dog.look(
        News(pid=1, running=(stage,))
    )


def test_watchdog_names_a_scheduler_that_does_not_answer_and_trials_that_ask_for_nothing() -> None:
    clock = Clock()
    dog = Watchdog(clock)
    clock.now = STILL_S
    assert "the scheduler does not answer (gone)" in dog.miss(RuntimeError("gone\nand more"))
    clock.now = 2 * STILL_S
    assert "no trial asks for a stage" in dog.look(News(pid=1))
    clock.now = 3 * STILL_S
    unmet = News(pid=1, waiting=waiting("no machine has room").waiting, unmet=("4 GPUs",))
    assert "no machine of the cluster has 4 GPUs" in dog.look(unmet)
