"""Metrics of runs, of which no point is written twice."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # importing it takes a second that other commands do without
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run


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
