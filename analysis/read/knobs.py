"""Knobs: those that vary between trials, and their values as tables select and show them."""

import difflib
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from analysis.read.artifact_ids import Run, distinct
from analysis.read.json_text import parse_json
from analysis.read.pipeline import pipeline_of
from analysis.read.yaml_file import Location, SpecError, Where
from occse.naming.labels import NO_VALUE, value_text

PARAM = "param."
Plain = Any  # a number, a text, a truth value, None, or a tuple of such
OF_TRIAL = ("variant", "experiment", "seed")


def scored(trials: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return the trials (of `load`) that the sweep still asks for and that have `metric`.

    Raises:
        ValueError: there are none.
    """
    there = (
        trials[trials["current"] & trials[metric].notna()] if metric in trials else trials.iloc[:0]
    )
    if there.empty:
        known = sorted(name for name in trials.columns if name.endswith("/miou"))
        raise ValueError(f"no trial has {metric}; there are: {', '.join(known) or 'no scores'}")
    return there


def scored_stages(trials: pd.DataFrame) -> tuple[str, ...]:
    """Return the scored stages of which any trial has a score, upstream first."""
    return tuple(
        stage
        for stage in pipeline_of(trials).scored
        if f"{stage}/miou" in trials and trials[f"{stage}/miou"].notna().any()
    )


def measurements(trials: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return the `scored` trials, one for each artifact that the metric scores."""
    return distinct(scored(trials, metric), metric.partition("/")[0])


def sharing(trials: pd.DataFrame, field: str) -> dict[str, list[str]]:
    """Return the variants that share the artifacts of the stage `field`, by the first of them:
    they are one result.
    """
    column = f"fingerprint.{field}"
    groups: dict[frozenset[str], list[str]] = {}
    for variant, group in trials.groupby("variant", sort=False):
        # Without all fingerprints nothing is known to be shared: run ids are never equal.
        known = column in group and group[column].notna().all()
        groups.setdefault(frozenset(group[column if known else "run_id"]), []).append(str(variant))
    return {first: others for first, *others in groups.values()}


def varied(trials: pd.DataFrame) -> list[str]:
    """Return the knobs, `field.knob`, with at least two values in `trials`; seeds are none."""
    columns = [
        name for name in trials.columns if name.startswith(PARAM) and not name.endswith(".seed")
    ]
    return [name.removeprefix(PARAM) for name in columns if trials[name].nunique() > 1]


def aliases(trials: pd.DataFrame, knobs: Sequence[str]) -> dict[str, list[str]]:
    """Return the knobs that always move together, by the first of them: no data can tell them
    apart.
    """
    groups: dict[tuple[int, ...], list[str]] = {}
    for knob in knobs:
        # Codes in the order of appearance: knobs that split the trials in the same way have the
        # same codes, whatever their values are.
        groups.setdefault(tuple(pd.factorize(trials[PARAM + knob])[0].tolist()), []).append(knob)
    return {first: others for first, *others in groups.values()}


def knob_values(trials: pd.DataFrame, knob: str) -> "pd.Series[str]":
    """Return the value of `knob` by trial, missing where it has no effect.

    Raises:
        ValueError: no trial has it.
    """
    if (column := PARAM + knob) not in trials or trials[column].isna().all():
        raise ValueError(
            f"no trial has the knob {knob!r}; these vary: {', '.join(varied(trials)) or 'none'}"
        )
    return trials[column]


def ordered(values: "pd.Series[str]") -> list[str]:
    """Return the distinct values of a knob: numbers by size, anything else by name."""
    return sorted(
        values.dropna().unique(),
        # The 0 and the 1 keep numbers and texts apart, which Python cannot compare.
        key=lambda value: (0, float(value)) if is_number(value) else (1, value),
    )


def averaged(trials: pd.DataFrame, *shown: str) -> list[str]:
    """Return the knobs that vary between `trials` beside those `shown`, one for all that always
    move together.
    """
    moving = aliases(trials, varied(trials))
    return [first for first, others in moving.items() if not {first, *others} & set(shown)]


def is_number(value: str) -> bool:
    """Tell whether the value of a knob is a number."""
    try:
        float(value)
    except ValueError:
        return False
    return True


def column_of(name: str, runs: Sequence[Run], *, location: Location) -> str:
    """Return the column that `name` means: a knob, with or without its stage, or one of OF_TRIAL.

    Raises:
        SpecError: no or more than one knob has that name.
    """
    if name in OF_TRIAL:
        return name
    knobs = [column.removeprefix(PARAM) for column in runs[0] if column.startswith(PARAM)]
    found = [name] if name in knobs else [knob for knob in knobs if knob.rpartition(".")[2] == name]
    if len(found) == 1:
        return PARAM + found[0]
    if found:
        raise SpecError(location, f"{name!r} is a knob of several stages: {', '.join(found)}")
    near = difflib.get_close_matches(name, knobs, n=4)
    # Most knobs that people name without a stage are CGNet's.
    near = near or difflib.get_close_matches(f"cgnet.{name}", knobs, n=4)
    hint = f"; there are e.g. {', '.join((*knobs[:4], *OF_TRIAL))}"
    if near:
        hint = f"; near are: {', '.join(near)}"
    raise SpecError(location, f"{name!r} is not a knob of these trials{hint}")


def matching(runs: Sequence[Run], where: Where, *, location: Location) -> list[Run]:
    """Return the trials that have the wanted values.

    A list allows each of its values; null means that a trial does not have the knob.

    Raises:
        SpecError: there is no such knob, or no trial has such a value.
    """
    found = list(runs)
    for name, given in where.items():
        allowed = [comparable(each) for each in (given if isinstance(given, list) else [given])]
        column = column_of(name, runs, location=(*location, name))
        if not any(comparable(run[column]) in allowed for run in runs):
            there = ", ".join(dict.fromkeys(value_text(run[column]) for run in runs))
            raise SpecError(
                (*location, name),
                f"no trial has {' or '.join(map(value_text, allowed))}; there are: {there}",
            )
        found = [run for run in found if comparable(run[column]) in allowed]
    return found


def comparable(value: object) -> Plain:
    """Return a value in a form in which equal ones compare equal: "6.0" and 6, "[1, 2]" and
    [1, 2].
    """
    if isinstance(value, str):
        try:
            value = parse_json(value)
        except ValueError:
            return value
    if isinstance(value, list):
        return tuple(comparable(each) for each in value)
    # pandas has NaN where a trial has no such knob
    return None if value is None or value != value else value


def display_order(values: Iterable[str]) -> list[str]:
    """Return shown values, each once: NO_VALUE, then numbers by size, or texts as they come."""
    found = list(dict.fromkeys(values))
    try:
        return sorted(found, key=lambda text: -math.inf if text == NO_VALUE else float(text))
    except ValueError:
        return sorted(found, key=lambda text: text != NO_VALUE)


def short_heads(columns: Iterable[str], runs: Sequence[Run]) -> list[str]:
    """Return columns as people read them: a knob without its stage where no other stage has a knob
    of that name.
    """
    last = [column.rpartition(".")[2] for column in runs[0] if column.startswith(PARAM)]
    tails = ((column.removeprefix(PARAM), column.rpartition(".")[2]) for column in columns)
    return [tail if last.count(tail) < 2 else name for name, tail in tails]


def thresholds_text(told: Iterable[str]) -> str:
    """Return a sentence on the threshold t = (1 - t)^alpha behind each alpha in `told`.

    `told` are texts of the form `knob=value, ...`; empty where there is no alpha.
    """
    alphas = set(re.findall(r"\balpha\w*=([\d.]+)", "\n".join(told)))
    parts = [
        f"{_threshold(float(alpha)):.3f} at alpha {alpha}" for alpha in sorted(alphas, key=float)
    ]
    if not parts:
        return ""
    return f"A background score (1 - max CAM)^alpha means a threshold: {', '.join(parts)}."


def _threshold(alpha: float) -> float:
    from scipy.optimize import brentq  # takes longer to import than a table takes to print

    return float(brentq(lambda threshold: threshold - (1 - threshold) ** alpha, 0.0, 1.0))
