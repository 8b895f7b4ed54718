"""The comparability guard: a column whose rows were measured in different ways, which their names
do not tell.

Split, data set, threshold rule, CRF, test scales and start weights move an mIoU by more than most
methods do. Where a row's name says so itself (`preset=irn`), the difference is what the table is
about; elsewhere it misleads."""

import re
from collections.abc import Mapping
from functools import cache

import pandas as pd

from analysis.read.tidy import OUTSIDE

# By dimension of the protocol, the knobs whose value in a name tells that it differs.
TOLD_BY = {
    "data": frozenset({"kind"}),
    "data_id": frozenset[str](),  # and any knob of the data
    "split": frozenset({"split", "kind"}),
    "threshold_rule": frozenset(
        {"alpha", "alpha_walk", "source", "threshold_min", "threshold_max"}
    ),
    "crf": frozenset({"crf", "preset", "source"}),
    "scales": frozenset({"scales", "flip"}),
    "init": frozenset({"init", "source"}),
}
MEANING = {
    "data": "data sets",
    "data_id": "files of a data set",
    "split": "splits",
    "threshold_rule": "threshold rules",
    "crf": "CRF presets",
    "scales": "test scales",
    "init": "start weights",
}
Told = tuple[tuple[str, str], ...]


def mixed(
    metric: str, frame: pd.DataFrame, names: Mapping[str, str], *, title: str
) -> tuple[str, ...]:
    """Return what differs between the runs behind the numbers of `metric`, beside what the names
    of their rows say; a sentence for each.

    Args:
        metric: of a scored stage; of others nothing is known.
        frame: of `tidy`.
        title: the name of the metric for people.
        names: by run id, what row and column say of it, as in "source=cgnet, alpha=6".
    """
    stage = metric.partition("/")[0]
    measured = frame[
        (frame["stage"] == stage) & (frame["subset"] == "all") & frame["run_id"].isin(list(names))
    ]
    found = []
    of_data = {name.rpartition(".")[2] for name in frame.columns if name.startswith("param.data.")}
    for dimension, fixed in TOLD_BY.items():
        knobs = fixed | of_data if dimension == "data_id" else fixed
        # Another method's maps come as they are, and its row is named after it.
        rows = measured[measured[dimension] != OUTSIDE]
        told = [_told(names[run], knobs) for run in rows["run_id"]]
        # the classifier's own maps: no other start, another way
        if dimension == "init" and "param.cam.source" in rows:
            told = [
                (*known, ("source", str(source)))
                for known, source in zip(told, rows["param.cam.source"], strict=True)
            ]
        # Only runs whose names say the same can mislead: within such a group nothing may differ.
        groups = rows[dimension].groupby(pd.Series(told, index=rows.index, dtype=object))
        # `nunique` skips missing values: data without a digest are not taken for other data.
        if (groups.nunique() > 1).any():
            there = ", ".join(
                f"{value} ({count} runs)" for value, count in rows[dimension].value_counts().items()
            )
            found.append(f"{title} mixes {MEANING[dimension]} that the names do not tell: {there}")
    return tuple(found)


# Asked for every run, metric and dimension; seeds share the name of their variant.
@cache
def _told(name: str, knobs: frozenset[str]) -> Told:
    """Return the parts `knob=value` of a name whose knob, without its stage, is among `knobs`."""
    # A value may hold a comma, so that only one before the next `knob=` parts.
    parts = (part.partition("=") for part in re.split(r", (?=[\w.*]+=)", name))
    return tuple(
        (knob, value) for knob, sign, value in parts if sign and knob.rpartition(".")[2] in knobs
    )
