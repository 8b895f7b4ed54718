"""Curves and scores of the stages of a running sweep, on their way to every MLflow run that waits
for them.
"""

import threading
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress

from mlflow.entities import Metric

from sweeps.cluster.stage_task import Json
from sweeps.plan.plan import Plan
from sweeps.spec.trials import Trial
from sweeps.store.store import Store
from sweeps.tracking.tags import curve, scores
from sweeps.tracking.writer import Tracking

SHARE = 0.1
PAUSE_S = 60.0


class Live:
    """Collects what the scheduler tells and writes it, one request per trial.

    Hundreds of trials may wait for one stage: writing takes at most a tenth of the driver's time,
    and collects longer where that is not enough. What is lost here, as while the server is away, is
    written when the trial ends."""

    def __init__(self, *, store: Store, tracking: Tracking) -> None:
        self._store = store
        self._tracking = tracking
        self._trials: dict[str, Trial] = {}
        self._users: dict[str, list[tuple[str, Trial]]] = defaultdict(list)
        self._news: dict[str, list[Metric]] = defaultdict(list)
        self._due = 0.0
        self._lock = threading.Lock()  # trials of a search join while the watching thread updates

    def add(self, plan: Plan) -> None:
        """Follow the stages of `plan`, for its trials; what the store has of them is known at once."""
        with self._lock:
            self._trials |= {trial.identity: trial for trial in plan.trials}
            for trial in plan.trials:
                for field, node in trial.nodes.items():
                    if (
                        node.fingerprint in plan.nodes
                        and (field, trial) not in self._users[node.fingerprint]
                    ):
                        self._users[node.fingerprint].append((field, trial))
            for fingerprint in plan.nodes.keys() - plan.reasons.keys():
                self._score(fingerprint)

    def update(self, info: Json) -> None:
        """Take the scheduler's `info`, and write when it is time."""
        with self._lock:
            for item in info["points"]:
                for field, trial in self._users[item["fingerprint"]]:
                    self._news[trial.identity] += curve(field, item["point"], at=item["at"])
            for event in info["events"]:
                if event["what"] == "done":
                    self._score(event["fingerprint"])
            news = dict(self._news) if time.monotonic() >= self._due else {}
            if news:
                self._news.clear()
        if news:
            self._flush(news)

    def _score(self, fingerprint: str) -> None:
        users = self._users[fingerprint]
        if not users:  # a stage of another sweep on the same cluster
            return
        node = users[0][1].nodes[users[0][0]]
        with suppress(ValueError, OSError):  # whoever ends the trial gets the error
            if (manifest := self._store.manifest(node)) is not None:
                curves = self._store.curves(node)
                for field, trial in users:
                    self._news[trial.identity] += scores(field, manifest, curves=curves)

    def _flush(self, news: Mapping[str, Sequence[Metric]]) -> None:
        start = time.monotonic()
        try:
            for identity, metrics in news.items():
                self._tracking.append(self._trials[identity], metrics)
        except ConnectionError:
            self._due = start + PAUSE_S
        else:
            self._due = start + (time.monotonic() - start) / SHARE
