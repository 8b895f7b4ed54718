"""Which trials make a row, a column and a cell of a table."""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from analysis.table_spec import Best, SpecError, TableSpec
from analysis.values import PARAM, column_of, matching, ordered, short, show


@dataclass(frozen=True, kw_only=True)
class Group:
    """Trials that belong together.

    Attributes:
        names: one for each heading.
        labels: the same without what all rows share.
        told: what the names say, as `knob=value, ...`.
        trials: of the frame of `load`.
        baseline: whether the others are compared with it.
    """

    names: tuple[str, ...]
    labels: tuple[str, ...]
    told: str
    trials: pd.DataFrame
    baseline: bool = False


def row_heads(trials: pd.DataFrame, spec: TableSpec) -> tuple[str, ...]:
    """What the names of a row are."""
    if spec.steps:
        return ("step",)
    several = trials["experiment"].nunique() > 1 and "experiment" not in (*spec.rows, *spec.columns)
    columns = [column_of(name, trials, location=("rows", place)) for place, name in enumerate(spec.rows)]
    return (*(("experiment",) if several and not spec.rows else ()), *(short(columns) or ("variant",)))


def row_groups(trials: pd.DataFrame, spec: TableSpec) -> tuple[list[Group], tuple[str, ...]]:
    """The rows, in the order of the spec, and the parts of names that all variants share.

    Raises:
        SpecError: the spec names a knob, or asks for a value, that no trial has.
    """
    if spec.steps:
        return [_step(trials, spec, place) for place in range(len(spec.steps))], ()
    if spec.rows:
        columns = [column_of(name, trials, location=("rows", place)) for place, name in enumerate(spec.rows)]
        return [_with_baseline(group, trials, spec) for group in _by_values(trials, columns)], ()
    labels, common = variant_labels(trials)
    groups = []
    for (experiment, variant), own in trials.groupby(["experiment", "variant"], sort=False):
        group = Group(
            names=(str(experiment), str(variant)),
            labels=(str(experiment), labels[str(experiment), str(variant)]),
            told=str(variant),
            trials=own,
        )
        groups.append(_with_baseline(group, trials, spec))
    if len(row_heads(trials, spec)) == 1:
        groups = [_without_experiment(group) for group in groups]
    return groups, common


def column_groups(trials: pd.DataFrame, spec: TableSpec) -> list[Group]:
    """The values of the knobs that make columns; all trials where none do."""
    columns = [column_of(name, trials, location=("columns", place)) for place, name in enumerate(spec.columns)]
    return _by_values(trials, columns) if columns else [Group(names=(), labels=(), told="", trials=trials)]


def chosen(trials: pd.DataFrame, best: Best) -> tuple[pd.DataFrame, str]:
    """The trials with those values of the knobs `best.of` that have the highest mean of `best.by`, and the values.

    No trials where none has the metric yet; all of them where none has its stage by plan, so that nothing is chosen.
    """
    columns = [column_of(name, trials, location=("best", "of", place)) for place, name in enumerate(best.of)]
    if best.by not in trials or not trials[best.by].notna().any():
        planned = any(best.by.partition("/")[0] in fields for fields in trials["planned"])
        return (trials.iloc[:0] if planned else trials), ""
    groups = _by_values(trials, columns)
    means = [distinct(group.trials, best.by.partition("/")[0])[best.by].mean() for group in groups]
    place = max(range(len(groups)), key=lambda place: means[place] if means[place] == means[place] else -1.0)
    return groups[place].trials, "/".join(groups[place].names)


def distinct(trials: pd.DataFrame, field: str) -> pd.DataFrame:
    """One trial for each artifact of the stage `field`: trials that share it are one measurement, not several."""
    column = f"fingerprint.{field}"
    artifacts = trials[column].fillna(trials["run_id"]) if column in trials else trials["run_id"]
    return trials[~artifacts.duplicated()]


def refuse_averages(trials: pd.DataFrame, field: str, *, name: str) -> None:
    """A mean is one over seeds: two artifacts of one seed would be two different things.

    Raises:
        SpecError: some knob has several values in these trials.
    """
    own = distinct(trials, field)
    again = own[own.duplicated(["seed"], keep=False)]
    if again.empty:
        return
    knobs = [column for column in own.columns if column.startswith(PARAM) and not column.endswith(".seed")]
    differ = {knob: list(dict.fromkeys(again[knob].map(show))) for knob in knobs}
    shown = "; ".join(
        f"{knob.removeprefix(PARAM)} ({', '.join(values)})" for knob, values in differ.items() if len(values) > 1
    )
    raise SpecError(
        ("rows",),
        f"{name or 'the table'} would average over what is not the seed alone: {shown or 'data, code or experiment'}; "
        "add it to `rows` or `columns`, fix it in `where`, or pick one with `best`",
    )


def variant_labels(trials: pd.DataFrame) -> tuple[dict[tuple[str, str], str], tuple[str, ...]]:
    """Labels by experiment and variant, without the parts `knob=value` that all share, and those parts."""
    keys = [(str(a), str(b)) for a, b in trials[["experiment", "variant"]].drop_duplicates().itertuples(index=False)]
    # A value may hold a comma of its own (a list), so a part ends only where another knob begins.
    parts = [re.split(r", (?=[\w.*]+=)", variant) for _, variant in keys]
    common = [part for part in parts[0] if all(part in others for others in parts)] if len(parts) > 1 else []
    labels = [", ".join(part for part in own if part not in common) for own in parts]
    distinct_ = len({(key[0], label) for key, label in zip(keys, labels, strict=True)}) == len(keys)
    if not all(labels) or not distinct_:
        labels, common = [variant for _, variant in keys], []
    return dict(zip(keys, labels, strict=True)), tuple(common)


def _by_values(trials: pd.DataFrame, columns: Sequence[str]) -> list[Group]:
    """The combinations of values that occur."""
    heads, shown = short(columns), pd.DataFrame({column: list(map(show, trials[column])) for column in columns})
    keys = list(shown.itertuples(index=False, name=None))
    groups = []
    for names in itertools.product(*(ordered(shown[column]) for column in columns)):
        own = trials[[key == names for key in keys]]
        if not own.empty:
            told = ", ".join(f"{head}={name}" for head, name in zip(heads, names, strict=True))
            groups.append(Group(names=names, labels=names, told=told, trials=own))
    return groups


def _step(trials: pd.DataFrame, spec: TableSpec, place: int) -> Group:
    step = spec.steps[place]
    own = trials[matching(trials, step.where, location=("steps", place, "where"))]
    told = ", ".join(f"{name}={show(value)}" for name, value in step.where.items())
    group = Group(names=(step.name,), labels=(step.name,), told=told, trials=own)
    return _with_baseline(group, trials, spec)


def _with_baseline(group: Group, trials: pd.DataFrame, spec: TableSpec) -> Group:
    if spec.baseline is None:
        is_baseline = bool(group.trials["baseline"].any())
    else:
        fits = matching(trials, spec.baseline, location=("baseline",))
        is_baseline = bool(fits.loc[group.trials.index].all())
    return Group(**(vars(group) | {"baseline": is_baseline}))


def _without_experiment(group: Group) -> Group:
    return Group(**(vars(group) | {"names": group.names[1:], "labels": group.labels[1:]}))
