"""What varies between the trials of a sweep, and which of its artifacts are distinct."""

import re
from collections.abc import Sequence

import pandas as pd

from analysis.table.groups import distinct

PARAM = "param."


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


def plain(value: str) -> str:
    """A knob's value for people: 10 for 10.0."""
    return f"{float(value):g}" if is_number(value) else value


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
