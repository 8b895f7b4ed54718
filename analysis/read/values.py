"""Knobs as a table selects and shows them."""

import difflib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from analysis.table.spec import Location, SpecError, Where

Run = Mapping[Any, Any]  # a row of the frame of `analysis.read.mlflow`
Plain = Any  # a number, a text, a truth value, None, or a tuple of such
OF_TRIAL = ("variant", "experiment", "seed")
PARAM = "param."
NONE = "–"


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
        allowed = [plain(each) for each in (given if isinstance(given, list) else [given])]
        column = column_of(name, runs, location=(*location, name))
        if not any(plain(run[column]) in allowed for run in runs):
            there = ", ".join(dict.fromkeys(show(run[column]) for run in runs))
            raise SpecError(
                (*location, name),
                f"no trial has {' or '.join(map(show, allowed))}; there are: {there}",
            )
        found = [run for run in found if plain(run[column]) in allowed]
    return found


def plain(value: object) -> Plain:
    """A stored or given value such that equal ones compare equal: "6.0" and 6, "[1, 2]" and [1, 2]."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return value
    if isinstance(value, list):
        return tuple(plain(each) for each in value)
    return None if value is None or value != value else value  # NaN: the trial has no such knob


def show(value: object) -> str:
    """A value for people."""
    value = plain(value)
    if isinstance(value, tuple):
        return f"({' '.join(map(show, value))})"
    if isinstance(value, bool):
        return json.dumps(value)
    return NONE if value is None else f"{value:g}" if isinstance(value, int | float) else str(value)


def ordered(values: Iterable[str]) -> list[str]:
    """Shown values, each once: numbers by size, others as they first come; first of all what has
    none.
    """
    found = list(dict.fromkeys(values))
    try:
        return sorted(found, key=lambda text: -math.inf if text == NONE else float(text))
    except ValueError:
        return sorted(found, key=lambda text: text != NONE)


def short(columns: Iterable[str], runs: Sequence[Run]) -> list[str]:
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
