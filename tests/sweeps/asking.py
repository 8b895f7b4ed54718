"""Requests to a real scheduler, as trials make them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
from probe_stages import Probe, make_trial
from waiting import wait_until

from sweeps.cluster.messages import (
    ActiveStage,
    Answer,
    AnswerState,
    EventKind,
    News,
    SchedulerSettings,
    StageRequest,
)
from sweeps.cluster.scheduler import connect

DONE = Answer(state=AnswerState.DONE)


def scheduler_of(store: str | Path, *, name: str = "") -> Any:
    """The scheduler of a store; another `name` gives the one that another cluster would have."""
    if isinstance(store, Path):
        store.mkdir(exist_ok=True)
    git = {"sha": name} if name else {}
    return connect(SchedulerSettings(root=str(store), git=git))


def request_of(
    probe: Probe,
    *,
    cpus: float = 1,
    gpus: float = 0,
    path_s: float = 0,
    cpus_per_gpu: float = 0,
) -> StageRequest:
    """The request for a probe in the field `data`."""
    (node,) = make_trial(0, data=probe).nodes.values()
    return StageRequest(
        node=node.dump(), num_cpus=cpus, num_gpus=gpus, path_s=path_s, cpus_per_gpu=cpus_per_gpu
    )


def ensure(scheduler: Any, request: StageRequest, *, trial: str = "a trial") -> Answer:
    """Ask until the stage has ended, as a trial does."""
    (answer,) = settle(scheduler, request, trial=trial)
    return answer


def settle(scheduler: Any, *requests: StageRequest, trial: str = "a trial") -> list[Answer]:
    """Ask for all of them at once until each has ended; the answers, in the same order."""
    answers: dict[int, Answer] = {}

    def all_answered() -> bool:
        asked = {
            index: scheduler.ensure.remote(request, trial, 1.0)
            for index, request in enumerate(requests)
            if index not in answers
        }
        for index, reference in asked.items():
            answer = ray.get(reference)
            if answer.state is not AnswerState.PENDING:
                answers[index] = answer
        return len(answers) == len(requests)

    wait_until(all_answered)
    return [answers[index] for index in range(len(requests))]


def ask(scheduler: Any, request: StageRequest, *, until: Callable[[], object]) -> None:
    """Ask as a trial does, until something holds."""

    def holds() -> object:
        ray.get(scheduler.ensure.remote(request, "a trial", 0.5))
        return until()

    wait_until(holds)


def news(scheduler: Any) -> News:
    """Everything that the scheduler has to tell."""
    found: News = ray.get(scheduler.news.remote())
    return found


def kinds(scheduler: Any) -> list[EventKind]:
    """The kinds of all events, in order."""
    return [event.kind for event in news(scheduler).events]


def running(scheduler: Any, *, at: Callable[[], object] = lambda: True) -> ActiveStage:
    """The one stage that runs, once `at` holds."""
    wait_until(lambda: at() and news(scheduler).running)
    return news(scheduler).running[0]
