"""Suggestions of a study as trials, and the outcomes of trials as what the study hears."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from statistics import fmean

from sweeps.selection.study import Settings, Study, open_study
from sweeps.spec.axes import Axis
from sweeps.spec.model import Spec
from sweeps.spec.search import COSTS
from sweeps.spec.trials import Trial, expansion
from sweeps.spec.variants import Writing, at, holds
from sweeps.store.store import Store


class Suggestions:
    """What a search has tried and will try.

    Args:
        spec: a sweep with a `search`.
        store: where the outcomes are.
        first: position of the first suggested trial among the trials of the sweep.
        create: whether to make the study where there is none; nothing is written otherwise.

    Raises:
        ValueError: see `sweeps.selection.study.open_study`.
    """

    def __init__(self, spec: Spec, *, store: Store, first: int, create: bool = True) -> None:
        assert spec.search is not None
        self._spec, self._search, self._store = spec, spec.search, store
        self._base, self._expand = spec.base_pipeline(), expansion(spec)
        self._next = first
        self._numbers: dict[str, list[int]] = {}
        self._outcomes: dict[str, Callable[[int], None]] = {}
        self._study = self._open(create)

    @property
    def left(self) -> int:
        """How many suggestions are still to be made."""
        return self._search.trials if self._study is None else self._study.left

    def known(self) -> list[Trial]:
        """The trials of the suggestions that former runs made."""
        found: list[Trial] = []
        for number, settings in self._study.known() if self._study else ():
            if (writing := self._write(settings)) is not None:
                found += self._take(number, writing)
        return found

    def ask(self) -> list[Trial]:
        """The trials of a new variant, one for each seed; empty where none is left.

        One that was suggested before is not tried again: the study hears what came out then.
        """
        assert self._study is not None
        while self._study.left:
            if (asked := self._study.ask()) is None:
                break
            number, settings = asked
            if (writing := self._write(settings)) is not None and (
                trials := self._take(number, writing)
            ):
                return trials
        return []

    def end(self, variant: str, done: Sequence[Trial], *, stopped: bool) -> None:
        """A variant ended with the trials `done`; without any, a gate held it back (`stopped`), or
        all failed.
        """
        assert self._study is not None
        values: list[float] | None = None
        with suppress(KeyError):  # such as miou_multi where no image has several classes: no value
            if done:
                values = [
                    fmean(self._value(each, trial) for trial in done)
                    for each in self._search.objectives
                ]
        self._outcomes[variant] = partial(self._study.tell, values=values, stopped=stopped)
        for number in self._numbers.get(variant, ()):
            self._outcomes[variant](number)

    def _open(self, create: bool) -> Study | None:
        study = open_study(self._search, self._spec.name, create=create)
        if study is None:
            return None
        return Study(
            study,
            self._search,
            holds=self._holds,
            allows=lambda settings: self._write(settings) is not None,
        )

    def _holds(self, axis: Axis, settings: Settings) -> bool:
        return holds(axis, self._base, self._spec.base | settings)

    def _write(self, settings: Settings) -> Writing | None:
        return at(self._spec, self._base, settings)

    def _take(self, number: int, writing: Writing) -> list[Trial]:
        """The trials of a suggestion; none where the variant was suggested before."""
        trials = self._expand(writing)
        variant = trials[0].variant
        before = self._numbers.setdefault(variant, [])
        before.append(number)
        if len(before) > 1:
            if variant in self._outcomes:
                self._outcomes[variant](number)
            return []
        trials = [replace(trial, order=self._next + index) for index, trial in enumerate(trials)]
        self._next += len(trials)
        return trials

    def _value(self, objective: str, trial: Trial) -> float:
        """The metric of a trial, or what its stages take, were they run for it alone."""
        if objective in COSTS:
            return sum(
                self._hours(field, trial, gpus=objective == "gpu_hours") for field in trial.nodes
            )
        field, _, name = objective.partition("/")
        manifest = self._store.manifest(trial.nodes[field])
        assert manifest is not None
        return manifest.metrics[name]

    def _hours(self, field: str, trial: Trial, *, gpus: bool) -> float:
        node = trial.nodes[field]
        manifest = self._store.manifest(node)
        hours = manifest.seconds / 3600 if manifest is not None else 0.0
        return hours * (self._spec.resources_of(field, node.stage).num_gpus if gpus else 1.0)


def suggested(spec: Spec, *, store: Store, first: int) -> list[Trial]:
    """The trials that a search suggested in former runs; none without a search. Writes nothing."""
    return Suggestions(spec, store=store, first=first, create=False).known() if spec.search else []
