"""Steps that run, by coordinator, without Ray."""

from collections.abc import Mapping, Sequence

from probe_stages import Probe, make_trial

from sweeps.cluster.messages import StageRequest
from sweeps.driver.queue import TrialStep
from sweeps.driver.tune import STEPS_EACH, StepSource


class Steps:
    """As many steps as a test wants, their source, and those that ended."""

    def __init__(self, number: int, *, limit: int) -> None:
        self.limit = limit
        self.ended: list[tuple[int, Mapping[str, str]]] = []
        self.said: list[str] = []
        trial = make_trial(0, data=Probe(label="data"))
        self._all = [TrialStep(trial=trial, fields=("data",)) for _ in range(number)]
        self._left = list(self._all)
        self.source = StepSource(
            launch=lambda: self._left.pop(0) if self._left else None,
            finished=lambda: len(self.ended) == number,
            requests=lambda step: [StageRequest(node={"number": self.number(step)})],
            limit=lambda: self.limit,
            end=lambda step, failed: self.ended.append((self.number(step), failed)),
            say=self.said.append,
        )

    def number(self, step: TrialStep) -> int:
        """Place of a step among all."""
        return next(index for index, each in enumerate(self._all) if each is step)


def numbers(given: Mapping[str, Sequence[StageRequest]]) -> list[int]:
    return [request.node["number"] for (request,) in given.values()]


def test_coordinator_is_given_as_many_steps_as_may_run_and_another_when_one_ends() -> None:
    steps = Steps(5, limit=3)
    source = steps.source
    assert source.open("a")
    assert not source.open("b"), "the first has room"
    given = source.report("a", [], held=0)
    assert numbers(given) == [0, 1, 2]
    assert source.report("a", [], held=3) == {}
    names = list(given)
    assert numbers(source.report("a", [(names[1], {"data": "no image"})], held=2)) == [3]
    assert steps.ended == [(1, {"data": "no image"})]
    steps.limit = 5
    more = source.report("a", [], held=3)
    assert numbers(more) == [4]


def test_process_that_was_started_again_is_given_what_the_dead_one_held() -> None:
    steps = Steps(3, limit=3)
    source = steps.source
    source.open("a")
    names = list(source.report("a", [], held=0))
    source.report("a", [(names[0], {})], held=2)
    assert list(source.report("a", [], held=0)) == names[1:]
    # the dead process had ended it, but not reported it any more
    source.report("a", [(names[1], {}), (names[2], {})], held=0)
    source.report("a", [(names[2], {})], held=0)
    assert [number for number, _ in steps.ended] == [0, 1, 2]
    assert source.finished()


def test_coordinator_that_is_full_gets_another_one_beside_it() -> None:
    steps = Steps(STEPS_EACH + 10, limit=STEPS_EACH + 5)
    source = steps.source
    source.open("a")
    assert len(source.report("a", [], held=0)) == STEPS_EACH
    assert source.open("b")
    assert len(source.report("b", [], held=0)) == 5
    assert not source.open("c")
    assert len(source.running) == steps.limit


def test_step_whose_end_raises_is_told_and_ends_nothing_else() -> None:
    steps = Steps(2, limit=2)
    source = steps.source
    source.open("a")
    names = list(source.report("a", [], held=0))

    def fail(step: TrialStep, failed: Mapping[str, str]) -> None:
        raise OSError("the disk is full")

    source._end = fail
    source.report("a", [(names[0], {}), (names[1], {})], held=0)
    assert steps.said == ["warning: variant 0 \u00b7 seed 0: OSError: the disk is full"] * 2
    assert not source.running
