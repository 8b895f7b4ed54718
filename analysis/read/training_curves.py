"""Training curves: the metrics that a run logged at several steps."""

from collections.abc import Sequence
from dataclasses import dataclass

from analysis.read.source.connect import connect
from analysis.read.source.run import Source, SourceError

# A curve of more points than pixels shows nothing more, and makes a page of many runs heavy.
MOST_POINTS = 120


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A metric of a run by step.

    Attributes:
        run: MLflow's id.
        name: of the metric.
        steps, values: as many of each.
    """

    run: str
    name: str
    steps: tuple[int, ...]
    values: tuple[float, ...]


def training_curves(runs: Sequence[str], *, tracking: str | None) -> list[Curve]:
    """Return the curves of runs; a metric that the first runs logged once is none.

    A curve of many steps keeps every n-th of them.

    Raises:
        ValueError: there is no such database.
        ConnectionError: MLflow does not have a run, or does not answer.
    """
    source = connect(tracking)
    found: list[Curve] = []
    is_curve: dict[str, bool] = {}
    try:
        for run in runs:
            for name in source.metrics(run):
                # scores by class are many and logged once
                if "/iou/" in name or not is_curve.get(name, True):
                    continue
                curve = _curve(source, run, name)
                # Each look is a request; one run tells for all whether a metric has steps.
                is_curve.setdefault(name, curve is not None)
                if curve is not None:
                    found.append(curve)
    except SourceError as error:
        raise ConnectionError(f"cannot read the curves of run {run}: {error}") from None
    return found


def _curve(source: Source, run: str, name: str) -> Curve | None:
    by_step = dict(source.history(run, name))  # a retried stage logs a step again
    if len(by_step) < 2:
        return None
    steps = sorted(by_step)
    # Rounded up, so that at most `MOST_POINTS` are kept.
    every = -(-len(steps) // MOST_POINTS)
    kept = steps[::every]
    values = tuple(by_step[step] for step in kept)
    return Curve(run=run, name=name, steps=tuple(kept), values=values)
