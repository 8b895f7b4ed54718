"""Steps of trials as trials of Ray Tune: a coordinator, a light process, sees each of them through.

Ray Tune does four things for us. It starts a coordinator for each step that the source gives, and
the source gives as many as may run at a time. It starts a coordinator again that died with its
machine. It places coordinators on the head node, by a placement group. And it is what users of Ray
know: its searchers, callbacks and trial ids are the ways in for their own tools.

Ray Tune does nothing else here. It runs no stage and holds no resource of one: the scheduler does,
because stages are shared by trials. It does not decide which step comes next (`TrialQueue`), stop
trials early (gates), suggest values (Optuna in `sweeps.selection`), log results (`Recorder`), keep
checkpoints (the stages do, in the store) or restore a run (the same command does)."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ray import tune
from ray.tune.search import Searcher

from sweeps.cluster.coordinator import coordinate
from sweeps.cluster.head import HEAD
from sweeps.cluster.messages import StageRequest
from sweeps.driver.queue import TrialStep
from sweeps.text import Say

# How often Tune starts a coordinator again that died. It does nothing but ask, so that what kills
# it more often is a fault that goes on.
COORDINATOR_RETRIES = 3

# Takes a step that ended, and the errors of its stages by field.
EndStep = Callable[[TrialStep, Mapping[str, str]], None]


class TrialSource(Searcher):  # type: ignore[misc]  # Ray has no types
    """Tune's source of trials: each is a step, and carries the requests for its stages.

    Args:
        launch: gives the next step; None while there is none.
        finished: whether none will come any more.
        requests: what a step asks the scheduler for.
        limit: how many steps may run now. Tune's own limit cannot change while it runs.
    """

    def __init__(
        self,
        *,
        launch: Callable[[], TrialStep | None],
        finished: Callable[[], bool],
        requests: Callable[[TrialStep], Sequence[StageRequest]],
        limit: Callable[[], int],
    ) -> None:
        super().__init__()
        self.steps: dict[str, TrialStep] = {}
        self._launch = launch
        self._finished = finished
        self._requests = requests
        self._limit = limit
        self._running: set[str] = set()

    def forget_running(self) -> None:
        """Count no step as running: Tune has ended, and all its coordinators with it."""
        self._running.clear()

    def __getstate__(self) -> dict[str, object]:
        # Tune pickles it for a restore that is not ours: the store is what a sweep goes on from
        return {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the next step as Tune's configuration; FINISHED where none will come any more."""
        # Tune asks again in a moment, and ends only when the source says that it is finished.
        step = self._launch() if len(self._running) < self._limit() else None
        if step is None:
            # None makes Tune ask again: a gate may let a trial go on when a running step has ended.
            return str(Searcher.FINISHED) if self._finished() else None
        self.steps[trial_id] = step
        self._running.add(trial_id)
        return {"requests": self._requests(step)}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Make room for another step; `_Ended` does the rest."""
        self._running.discard(trial_id)

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: the store is what a sweep goes on from."""


def run_steps(
    source: TrialSource,
    scheduler: Any,  # noqa: ANN401 - Ray types no actor handles
    *,
    end: EndStep,
    say: Say,
) -> None:
    """Run all steps of `source`, and call `end` for each."""
    trainable = tune.with_parameters(coordinate, scheduler=scheduler)
    # {"CPU": 0} is refused by Tune, and a whole CPU would be missing to the stages
    trainable = tune.with_resources(trainable, tune.PlacementGroupFactory([dict(HEAD)]))
    # Not in the store: nobody needs what a killed driver leaves of it, and coordinators keep no
    # checkpoints there.
    with tempfile.TemporaryDirectory(prefix="occse-tune-") as results:
        tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=source,
                # Without end: the source says when there is nothing more, which depends on gates
                # and search.
                num_samples=-1,
                reuse_actors=True,  # a process of its own takes each coordinator a second
                trial_dirname_creator=lambda trial: str(trial.trial_id),
            ),
            run_config=tune.RunConfig(
                name="sweep",
                storage_path=results,
                verbose=0,
                callbacks=[_Ended(scheduler, source.steps, end=end, say=say)],
                failure_config=tune.FailureConfig(max_failures=COORDINATOR_RETRIES),
            ),
        ).fit()


class _Ended(tune.Callback):  # type: ignore[misc]
    """Ends a step and gives up what it holds. An exception here would end the whole Tune run."""

    def __init__(
        self,
        scheduler: Any,  # noqa: ANN401
        steps: Mapping[str, TrialStep],
        *,
        end: EndStep,
        say: Say,
    ) -> None:
        self._scheduler = scheduler
        self._steps = steps
        self._end = end
        self._say = say

    def __getstate__(self) -> dict[str, object]:
        return {}  # see `TrialSource`

    def on_trial_complete(
        self,
        iteration: int,
        trials: list[Any],
        trial: Any,  # noqa: ANN401 - Ray has no types
        **info: Any,  # noqa: ANN401
    ) -> None:
        """Take the end of a coordinator; its last report has the errors of its stages."""
        self._finish(trial, trial.last_result.get("failed", {}))

    def on_trial_error(
        self,
        iteration: int,
        trials: list[Any],
        trial: Any,  # noqa: ANN401
        **info: Any,  # noqa: ANN401
    ) -> None:
        """Take the end of a coordinator that died again and again."""
        self._finish(trial, {"trial": "its coordinating process died too often"})

    def _finish(self, trial: Any, failed: Mapping[str, str]) -> None:  # noqa: ANN401
        try:
            # A coordinator that died too often holds its stages still, and they would run on for a
            # minute.
            self._scheduler.release.remote(trial.trial_id)
            self._end(self._steps[trial.trial_id], failed)
        except Exception as error:
            self._say(f"warning: {trial}: {type(error).__name__}: {error}")
