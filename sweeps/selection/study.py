"""Search: Optuna suggests variants, one after the other, and hears what came out. The study is kept
in a database.
"""

import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sweeps.spec.axes import DIGITS, Axis, knobs_of
from sweeps.spec.search import Search
from sweeps.tracking.database import database

if TYPE_CHECKING:
    import optuna

# attribute of the study's trials that are no suggestions of their own, and why not
UNCOUNTED = "uncounted"
MAX_REFUSED = 200  # suggestions in a row that break a constraint
Settings = dict[str, Any]
Holds = Callable[[Axis, Settings], bool]


def settle(space: Mapping[str, Axis], trial: "optuna.trial.BaseTrial", *, holds: Holds) -> Settings:
    """What a trial of the study sets: a value by knob, in the order of `space`, without axes that
    do not hold.

    Args:
        space: the axes.
        trial: asked for a value of each axis; a new one draws it, a finished one remembers.
        holds: whether the axis holds, given what earlier ones set.
    """
    found: Settings = {}
    for key, axis in space.items():
        if holds(axis, found):
            value, knobs = _value(key, axis, trial), knobs_of(key)
            found |= {knobs[0]: value} if len(knobs) == 1 else dict(zip(knobs, value, strict=True))
    return found


def _value(key: str, axis: Axis, trial: "optuna.trial.BaseTrial") -> Any:  # noqa: ANN401 - whatever the knob takes
    if axis.values is not None:
        texts = {json.dumps(value): value for value in axis.values}  # a database takes no lists
        return texts[trial.suggest_categorical(key, list(texts))]
    low, high, step = axis.start, axis.stop, axis.step
    assert low is not None
    assert high is not None
    if isinstance(low, int) and isinstance(high, int) and isinstance(step, int | None):
        return trial.suggest_int(key, low, high, step=step or 1, log=axis.log)
    drawn = trial.suggest_float(key, low, high, step=step, log=axis.log)
    return min(max(float(f"{drawn:.{DIGITS}g}"), low), high)  # as a person would write it


class Study:
    """A study in its database.

    Args:
        study: Optuna's.
        search: what the file says.
        holds: see `settle`.
        allows: whether a suggestion satisfies the constraints.
    """

    def __init__(
        self,
        study: "optuna.Study",
        search: Search,
        *,
        holds: Holds,
        allows: Callable[[Settings], bool],
    ) -> None:
        self._study, self._search, self._holds, self._allows = study, search, holds, allows
        self._made = sum(
            UNCOUNTED not in trial.user_attrs for trial in study.get_trials(deepcopy=False)
        )
        self.exhausted = False

    @property
    def left(self) -> int:
        """How many suggestions are still to be made."""
        return 0 if self.exhausted else max(0, self._search.trials - self._made)

    def known(self) -> Iterator[tuple[int, Settings]]:
        """Number and settings of the suggestions that former runs made, as far as they are in
        today's space.
        """
        for trial in self._study.get_trials(deepcopy=False):
            settings = _remembered(self._search.space, trial, holds=self._holds)
            if settings is not None and UNCOUNTED not in trial.user_attrs:
                yield trial.number, settings

    def ask(self) -> tuple[int, Settings] | None:
        """Number and settings of a new suggestion; None where one after the other breaks a
        constraint.

        Raises:
            ValueError: the study was made with other values of a list.
        """
        for _ in range(MAX_REFUSED):
            trial = self._study.ask()
            try:
                settings = settle(self._search.space, trial, holds=self._holds)
            except ValueError as error:
                self._refuse(trial)
                raise ValueError(
                    f"study {self._study.study_name!r} in {self._search.storage} was made with another search.space "
                    f"({error}); give `search.study` another name"
                ) from None
            if self._allows(settings):
                self._made += 1
                return trial.number, settings
            self._refuse(trial)
        self.exhausted = True
        return None

    def tell(self, number: int, *, values: Sequence[float] | None, stopped: bool = False) -> None:
        """What came out, once: a value per objective; None where it failed, or where a gate
        `stopped` it.

        A study's trial that failed cannot be changed: if it came to its end after all, a copy of it
        has the values."""
        from optuna.trial import TrialState, create_trial

        told, again = self._study.get_trials(deepcopy=False), f"again: {number}"
        if values is not None and told[number].state == TrialState.FAIL:
            if all(trial.user_attrs.get(UNCOUNTED) != again for trial in told):
                params, distributions = told[number].params, told[number].distributions
                attributes = {UNCOUNTED: again}
                made = create_trial(
                    params=params,
                    distributions=distributions,
                    values=list(values),
                    user_attrs=attributes,
                )
                self._study.add_trial(made)
            return
        state = None if values is not None else TrialState.PRUNED if stopped else TrialState.FAIL
        self._study.tell(number, values, state=state, skip_if_finished=True)

    def _refuse(self, trial: "optuna.Trial") -> None:
        """It does not count as a suggestion, and the sampler learns nothing from it."""
        trial.set_user_attr(UNCOUNTED, "breaks a constraint")
        self.tell(trial.number, values=None)


def open_study(search: Search, name: str, *, create: bool = True) -> "optuna.Study | None":
    """The study of the sweep `name` in its database, made if it is not there; with `create` False,
    None then.

    Raises:
        ValueError: the database cannot be opened, or has a study of that name with other
        objectives.
    """
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if (path := database(search.storage)) is not None:
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
        made = optuna.create_study(
            storage=storage, study_name=name, directions=directions, load_if_exists=True
        )
    except (SQLAlchemyError, ImportError, ValueError) as error:
        raise ValueError(
            f"search.storage: {search.storage}: {str(error).splitlines()[0]}"
        ) from None
    if name not in names:
        with _experimental():
            made.set_metric_names(list(search.objectives))
    if made.metric_names != list(search.objectives) or made.directions != directions:
        raise ValueError(
            f"search.objectives: the study {name!r} in {search.storage} was made for "
            f"{', '.join(made.metric_names or ['others'])}; give `search.study` another name"
        )
    made.sampler = _sampler(search, drawn=len(made.get_trials(deepcopy=False)))
    return made


@contextmanager
def _experimental() -> Iterator[None]:
    """What Optuna calls experimental has been there for years; if it goes, the tests tell."""
    from optuna.exceptions import ExperimentalWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield


def _sampler(search: Search, *, drawn: int) -> "optuna.samplers.BaseSampler":
    import optuna.samplers

    seed = search.seed + drawn  # a continued study must not draw its first numbers again
    if search.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    with _experimental():
        return optuna.samplers.TPESampler(
            seed=seed, multivariate=True, group=True, constant_liar=True
        )


def _remembered(
    space: Mapping[str, Axis], trial: "optuna.trial.FrozenTrial", *, holds: Holds
) -> Settings | None:
    """What a trial of the study set; None where it was cut off too early for that, or the space was
    another.
    """
    import optuna

    fixed = optuna.trial.FixedTrial(trial.params)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a value outside of its range
            return settle(space, fixed, holds=holds)
    except (ValueError, UserWarning, KeyError):
        return None
