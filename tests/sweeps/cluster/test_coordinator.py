import inspect

from probe_stages import Probe, make_trial

from sweeps.cluster.coordinator import MAX_LOSSES, Coordinator, TrialStages
from sweeps.cluster.messages import Answer, AnswerState, StageRequest

DONE = Answer(state=AnswerState.DONE)


def stages_of() -> TrialStages:
    trial = make_trial(
        0,
        data=Probe(label="data"),
        oc=Probe(label="oc", upstream=("data",)),
        cam=Probe(label="cam", upstream=("oc",)),
        crf=Probe(label="crf", upstream=("data",)),
    )
    return TrialStages([StageRequest(node=node.dump()) for node in trial.nodes.values()])


def ready(stages: TrialStages) -> list[str]:
    return [request.field for request in stages.ready()]


def test_coordinator_takes_its_calls_in_order() -> None:
    coroutines = inspect.getmembers(Coordinator, inspect.iscoroutinefunction)
    assert coroutines == [], "with one of them Ray makes it an actor of concurrent calls"


def test_stage_is_requested_once_when_its_inputs_are_there() -> None:
    stages = stages_of()
    assert ready(stages) == ["data"]
    assert ready(stages) == []
    stages.take("data", DONE)
    assert ready(stages) == ["oc", "crf"]


def test_pending_stage_is_requested_again() -> None:
    stages = stages_of()
    assert ready(stages) == ["data"]
    stages.take("data", Answer(state=AnswerState.PENDING))
    assert ready(stages) == ["data"]


def test_failure_ends_what_hangs_on_it_and_nothing_else() -> None:
    stages = stages_of()
    ready(stages)
    stages.take("data", DONE)
    ready(stages)
    stages.take("oc", Answer(state=AnswerState.FAILED, error="no such image"))
    stages.take("crf", DONE)
    assert ready(stages) == []
    assert stages.failed == {"oc": "no such image"}
    assert stages.done == {"data", "crf"}


def test_lost_input_is_requested_first_and_not_for_ever() -> None:
    stages = stages_of()
    ready(stages)
    stages.take("data", DONE)
    assert ready(stages) == ["oc", "crf"]
    for _ in range(MAX_LOSSES):
        stages.take("oc", Answer(state=AnswerState.INPUT_LOST, field="data"))
        assert ready(stages) == ["data"]
        stages.take("data", DONE)
        assert ready(stages) == ["oc"]
    stages.take("oc", Answer(state=AnswerState.INPUT_LOST, field="data"))
    assert stages.failed == {"oc": "its input data is lost again and again"}
