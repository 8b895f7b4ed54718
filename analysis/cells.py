"""One cell of a table: the mean of a metric over seeds, and which runs it comes from."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from analysis.groups import Group, chosen, distinct, refuse_averages
from analysis.table_spec import TableSpec
from analysis.tables import Cell, Column, Source, Status


def make_cell(row: Group, group: Group, column: Column, spec: TableSpec) -> Cell:
    """What `column` shows of the trials that `row` and the column's `group` share.

    Raises:
        SpecError: they differ in more than their seeds.
    """
    field = column.metric.partition("/")[0]
    trials = row.trials.loc[row.trials.index.intersection(group.trials.index)]
    planned = trials[[field in fields for fields in trials["planned"]]]
    if planned.empty:
        return Cell(status="empty")
    choice = ""
    if spec.best is not None:
        candidates = planned
        planned, choice = chosen(candidates, spec.best)
        if planned.empty:
            return Cell(status=_status(candidates), planned=len(distinct(candidates, field)))
    refuse_averages(planned, field, name=", ".join(filter(None, (row.told, group.told))))
    logged = planned.get(column.metric, pd.Series(float("nan"), index=planned.index)).notna()
    # a trial that failed later has the artifact too, so those that measured come first
    own = distinct(pd.concat([planned[logged], planned[~logged]]), field)
    measured, missing = own[logged.loc[own.index]], own[~logged.loc[own.index]]
    if measured.empty:
        return Cell(status=_status(missing), planned=len(own), chosen=choice)
    values = measured[column.metric].astype(float) * (100 if column.score else 1)
    return Cell(
        status=_status(missing),
        n=len(measured),
        planned=len(own),
        mean=float(values.mean()),
        std=float(values.std(ddof=1)) if len(measured) > 1 else None,
        chosen=choice,
        sources=tuple(_source(run, field) for run in measured.to_dict("records")),
    )


def _status(missing: pd.DataFrame) -> Status:
    """The worst of the trials that do not have the metric."""
    if missing.empty:
        return "done"
    if (missing["status"] == "FAILED").any():
        return "failed"
    return "stopped" if (missing["stopped"] != "").all() else "pending"


def _source(run: Mapping[Any, Any], field: str) -> Source:
    fingerprint, code = run.get(f"fingerprint.{field}"), run.get(f"code.{field}")
    return Source(
        run_id=run["run_id"],
        experiment_id=run["experiment_id"],
        seed=run["seed"],
        sha=code if isinstance(code, str) else run["sha"],
        fingerprint=fingerprint if isinstance(fingerprint, str) else "",
    )
