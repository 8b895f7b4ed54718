"""Curves and scores of the stages of a running sweep, by the MLflow run that they belong to."""

import threading
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from sweeps.cluster.messages import EventKind, News
from sweeps.plan.plan import Plan
from sweeps.spec.trials import Trial
from sweeps.store.store import Store
from sweeps.tracking.tags import curve, scores

if TYPE_CHECKING:  # importing it takes a second that other commands do without
    from mlflow.entities import Metric


class LiveMetrics:
    """Collects what the scheduler tells, for every trial that waits for the stage.

    Writing is up to the caller, who may lose values: the same ones are written when the trial ends.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._trials: dict[str, Trial] = {}
        # by fingerprint: the trials that wait for the stage, each under the field that it asks in
        self._users: dict[str, dict[tuple[str, str], Trial]] = defaultdict(dict)
        self._fresh: dict[str, list[Metric]] = defaultdict(list)
        # trials of a search join in the main thread while the driver's second thread updates
        self._lock = threading.Lock()

    def add(self, plan: Plan) -> None:
        """Follow the stages of `plan` for its trials; scores of stored ones are fresh at once."""
        with self._lock:
            stored = plan.nodes.keys() - plan.reasons.keys()
            for trial in plan.trials:
                # one that the store has whole ends at once, and is recorded then
                if all(node.fingerprint in stored for node in trial.nodes.values()):
                    continue
                self._trials[trial.identity] = trial
                for field, node in trial.nodes.items():
                    if node.fingerprint in plan.nodes:
                        self._users[node.fingerprint][field, trial.identity] = trial
            for fingerprint in stored:
                self._score(fingerprint)

    def repeat(self, trial: Trial) -> None:
        """Collect the scores of a trial's finished stages once more, for a new run of it."""
        with self._lock:
            self._trials[trial.identity] = trial
            for field, node in trial.nodes.items():
                self._score(node.fingerprint, users={(field, trial.identity): trial})

    def update(self, news: News) -> None:
        """Collect the curves and scores in the scheduler's news."""
        with self._lock:
            for point in news.points:
                for field, identity in self._users[point.fingerprint]:
                    self._fresh[identity] += curve(field, point.values, at=point.at_ms)
            for event in news.events:
                if event.kind is EventKind.DONE:
                    self._score(event.fingerprint)

    def take(self) -> "list[tuple[Trial, list[Metric]]]":
        """Return the metrics collected since the last call, by trial, and forget them."""
        with self._lock:
            fresh = [(self._trials[identity], found) for identity, found in self._fresh.items()]
            self._fresh.clear()
        return fresh

    def _score(
        self, fingerprint: str, *, users: Mapping[tuple[str, str], Trial] | None = None
    ) -> None:
        """Collect the scores of a finished stage for `users`, by default all its trials."""
        if users is None:
            users = self._users[fingerprint]
        if not users:  # a stage of another sweep on the same cluster
            return
        (field, _), trial = next(iter(users.items()))
        node = trial.nodes[field]
        # the error is told when the trial ends, which reads the same files
        with suppress(ValueError, OSError):
            if (manifest := self._store.manifest(node)) is not None:
                curves = self._store.curves(node)
                for field, identity in users:
                    self._fresh[identity] += scores(field, manifest, curves=curves)
