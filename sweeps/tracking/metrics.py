"""Metrics of runs, of which no point is written twice, and the scores of a sweep as a whole."""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from occse.pipeline import scored_fields

if TYPE_CHECKING:  # importing it takes a second that other commands do without
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

MIOU = "/miou"


class MetricWriter:
    """Writes metrics to MLflow.

    Points of a curve that came live have another time stamp than those from the artifact, so that
    MLflow would keep both.

    Args:
        client: gives a client of the tracking server.
    """

    def __init__(self, client: "Callable[[], MlflowClient]") -> None:
        self._client = client
        # steps of curves that MLflow has, by run and key
        self._points: dict[tuple[str, str], set[int]] = {}
        # curves of which the last request was not answered: MLflow may have its points, or not
        self._doubtful: set[tuple[str, str]] = set()

    def write(self, run: "Run", metrics: "Iterable[Metric]") -> None:
        """Write `metrics` without the steps of curves that MLflow has."""
        fresh = [
            metric
            for metric in metrics
            if not metric.step or metric.step not in self._steps(run, metric.key)
        ]
        if fresh:
            curves = {(run.info.run_id, metric.key) for metric in fresh}
            # if no answer comes, the next call asks which of these points arrived
            self._doubtful |= curves
            self._client().log_batch(run.info.run_id, metrics=fresh)
            self._doubtful -= curves
        note_scores(run, fresh)
        for metric in fresh:
            self._steps(run, metric.key).add(metric.step)

    def _steps(self, run: "Run", key: str) -> set[int]:
        """Return the steps of a metric that MLflow has.

        MLflow is asked where it may have steps that this object does not know of.
        """
        curve = (run.info.run_id, key)
        if curve not in self._points or curve in self._doubtful:
            known = key in run.data.metrics or curve in self._doubtful
            history = self._client().get_metric_history(*curve) if known else ()
            self._points[curve] = {point.step for point in history}
        return self._points[curve]


def note_scores(run: "Run", metrics: "Iterable[Metric]") -> None:
    """Note in a run the scores among metrics that were written to it, for `sweep_scores`."""
    for metric in metrics:
        if metric.key.endswith(MIOU):
            run.data.metrics[metric.key] = metric.value


def sweep_scores(runs: "Iterable[Run]", *, known: Mapping[str, float]) -> "list[Metric]":
    """Return `best/<field>/miou` and `mean/<field>/miou` of the trials that the sweep asks for.

    MLflow shows them though the sweep's trials are folded away.

    The best is the highest mean of a variant over its seeds. An artifact that several trials share
    is one measurement, as in the tables.

    Args:
        runs: of trials.
        known: metrics that the sweep's run has; those that did not change are left out.
    """
    from mlflow.entities import Metric

    current = [run for run in runs if run.data.tags.get("occse.current") != "false"]
    now_ms = int(1000 * time.time())
    found = []
    for field in scored_fields():
        scores = _by_variant(current, field)
        if not scores:
            continue
        means = [sum(values.values()) / len(values) for values in scores.values()]
        every: dict[str, float] = {}
        for values in scores.values():
            every |= values
        metrics = {
            f"best/{field}{MIOU}": max(means),
            f"mean/{field}{MIOU}": sum(every.values()) / len(every),
        }
        found += [
            Metric(key, value, now_ms, 0)
            for key, value in metrics.items()
            if known.get(key) != value
        ]
    return found


def _by_variant(runs: "Iterable[Run]", field: str) -> dict[str, dict[str, float]]:
    """Return the score of each artifact of a stage, by variant and fingerprint."""
    found: dict[str, dict[str, float]] = {}
    for run in runs:
        score = run.data.metrics.get(field + MIOU)
        if score is not None:
            fingerprint = run.data.tags.get(f"occse.fingerprint.{field}", run.info.run_id)
            variant = run.data.tags.get("occse.variant", "")
            found.setdefault(variant, {})[fingerprint] = score
    return found
