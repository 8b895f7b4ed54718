"""Trials that share an artifact of a stage are one measurement, not several."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

#: A row of the frame of `analysis.read.mlflow`.
Run = Mapping[Any, Any]


def artifact_id(run: Run, field: str) -> str:
    """Return the fingerprint of a trial's stage `field`, or its run id where that is unknown."""
    fingerprint = run.get(f"fingerprint.{field}")
    if isinstance(fingerprint, str) and fingerprint:
        return fingerprint
    return str(run["run_id"])


def artifact_ids(trials: pd.DataFrame, field: str) -> "pd.Series[str]":
    """Return the `artifact_id` of every trial."""
    if (column := f"fingerprint.{field}") not in trials:
        return trials["run_id"]
    # Runs that are imported, or that an early version recorded, have no fingerprint: each is its
    # own.
    known = trials[column].notna() & (trials[column] != "")
    return trials[column].where(known, trials["run_id"])


def distinct(trials: pd.DataFrame, field: str) -> pd.DataFrame:
    """Return one row of the frame of `load` for each artifact of the stage `field`."""
    return trials[~artifact_ids(trials, field).duplicated()]
