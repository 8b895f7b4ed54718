"""The frame of `analysis.read.mlflow` as one Parquet file, so that tables need not ask the tracking
server again.
"""

import json
from pathlib import Path

import pandas as pd

from analysis.read.json_text import parse_json

SUFFIX = ".parquet"
REQUIRED = (
    "experiment", "experiment_id", "run_id", "trial", "variant", "order", "baseline", "seed",
    "current", "status", "failed", "error", "stopped", "stopped_why", "pixel_truth", "imported",
    "protocol", "planned", "data_id", "sha", "dirty", "packages", "not_attached",
)  # fmt: skip
STRUCTURED = ["planned", "protocol"]  # tuples and mappings, which stand in the file as JSON


def write_export(trials: pd.DataFrame, path: Path) -> None:
    """Write `trials` (from `load`) to the file `path`.

    Raises:
        ValueError: `path` does not end in .parquet, by which `load` knows such a file.
    """
    if path.suffix != SUFFIX:
        raise ValueError(f"{path} does not end in {SUFFIX}; commands know an export by that")
    # Parquet has no tuples, and would make one struct column of mappings with unlike keys.
    # A copy, because the caller's frame keeps its tuples.
    written = trials.copy()
    for name in written.columns.intersection(STRUCTURED):
        written[name] = written[name].map(json.dumps)
    written.to_parquet(path, index=False)


def read_export(path: Path) -> pd.DataFrame:
    """Return the trials that `write_export` wrote.

    Raises:
        ValueError: there is no such file, or it is something else.
    """
    if not path.is_file():
        raise ValueError(
            f"there is no export {path}; "
            f"make it with: python -m analysis export EXPERIMENT --out {path}"
        )
    try:
        trials = pd.read_parquet(path)
        if missing := [name for name in REQUIRED if name not in trials]:
            raise ValueError(
                f"it lacks the column {missing[0]!r}; export it again if an earlier version made it"
            )
        for name in trials.columns.intersection(STRUCTURED):
            trials[name] = trials[name].map(parse_json)
        trials["planned"] = trials["planned"].map(tuple)
    # pyarrow's own errors are ValueErrors and OSErrors
    except (ValueError, TypeError, OSError) as error:
        raise ValueError(f"{path} is not an export of trials: {error}") from None
    return trials
