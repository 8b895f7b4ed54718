"""Steps of trials as trials of Ray Tune: each is seen through by a coordinator, a light process."""

import json
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

from ray import tune
from ray.tune.search import Searcher

from sweeps.cluster.coordinator import coordinate
from sweeps.cluster.scheduler import HEAD
from sweeps.cluster.stage_task import Json
from sweeps.driver.queue import TrialStep
from sweeps.text import Say


class TrialSource(Searcher):  # type: ignore[misc]  # Ray has no types
    """Tune's source of trials: each is a step, and carries the requests for its stages.

    Args:
        launch: gives the next step; None while there is none.
        finished: whether none will come any more.
        requests: what a step asks the scheduler for, by field.
    """

    def __init__(
        self,
        *,
        launch: Callable[[], TrialStep | None],
        finished: Callable[[], bool],
        requests: Callable[[TrialStep], Mapping[str, Json]],
    ) -> None:
        super().__init__()
        self.steps: dict[str, TrialStep] = {}
        self._launch, self._finished, self._requests = launch, finished, requests

    def __getstate__(self) -> dict[str, object]:
        # Tune pickles it for a restore that is not ours: the store is what a sweep goes on from
        return {}

    def suggest(self, trial_id: str) -> Json | str | None:
        """The next step as Tune's configuration; None while there is none, FINISHED when none will
        come.
        """
        if (step := self._launch()) is None:
            return str(Searcher.FINISHED) if self._finished() else None
        self.steps[trial_id] = step
        # as one text: Tune copies and prints what it looks into
        return {"requests": json.dumps(self._requests(step))}

    def on_trial_complete(
        self, trial_id: str, result: Json | None = None, error: bool = False
    ) -> None:
        """`_Ended` sees to it."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the store is what a sweep goes on from."""


def run_steps(
    feed: TrialSource,
    scheduler: Any,  # noqa: ANN401 - Ray types no actor handles
    *,
    end: Callable[[TrialStep, Mapping[str, str]], None],
    at_once: int,
    say: Say,
) -> None:
    """Run all steps that `feed` has, and `end` each with its failures by field."""
    trainable = tune.with_parameters(coordinate, scheduler=scheduler)
    # {"CPU": 0} is refused by Tune, and a whole CPU would be missing to the stages
    trainable = tune.with_resources(trainable, tune.PlacementGroupFactory([dict(HEAD)]))
    # not in the store: what a killed driver leaves of it nobody needs, and coordinators keep no
    # checkpoints there
    with tempfile.TemporaryDirectory(prefix="occse-tune-") as results:
        tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=feed,
                num_samples=-1,
                max_concurrent_trials=at_once,
                reuse_actors=True,  # a process of its own takes each coordinator a second
                trial_dirname_creator=lambda trial: str(trial.trial_id),
            ),
            run_config=tune.RunConfig(
                name="sweep",
                storage_path=results,
                verbose=0,
                callbacks=[_Ended(scheduler, feed.steps, end=end, say=say)],
                failure_config=tune.FailureConfig(max_failures=3),
            ),
        ).fit()


class _Ended(tune.Callback):  # type: ignore[misc]
    """Tells of a step that ended and gives back its leases. An exception here would end the whole
    Tune run.
    """

    def __init__(
        self,
        scheduler: Any,  # noqa: ANN401
        steps: Mapping[str, TrialStep],
        *,
        end: Callable[[TrialStep, Mapping[str, str]], None],
        say: Say,
    ) -> None:
        self._scheduler = scheduler
        self._steps = steps
        self._end = end
        self._say = say

    def __getstate__(self) -> dict[str, object]:
        return {}  # see `TrialSource`

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ANN401
        """The coordinator saw its step through; its last report tells what failed."""
        self._finish(trial, trial.last_result.get("failed", {}))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ANN401
        """The coordinator itself died, again and again."""
        self._finish(trial, {"trial": "its coordinating process died too often"})

    def _finish(self, trial: Any, failed: Mapping[str, str]) -> None:  # noqa: ANN401
        try:
            self._scheduler.release.remote(trial.trial_id)
            self._end(self._steps[trial.trial_id], failed)
        except Exception as error:
            self._say(f"warning: {trial}: {type(error).__name__}: {error}")
