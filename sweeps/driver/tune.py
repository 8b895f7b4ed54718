"""Steps of trials on Ray Tune: its trials are coordinators, each of which sees many steps through.

Ray Tune does four things for us. It starts a coordinator whenever the source has more steps than
those that run can hold. It starts a coordinator again that died with its machine, which is given
anew what it held. It places coordinators on the head node, by a placement group. And its trial
scheduler, `StepScheduler`, is asked at each report of a coordinator what it does next: it takes
the steps that ended, hands out new ones, and ends the coordinator when nothing will come any more.

A Tune trial is not a trial of the sweep. Tune gives each of its trials a process, of 200 MB and
some seconds to start, which a step that only waits for its stages does not need. Tune does nothing
else here. It runs no stage and holds no resource of one: the scheduler does, because stages are
shared by trials. It does not decide which step comes next (`TrialQueue`), stop trials early
(gates), suggest values (Optuna in `sweeps.selection`), log results (`Recorder`), keep checkpoints
(the stages do, in the store) or restore a run (the same command does)."""

import itertools
import tempfile
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ray import tune
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from sweeps.cluster.coordinator import Coordinator
from sweeps.cluster.messages import StageRequest
from sweeps.driver.queue import TrialStep
from sweeps.text import Say

# How often Tune starts a coordinator again that died. It does nothing but ask, so that what kills
# it more often is a fault that goes on.
COORDINATOR_RETRIES = 3
# Steps of one coordinator: a process for each would take the head's memory, and with one process
# for thousands its death would delay them all.
STEPS_EACH = 200

# Takes a step that ended, and the errors of its stages by field.
EndStep = Callable[[TrialStep, Mapping[str, str]], None]


class StepSource:
    """Steps that run now, and the functions that give more and take those that ended.

    Args:
        launch: gives the next step; None while there is none.
        finished: whether none will come any more.
        requests: what a step asks the scheduler for.
        limit: how many steps may run now. Tune's own limit cannot change while it runs.
        end: takes a step that ended.
        say: takes a warning for people.

    Attributes:
        running: steps by the ids under which their stages are requested.
        ended: how many steps came to an end.
    """

    def __init__(
        self,
        *,
        launch: Callable[[], TrialStep | None],
        finished: Callable[[], bool],
        requests: Callable[[TrialStep], Sequence[StageRequest]],
        limit: Callable[[], int],
        end: EndStep,
        say: Say,
    ) -> None:
        self.running: dict[str, TrialStep] = {}
        self.ended = 0
        self.finished = finished
        self._launch = launch
        self._requests = requests
        self._limit = limit
        self._end = end
        self._say = say
        # Ids of steps by coordinator, in the order of their starts.
        self._held: dict[str, dict[str, None]] = {}
        # Two drivers of one sweep share a scheduler, and must not share ids.
        self._ids = (f"{uuid.uuid4().hex[:8]}_{number:05d}" for number in itertools.count())

    def forget_running(self) -> None:
        """Count no step as running: Tune has ended, and all its coordinators with it."""
        self.running.clear()
        self._held.clear()

    def open(self, coordinator: str) -> bool:
        """Launch a step for a new coordinator; False where none is needed, or there is no step."""
        if any(len(held) < STEPS_EACH for held in self._held.values()):
            return False
        return bool(self._launch_for(coordinator, room=1))

    def report(
        self, coordinator: str, ends: Sequence[tuple[str, Mapping[str, str]]], *, held: int
    ) -> dict[str, Sequence[StageRequest]]:
        """Take a coordinator's report.

        Args:
            coordinator: its id.
            ends: steps that ended, and the errors of their stages.
            held: how many steps it has left.

        Returns:
            The requests of the steps that it is to take on, by id.
        """
        own = self._held[coordinator]
        for name, failed in ends:
            if name in own:
                del own[name]
                self._finish(self.running.pop(name), failed)
        # A process that was started again has none of the steps of the one that died.
        given = list(own) if held != len(own) else []
        given += self._launch_for(coordinator, room=STEPS_EACH - len(own))
        return {name: self._requests(self.running[name]) for name in given}

    def _launch_for(self, coordinator: str, *, room: int) -> list[str]:
        names: list[str] = []
        while len(names) < room and len(self.running) < self._limit():
            step = self._launch()
            if step is None:
                break
            name = next(self._ids)
            self.running[name] = step
            self._held.setdefault(coordinator, {})[name] = None
            names.append(name)
        return names

    def _finish(self, step: TrialStep, failed: Mapping[str, str]) -> None:
        self.ended += 1
        try:
            self._end(step, failed)
        # An exception here would end the whole Tune run.
        except Exception as error:
            self._say(f"warning: {step.trial.name}: {type(error).__name__}: {error}")


class CoordinatorSearcher(Searcher):  # type: ignore[misc]  # Ray has no types
    """Tune's source of trials: another coordinator when there are steps that none has room for."""

    def __init__(self, source: StepSource) -> None:
        super().__init__()
        self._source = source

    def __getstate__(self) -> dict[str, object]:
        # Tune pickles it for a restore that is not ours: the store is what a sweep goes on from
        return {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return a configuration for another coordinator; FINISHED where nothing will come."""
        if self._source.open(trial_id):
            return {}
        # None makes Tune ask again: a gate may let a trial go on when a running step has ended.
        return str(Searcher.FINISHED) if self._source.finished() else None

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """End Tune where a coordinator died too often, so that its steps go on in a new run.

        Raises:
            RuntimeError: it did.
        """
        if error:
            raise RuntimeError(f"a coordinator died {COORDINATOR_RETRIES + 1} times")

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: the store is what a sweep goes on from."""


class StepScheduler(FIFOScheduler):  # type: ignore[misc]
    """Tune's trial scheduler: answers each report of a coordinator with more steps, or its end."""

    def __init__(self, source: StepSource) -> None:
        super().__init__()
        self._source = source

    def __getstate__(self) -> dict[str, object]:
        return {}  # see `CoordinatorSearcher`

    def on_trial_result(
        self,
        tune_controller: Any,  # noqa: ANN401 - Ray has no types
        trial: Any,  # noqa: ANN401
        result: dict[str, Any],
    ) -> str:
        """Take the ends of steps, and hand out others."""
        given = self._source.report(trial.trial_id, result["ended"], held=result["held"])
        if given:
            # Before the call that asks for the next report, which the process takes after this.
            trial.temporary_state.ray_actor.take.remote(given)
        return str(self.STOP if self._source.finished() else self.CONTINUE)


def run_steps(source: StepSource, scheduler: Any) -> None:  # noqa: ANN401 - an actor handle
    """Run all steps of `source` with Ray Tune.

    Raises:
        RuntimeError: a coordinator died too often. Ray Tune raises others.
    """
    trainable = tune.with_parameters(Coordinator, scheduler=scheduler)
    # Ray names the process by it.
    trainable.__qualname__ = Coordinator.__qualname__
    # Not in the store: nobody needs what a killed driver leaves of it, and coordinators keep no
    # checkpoints there.
    with tempfile.TemporaryDirectory(prefix="occse-tune-") as results:
        tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=CoordinatorSearcher(source),
                scheduler=StepScheduler(source),
                # Without end: the source says when there is nothing more, which depends on gates
                # and search.
                num_samples=-1,
                trial_dirname_creator=lambda trial: str(trial.trial_id),
            ),
            run_config=tune.RunConfig(
                name="sweep",
                storage_path=results,
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=COORDINATOR_RETRIES),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        ).fit()
