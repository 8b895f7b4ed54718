"""A trial on the cluster: a light process that requests the stages of one pipeline, upstream first.

It holds no GPU and next to no CPU, gets plain data only, and does not import torch.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import ray
from ray import tune

from sweeps.cluster.messages import Answer, AnswerState, StageRequest

# The scheduler answers at once when a stage ends; this is how often a hold is renewed until then.
WAIT_S = 5.0
# An input that is lost more often than this is not lost by accident.
MAX_LOSSES = 3


def coordinate(config: Mapping[str, Any], *, scheduler: Any) -> None:  # noqa: ANN401
    """See the stages of `config["requests"]` through to their ends, as Tune's trainable.

    A stage's failure is not a failure of the coordinator, which Tune would only repeat: it ends the
    stages that need it, the rest of the trial goes on, and the driver reads the failures in the
    last report."""
    trial = tune.get_context().get_trial_id()
    stages = TrialStages(config["requests"])
    asked: dict[Any, StageRequest] = {}
    while True:
        for request in stages.ready():
            asked[scheduler.ensure.remote(request, trial, WAIT_S)] = request
        if not asked:
            return
        # One answer at a time: what it frees is requested before the other stages end.
        (reference,), _ = ray.wait(list(asked), num_returns=1)
        request = asked.pop(reference)
        answer = ray.get(reference)
        # A pending stage is forgotten here, so the next `ready` asks for it again; that request
        # renews the hold.
        stages.take(request.field, answer)
        if answer.state is not AnswerState.PENDING:
            tune.report({"num_done": len(stages.done), "failed": dict(stages.failed)})


class TrialStages:
    """Account of the stages of one trial: which can be requested, are done, or failed.

    Attributes:
        done: fields of the stages whose artifacts are there.
        failed: errors by field.
    """

    def __init__(self, requests: Sequence[StageRequest]) -> None:
        self.done: set[str] = set()
        self.failed: dict[str, str] = {}
        self._requests = requests
        self._asked: set[str] = set()
        self._losses: Counter[str] = Counter()

    def ready(self) -> Iterator[StageRequest]:
        """Yield the stages whose inputs are there and that are not requested yet."""
        for request in self._requests:
            over = request.field in self.done or request.field in self.failed
            waits = not self.done.issuperset(request.inputs)
            if not over and not waits and request.field not in self._asked:
                self._asked.add(request.field)
                yield request

    def take(self, field: str, answer: Answer) -> None:
        """Take the scheduler's answer to the request for the stage in `field`."""
        self._asked.discard(field)
        if answer.state is AnswerState.DONE:
            self.done.add(field)
        elif answer.state is AnswerState.FAILED:
            self.failed[field] = answer.error
        elif answer.state is AnswerState.INPUT_LOST:
            self._losses[field] += 1
            # the input is requested again, and this stage after it
            self.done.discard(answer.field)
            if self._losses[field] > MAX_LOSSES:
                self.failed[field] = f"its input {answer.field} is lost again and again"
