"""What varies between the trials of a sweep, and which of its artifacts are distinct."""

from collections.abc import Sequence

import pandas as pd

PARAM = "param."


def scored(trials: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The trials (of `load`) that the sweep still asks for and that have `metric`, as fractions.

    Raises:
        ValueError: there are none.
    """
    there = trials[trials["current"] & trials[metric].notna()] if metric in trials else trials.iloc[:0]
    if there.empty:
        known = sorted(name for name in trials.columns if name.endswith("/miou"))
        raise ValueError(f"no trial has {metric}; there are: {', '.join(known) or 'no scores yet'}")
    return there


def distinct(trials: pd.DataFrame, metric: str) -> pd.DataFrame:
    """One trial for each artifact that `metric` scores: trials that share it are one measurement, not several."""
    found = scored(trials, metric)
    column = f"fingerprint.{metric.partition('/')[0]}"
    return found.drop_duplicates(column) if column in found else found


def varied(trials: pd.DataFrame) -> list[str]:
    """The knobs, `field.knob`, of which `trials` have at least two values; seeds are none."""
    columns = [name for name in trials.columns if name.startswith(PARAM) and not name.endswith(".seed")]
    return [name.removeprefix(PARAM) for name in columns if trials[name].nunique() > 1]


def aliases(trials: pd.DataFrame, knobs: Sequence[str]) -> dict[str, list[str]]:
    """The first of the knobs that always move together, with the others: no data can tell them apart."""
    groups: dict[tuple[int, ...], list[str]] = {}
    for knob in knobs:
        groups.setdefault(tuple(pd.factorize(trials[PARAM + knob])[0].tolist()), []).append(knob)
    return {first: others for first, *others in groups.values()}
