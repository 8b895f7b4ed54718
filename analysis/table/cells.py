"""One cell of a table: the mean of a metric over seeds, and which runs it comes from."""

from collections.abc import Sequence

import numpy as np

from analysis.read.artifact_ids import Run, artifact_id
from analysis.table.groups import Group, chosen, has, refuse_averages
from analysis.table.model import Cell, Column, Source, Status
from analysis.table.spec import TableSpec


def make_cell(row: Group, group: Group, column: Column, spec: TableSpec) -> Cell:
    """Return the cell of the trials that `row` and the `group` of `column` share.

    Raises:
        SpecError: these trials differ in more than their seeds.
    """
    field = column.metric.partition("/")[0]
    planned: Sequence[Run] = [
        run for run in row.runs if run["run_id"] in group.run_ids and field in run["planned"]
    ]
    if not planned:
        return Cell(status="empty")
    choice = ""
    if spec.best is not None:
        candidates = planned
        planned, choice = chosen(candidates, spec.best)
        if not planned:
            return Cell(
                status=_status(candidates),
                planned=len({artifact_id(run, field) for run in candidates}),
            )
    refuse_averages(planned, field, name=", ".join(filter(None, (row.told, group.told))))
    # a trial that failed later has the artifact too, so those that measured come first
    ranked = sorted(planned, key=lambda run: not has(run, column.metric))
    # One run for each artifact: trials that share one are one measurement, and counting it twice
    # would make the deviation too small. Reversed, so that the first of `ranked` stays.
    own = {artifact_id(run, field): run for run in reversed(ranked)}
    measured = [
        run for run in ranked if own[artifact_id(run, field)] is run and has(run, column.metric)
    ]
    missing = [run for run in own.values() if not has(run, column.metric)]
    # scores are fractions in MLflow and percent in tables
    unit = 100 if column.score else 1
    values = unit * np.array([run[column.metric] for run in measured], np.float64)
    return Cell(
        status=_status(missing),
        n=len(measured),
        planned=len(own),
        mean=float(values.mean()) if measured else None,
        std=float(values.std(ddof=1)) if len(measured) > 1 else None,
        chosen=choice,
        sources=tuple(_source(run, field) for run in measured),
    )


def _status(missing: Sequence[Run]) -> Status:
    """Return the worst status of the trials that do not have the metric."""
    if not missing:
        return "done"
    if any(run["status"] == "FAILED" for run in missing):
        return "failed"
    if all(run["stopped"] for run in missing):
        return "stopped"
    # A trial that ended well has every score that there was truth for.
    return "unscored" if all(run["status"] == "FINISHED" for run in missing) else "pending"


def _source(run: Run, field: str) -> Source:
    fingerprint = run.get(f"fingerprint.{field}")
    code = run.get(f"code.{field}")
    return Source(
        run_id=run["run_id"],
        experiment_id=run["experiment_id"],
        seed=run["seed"],
        # Old records have no commit by stage (pandas has NaN), only that of the recording code.
        sha=code if isinstance(code, str) else run["sha"],
        fingerprint=fingerprint if isinstance(fingerprint, str) else "",
    )
