"""What varies between the trials of a sweep, and how values of knobs are selected and shown."""

import difflib
import json
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from analysis.read.artifact_ids import Run, distinct
from analysis.read.pipeline import pipeline_of
from analysis.read.spec_error import Location, SpecError, Where

PARAM = "param."
Plain = Any  # a number, a text, a truth value, None, or a tuple of such
OF_TRIAL = ("variant", "experiment", "seed")
NONE = "–"


def scored(trials: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The trials (of `load`) that the sweep still asks for and that have `metric`, as fractions.

    Raises:
        ValueError: there are none.
    """
    there = (
        trials[trials["current"] & trials[metric].notna()] if metric in trials else trials.iloc[:0]
    )
    if there.empty:
        known = sorted(name for name in trials.columns if name.endswith("/miou"))
        raise ValueError(f"no trial has {metric}; there are: {', '.join(known) or 'no scores yet'}")
    return there


def scored_stages(trials: pd.DataFrame) -> tuple[str, ...]:
    """Return the scored stages of which any trial has a score, upstream first."""
    return tuple(
        stage
        for stage in pipeline_of(trials).scored
        if f"{stage}/miou" in trials and trials[f"{stage}/miou"].notna().any()
    )


def measurements(trials: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The `scored` trials, one for each artifact that the metric scores."""
    return distinct(scored(trials, metric), metric.partition("/")[0])


def sharing(trials: pd.DataFrame, field: str) -> dict[str, list[str]]:
    """Variants whose artifacts of the stage `field` are the same, by the first of them: they are
    one result.
    """
    column, groups = f"fingerprint.{field}", dict[frozenset[str], list[str]]()
    for variant, group in trials.groupby("variant", sort=False):
        known = column in group and group[column].notna().all()
        groups.setdefault(frozenset(group[column if known else "run_id"]), []).append(str(variant))
    return {first: others for first, *others in groups.values()}


def varied(trials: pd.DataFrame) -> list[str]:
    """The knobs, `field.knob`, of which `trials` have at least two values; seeds are none."""
    columns = [
        name for name in trials.columns if name.startswith(PARAM) and not name.endswith(".seed")
    ]
    return [name.removeprefix(PARAM) for name in columns if trials[name].nunique() > 1]


def aliases(trials: pd.DataFrame, knobs: Sequence[str]) -> dict[str, list[str]]:
    """The first of the knobs that always move together, with the others: no data can tell them
    apart.
    """
    groups: dict[tuple[int, ...], list[str]] = {}
    for knob in knobs:
        groups.setdefault(tuple(pd.factorize(trials[PARAM + knob])[0].tolist()), []).append(knob)
    return {first: others for first, *others in groups.values()}


def knob_values(trials: pd.DataFrame, knob: str) -> "pd.Series[str]":
    """The value of `knob` by trial, missing where it has no effect.

    Raises:
        ValueError: no trial has it.
    """
    if (column := PARAM + knob) not in trials or trials[column].isna().all():
        raise ValueError(
            f"no trial has the knob {knob!r}; these vary: {', '.join(varied(trials)) or 'none'}"
        )
    return trials[column]


def ordered(values: "pd.Series[str]") -> list[str]:
    """The distinct values of a knob: numbers by size, anything else by name."""

    return sorted(
        values.dropna().unique(),
        key=lambda value: (0, float(value)) if is_number(value) else (1, value),
    )


def averaged(trials: pd.DataFrame, *shown: str) -> list[str]:
    """The knobs that vary between `trials` beside those `shown`, one for all that always move
    together.
    """
    moving = aliases(trials, varied(trials))
    return [first for first, others in moving.items() if not {first, *others} & set(shown)]


def is_number(value: str) -> bool:
    """Whether a knob's value is one."""
    try:
        float(value)
    except ValueError:
        return False
    return True


def short_names(variants: Sequence[str]) -> dict[str, str]:
    """The variants' names without the `knob=value` parts that say nothing beside the others: for
    figures.

    A part goes where all variants have it, or where another part of the same name never stands
    without it: beside `erasing=cse`, `source=cgnet` is no news. What stays of `erasing=cse` is
    `cse`."""
    # A value may hold a comma of its own (a list), so a part ends only where another knob begins.
    parts = {variant: re.split(r", (?=[\w.*]+=)", variant) for variant in variants}
    owners = {
        part: {variant for variant in parts if part in parts[variant]}
        for each in parts.values()
        for part in each
    }

    def implied(part: str, place: int, own: Sequence[str]) -> bool:
        others = ((owners[other], at) for at, other in enumerate(own) if at != place)
        return any(
            having <= owners[part] and (at < place or having != owners[part])
            for having, at in others
        )

    names = {
        variant: ", ".join(
            _without_name(part)
            for place, part in enumerate(own)
            if len(owners[part]) < len(parts) and not implied(part, place, own)
        )
        for variant, own in parts.items()
    }
    return (
        names
        if len(set(names.values())) == len(names) and all(names.values())
        else {name: name for name in names}
    )


def _without_name(part: str) -> str:
    """`cse` for `erasing=cse`: a word speaks for itself, a number does not."""
    value = part.partition("=")[2]
    return (
        value
        if re.fullmatch(r"[a-zA-Z]\w*", value) and value not in ("true", "false", "null")
        else part
    )


def column_of(name: str, runs: Sequence[Run], *, location: Location) -> str:
    """The column that `name` means: a knob, with or without its stage, or one of OF_TRIAL.

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
    near = difflib.get_close_matches(name, knobs, n=4) or difflib.get_close_matches(
        f"cgnet.{name}", knobs, n=4
    )
    hint = (
        f"; near are: {', '.join(near)}"
        if near
        else f"; there are e.g. {', '.join((*knobs[:4], *OF_TRIAL))}"
    )
    raise SpecError(location, f"{name!r} is no knob of these trials{hint}")


def matching(runs: Sequence[Run], where: Where, *, location: Location) -> list[Run]:
    """The trials that have the wanted values; a list allows each of its own, null means: does not
    have the knob.

    Raises:
        SpecError: there is no such knob, or no trial has such a value.
    """
    found = list(runs)
    for name, given in where.items():
        allowed = [comparable(each) for each in (given if isinstance(given, list) else [given])]
        column = column_of(name, runs, location=(*location, name))
        if not any(comparable(run[column]) in allowed for run in runs):
            there = ", ".join(dict.fromkeys(show(run[column]) for run in runs))
            raise SpecError(
                (*location, name),
                f"no trial has {' or '.join(map(show, allowed))}; there are: {there}",
            )
        found = [run for run in found if comparable(run[column]) in allowed]
    return found


def comparable(value: object) -> Plain:
    """A stored or given value such that equal ones compare equal: "6.0" and 6, "[1, 2]" and [1, 2]."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return value
    if isinstance(value, list):
        return tuple(comparable(each) for each in value)
    return None if value is None or value != value else value  # NaN: the trial has no such knob


def show(value: object) -> str:
    """A value for people."""
    value = comparable(value)
    if isinstance(value, tuple):
        return f"({' '.join(map(show, value))})"
    if isinstance(value, bool):
        return json.dumps(value)
    return NONE if value is None else f"{value:g}" if isinstance(value, int | float) else str(value)


def display_order(values: Iterable[str]) -> list[str]:
    """Shown values, each once: numbers by size, others as they first come; first of all what has
    none.
    """
    found = list(dict.fromkeys(values))
    try:
        return sorted(found, key=lambda text: -math.inf if text == NONE else float(text))
    except ValueError:
        return sorted(found, key=lambda text: text != NONE)


def short_heads(columns: Iterable[str], runs: Sequence[Run]) -> list[str]:
    """Columns as people read them: a knob stands without its stage where no other stage has a knob
    of that name.
    """
    last = [column.rpartition(".")[2] for column in runs[0] if column.startswith(PARAM)]
    tails = ((column.removeprefix(PARAM), column.rpartition(".")[2]) for column in columns)
    return [tail if last.count(tail) < 2 else name for name, tail in tails]


def thresholds_text(told: Iterable[str]) -> str:
    """The threshold t = (1 - t)^alpha behind each alpha in `told` (`knob=value, ...`); empty where
    there is none.
    """
    alphas = {found for text in told for found in re.findall(r"\balpha\w*=([\d.]+)", text)}
    parts = [f"{alpha} of {_threshold(float(alpha)):.3f}" for alpha in sorted(alphas, key=float)]
    return (
        f"A background score (1 - max CAM)^alpha means a threshold: {', '.join(parts)}."
        if parts
        else ""
    )


def _threshold(alpha: float) -> float:
    low, high = 0.0, 1.0
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (middle, high) if middle < (1 - middle) ** alpha else (low, middle)
    return low
