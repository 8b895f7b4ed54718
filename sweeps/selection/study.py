"""Search: Optuna suggests variants, one after the other, and hears what came out.

The study is kept in a database, so that the same command goes on where it stopped.
"""

import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from statistics import fmean
from typing import TYPE_CHECKING, Any

from occse.artifacts.secrets import masked
from sweeps.spec.axes import DIGITS, Axis, knobs_of
from sweeps.spec.model import Spec
from sweeps.spec.search import COSTS, SearchSpec
from sweeps.spec.trials import Trial, expansion
from sweeps.spec.variants import Writing, at, holds
from sweeps.store.store import Store
from sweeps.tracking.database import database

if TYPE_CHECKING:  # importing it takes a second that sweeps without a search do without
    import optuna

# Attribute of Optuna's trials that are no suggestions of their own; its value says why not.
UNCOUNTED = "uncounted"
# Suggestions in a row that break a constraint. A sampler that finds none among so many finds none:
# the constraints leave less than a hundredth of the space.
MAX_REFUSED = 200
Settings = dict[str, Any]
Holds = Callable[[Axis, Settings], bool]


class Search:
    """Variants that a search has tried and will try.

    Args:
        spec: a sweep with a `search`.
        store: the store with the outcomes.
        first: position of the first suggested trial among the trials of the sweep.
        create: whether to make the study where there is none; nothing is written otherwise.

    Raises:
        ValueError: see `open_study`.
    """

    def __init__(self, spec: Spec, *, store: Store, first: int, create: bool = True) -> None:
        assert spec.search is not None
        self._spec = spec
        self._search = spec.search
        self._store = store
        self._base = spec.base_pipeline()
        self._expand = expansion(spec)
        self._next_order = first
        # numbers of Optuna's trials by variant: different settings may give the same variant
        self._numbers: dict[str, list[int]] = {}
        # by variant: tells the study, under the number of a trial, what came out
        self._tell: dict[str, Callable[[int], None]] = {}
        self._study = open_study(self._search, spec.name, create=create)
        self._num_made = sum(1 for _ in self._suggestions())
        self._exhausted = False

    @property
    def left(self) -> int:
        """Number of suggestions that are still to be made."""
        return 0 if self._exhausted else max(0, self._search.trials - self._num_made)

    def known(self) -> list[Trial]:
        """Return the trials of the suggestions that former runs made.

        Suggestions of another space than today's are left out.
        """
        trials: list[Trial] = []
        for suggestion in self._suggestions():
            settings = _remembered(self._search.space, suggestion, holds=self._holds)
            writing = None if settings is None else self._write(settings)
            if writing is not None:
                trials += self._take(suggestion.number, writing)
        return trials

    def ask(self) -> list[Trial]:
        """Return the trials of a new variant, one for each seed; empty where none is left.

        A variant that was suggested before is not tried again: the study hears what came out then.

        Raises:
            ValueError: the study was made with other values of a list.
        """
        while self.left:
            suggestion = self._suggest()
            if suggestion is None:
                break
            number, writing = suggestion
            trials = self._take(number, writing)
            if trials:
                return trials
        return []

    def end(self, variant: str, done: Sequence[Trial], *, stopped: bool) -> None:
        """Tell the study how a variant ended.

        Args:
            variant: name of the variant.
            done: its trials that came to their end. Empty where a gate stopped it (`stopped`), or
                all of them failed.
            stopped: whether a gate stopped it.
        """
        tell = partial(self._tell_study, values=self._values(done), stopped=stopped)
        self._tell[variant] = tell
        for number in self._numbers.get(variant, ()):
            tell(number)

    def _suggestions(self) -> "list[optuna.trial.FrozenTrial]":
        """Return Optuna's trials that count as suggestions."""
        if self._study is None:
            return []
        trials = self._study.get_trials(deepcopy=False)
        return [trial for trial in trials if UNCOUNTED not in trial.user_attrs]

    def _suggest(self) -> tuple[int, Writing] | None:
        """Return number and variant of a new suggestion; None where none keeps the constraints."""
        assert self._study is not None
        for _ in range(MAX_REFUSED):
            suggestion = self._study.ask()
            try:
                settings = settle(self._search.space, suggestion, holds=self._holds)
            except ValueError as error:
                self._refuse(suggestion)
                raise ValueError(
                    f"study {self._study.study_name!r} in {masked(self._search.storage)} was made "
                    f"with another search.space ({error}); give `search.study` another name"
                ) from None
            writing = self._write(settings)
            if writing is not None:
                self._num_made += 1
                return suggestion.number, writing
            self._refuse(suggestion)
        self._exhausted = True
        return None

    def _refuse(self, suggestion: "optuna.Trial") -> None:
        """Take a suggestion back: it does not count, and the sampler learns nothing from it."""
        suggestion.set_user_attr(UNCOUNTED, "breaks a constraint")
        self._tell_study(suggestion.number, values=None, stopped=False)

    def _tell_study(self, number: int, *, values: Sequence[float] | None, stopped: bool) -> None:
        """Tell the study once what came out: a value per objective, or None.

        Optuna does not change a trial that failed. If it came to its end after all, a copy of it
        gets the values.
        """
        from optuna.trial import TrialState

        assert self._study is not None
        trial = self._study.get_trials(deepcopy=False)[number]
        if values is not None and trial.state == TrialState.FAIL:
            self._add_copy(trial, values)
            return
        state = None
        if values is None:
            state = TrialState.PRUNED if stopped else TrialState.FAIL
        self._study.tell(number, values, state=state, skip_if_finished=True)

    def _add_copy(self, trial: "optuna.trial.FrozenTrial", values: Sequence[float]) -> None:
        from optuna.trial import create_trial

        assert self._study is not None
        why = f"again: {trial.number}"
        known = self._study.get_trials(deepcopy=False)
        if any(other.user_attrs.get(UNCOUNTED) == why for other in known):
            return
        copy = create_trial(
            params=trial.params,
            distributions=trial.distributions,
            values=list(values),
            user_attrs={UNCOUNTED: why},
        )
        self._study.add_trial(copy)

    def _holds(self, axis: Axis, settings: Settings) -> bool:
        return holds(axis, self._base, self._spec.base | settings)

    def _write(self, settings: Settings) -> Writing | None:
        return at(self._spec, self._base, settings)

    def _take(self, number: int, writing: Writing) -> list[Trial]:
        """Return the trials of a suggestion; none where the variant was suggested before."""
        trials = self._expand(writing)
        variant = trials[0].variant
        numbers = self._numbers.setdefault(variant, [])
        numbers.append(number)
        if len(numbers) > 1:
            if variant in self._tell:
                self._tell[variant](number)
            return []
        first = self._next_order
        self._next_order += len(trials)
        return [replace(trial, order=first + index) for index, trial in enumerate(trials)]

    def _values(self, done: Sequence[Trial]) -> list[float] | None:
        """Return the mean of each objective over trials; None where one has no value."""
        if not done:
            return None
        try:
            return [
                fmean(self._value(objective, trial) for trial in done)
                for objective in self._search.objectives
            ]
        except KeyError:  # such as miou_multi where no image has several classes
            return None

    def _value(self, objective: str, trial: Trial) -> float:
        """Return a metric of a trial, or the hours that its stages take if it shared none."""
        if objective in COSTS:
            gpus = objective == "gpu_hours"
            return sum(self._hours(field, trial, gpus=gpus) for field in trial.nodes)
        field, _, metric = objective.partition("/")
        manifest = self._store.manifest(trial.nodes[field])
        assert manifest is not None
        return manifest.metrics[metric]

    def _hours(self, field: str, trial: Trial, *, gpus: bool) -> float:
        node = trial.nodes[field]
        manifest = self._store.manifest(node)
        hours = 0.0 if manifest is None else manifest.seconds / 3600
        return hours * (self._spec.resources_of(field, node.stage).num_gpus if gpus else 1.0)


def suggested(spec: Spec, *, store: Store, first: int) -> list[Trial]:
    """Return the trials that a search suggested in former runs; none without a search.

    Nothing is written.
    """
    if spec.search is None:
        return []
    return Search(spec, store=store, first=first, create=False).known()


def settle(space: Mapping[str, Axis], trial: "optuna.trial.BaseTrial", *, holds: Holds) -> Settings:
    """Return the settings of one of Optuna's trials: a value by knob, in the order of `space`.

    Args:
        space: the axes. One that does not hold gets no value.
        trial: asked for a value of each axis; a new one draws it, a finished one remembers it.
        holds: called with an axis and the values that earlier axes set.
    """
    settings: Settings = {}
    for key, axis in space.items():
        if not holds(axis, settings):
            continue
        value = _draw(key, axis, trial)
        knobs = knobs_of(key)
        values = [value] if len(knobs) == 1 else value
        settings.update(zip(knobs, values, strict=True))
    return settings


def open_study(search: SearchSpec, name: str, *, create: bool = True) -> "optuna.Study | None":
    """Return the study of the sweep `name` from its database, made if it is not there.

    With `create` False, None stands for a study that is not there.

    Raises:
        ValueError: the database cannot be opened, or has a study of that name with other
            objectives.
    """
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    location = masked(search.storage)
    path = database(search.storage)
    if path is not None:
        if not create and not path.is_file():
            return None
        path.parent.mkdir(parents=True, exist_ok=True)
    name = search.study or name
    ways = {
        "max": optuna.study.StudyDirection.MAXIMIZE,
        "min": optuna.study.StudyDirection.MINIMIZE,
    }
    directions = [ways[way] for way in search.objectives.values()]
    try:
        storage = optuna.storages.get_storage(search.storage)
        names = optuna.get_all_study_names(storage)
        if name not in names and not create:
            return None
        study = optuna.create_study(
            storage=storage, study_name=name, directions=directions, load_if_exists=True
        )
    except (SQLAlchemyError, ImportError, ValueError) as error:
        reason = masked(str(error)).splitlines()[0]
        raise ValueError(f"search.storage: {location}: {reason}") from None
    objectives = list(search.objectives)
    if name not in names:
        with _experimental():
            study.set_metric_names(objectives)
    if study.metric_names != objectives or study.directions != directions:
        others = ", ".join(study.metric_names or ["others"])
        raise ValueError(
            f"search.objectives: the study {name!r} in {location} was made for {others}; "
            "give `search.study` another name"
        )
    study.sampler = _sampler(search, num_drawn=len(study.get_trials(deepcopy=False)))
    return study


def _draw(
    key: str,
    axis: Axis,
    trial: "optuna.trial.BaseTrial",
) -> Any:  # noqa: ANN401 - the value of any knob
    if axis.values is not None:
        # a database takes no lists
        texts = {json.dumps(value): value for value in axis.values}
        return texts[trial.suggest_categorical(key, list(texts))]
    low = axis.start
    high = axis.stop
    step = axis.step
    assert low is not None
    assert high is not None
    if isinstance(low, int) and isinstance(high, int) and isinstance(step, int | None):
        return trial.suggest_int(key, low, high, step=step or 1, log=axis.log)
    drawn = trial.suggest_float(key, low, high, step=step, log=axis.log)
    # few digits, as a person would write it
    return min(max(float(f"{drawn:.{DIGITS}g}"), low), high)


@contextmanager
def _experimental() -> Iterator[None]:
    """Silence the warning about functions that Optuna has called experimental for years."""
    from optuna.exceptions import ExperimentalWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield


def _sampler(search: SearchSpec, *, num_drawn: int) -> "optuna.samplers.BaseSampler":
    import optuna.samplers

    # a study that goes on must not draw its first numbers again
    seed = search.seed + num_drawn
    if search.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    with _experimental():
        # `multivariate`: knobs are drawn together; `group`: an axis with `when` has no value in
        # some trials; `constant_liar`: trials that still run are kept from being drawn again.
        return optuna.samplers.TPESampler(
            seed=seed, multivariate=True, group=True, constant_liar=True
        )


def _remembered(
    space: Mapping[str, Axis], trial: "optuna.trial.FrozenTrial", *, holds: Holds
) -> Settings | None:
    """Return the settings of one of Optuna's trials.

    None where the driver was killed before it had all its values, or the space was another.
    """
    import optuna

    # It draws nothing: asked for a value, it answers with that of the trial.
    fixed = optuna.trial.FixedTrial(trial.params)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a value outside of its range
            return settle(space, fixed, holds=holds)
    except (ValueError, UserWarning, KeyError):
        return None
