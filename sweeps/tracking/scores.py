"""Scores of a sweep as a whole, which MLflow shows though its trials are folded away."""

import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from occse.pipeline import scored_fields

if TYPE_CHECKING:  # importing it takes a second that other commands do without
    from mlflow.entities import Metric, Run


def sweep_scores(runs: "Iterable[Run]", *, known: Mapping[str, float]) -> "list[Metric]":
    """Return `best/<field>/miou` and `mean/<field>/miou` of the trials that the sweep asks for.

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
            f"best/{field}/miou": max(means),
            f"mean/{field}/miou": sum(every.values()) / len(every),
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
        score = run.data.metrics.get(f"{field}/miou")
        if score is not None:
            fingerprint = run.data.tags.get(f"occse.fingerprint.{field}", run.info.run_id)
            variant = run.data.tags.get("occse.variant", "")
            found.setdefault(variant, {})[fingerprint] = score
    return found
