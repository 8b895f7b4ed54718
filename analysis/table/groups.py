"""Groups of trials: the rows and the columns of a table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from analysis.read.artifact_ids import Run, artifact_id
from analysis.read.knobs import (
    OF_TRIAL,
    PARAM,
    column_of,
    display_order,
    matching,
    short_heads,
)
from analysis.read.labels import knobs_of_parts, short_names
from analysis.read.yaml_file import SpecError
from analysis.table.spec import Best, TableSpec
from occse.naming.labels import Labels, value_text
from occse.naming.markup import join
from occse.naming.variants import split_variants

Variant = tuple[str, str]  # experiment and name


@dataclass(frozen=True, kw_only=True)
class Group:
    """Trials that belong together.

    Attributes:
        names: one for each heading, as programs read them.
        labels: the same for people, without what all rows share.
        told: what the names say, as `knob=value, ...`.
        heading: the same for people.
        runs: the trials, as rows of the frame of `load`.
        knobs: what `names` are values of, if they are values of knobs.
        baseline: whether the others are compared with it.
    """

    names: tuple[str, ...]
    labels: tuple[str, ...]
    told: str
    heading: str
    runs: Sequence[Run]
    knobs: tuple[str, ...] = ()
    baseline: bool = False

    @cached_property
    def run_ids(self) -> frozenset[str]:
        """The ids of the runs; a table asks for them once per cell."""
        return frozenset(str(run["run_id"]) for run in self.runs)


def row_heads(runs: Sequence[Run], spec: TableSpec) -> tuple[str, ...]:
    """Return the headings above the names of the rows."""
    if spec.steps:
        return ("step",)
    if spec.rows:
        return tuple(short_heads(_columns(spec.rows, runs, key="rows"), runs))
    return (
        ("experiment", "variant") if len({run["experiment"] for run in runs}) > 1 else ("variant",)
    )


def row_keys(runs: Sequence[Run], spec: TableSpec) -> tuple[str, ...]:
    """Return the headings above the names of the rows for programs: knobs with their stages."""
    if not spec.rows or spec.steps:
        return row_heads(runs, spec)
    columns = _columns(spec.rows, runs, key="rows")
    return tuple(column.removeprefix(PARAM) for column in columns)


def people_heads(heads: Sequence[str], runs: Sequence[Run], labels: Labels) -> tuple[str, ...]:
    """Return the headings above the names of the rows for people.

    Args:
        heads: of `row_heads`.
        runs: the trials of the table.
        labels: names of knobs.
    """
    named = []
    for head in heads:
        knobs = [str(name) for name in runs[0] if str(name).startswith(PARAM)]
        fitting = [name for name in knobs if name == PARAM + head or name.endswith(f".{head}")]
        # `seed` heads the replicates, though stages have seeds of their own
        is_knob = bool(fitting) and head not in OF_TRIAL
        knob = fitting[0].removeprefix(PARAM) if is_knob else head
        named.append(labels.knob(knob, short=head))
    return tuple(named)


def row_groups(
    runs: Sequence[Run], spec: TableSpec, labels: Labels
) -> tuple[list[Group], tuple[str, ...]]:
    """Return the rows in the order of the spec, and the parts of names that all variants share.

    Raises:
        SpecError: the spec names a knob, or asks for a value, that no trial has.
    """
    common: tuple[str, ...] = ()
    if spec.steps:
        groups = [_step(runs, spec, place) for place in range(len(spec.steps))]
    elif spec.rows:
        groups = _by_values(runs, _columns(spec.rows, runs, key="rows"), labels)
    else:
        groups, common = _by_variant(runs, labels)
    return [replace(group, baseline=_is_baseline(group, runs, spec)) for group in groups], common


def column_groups(runs: Sequence[Run], spec: TableSpec, labels: Labels) -> list[Group]:
    """Return a group for each value of the knobs that make columns; one of all trials where none
    do."""
    if spec.columns:
        return _by_values(runs, _columns(spec.columns, runs, key="columns"), labels)
    return [Group(names=(), labels=(), told="", heading="", runs=runs)]


def chosen(runs: Sequence[Run], best: Best) -> tuple[Sequence[Run], str]:
    """Return the trials with the best values of the knobs `best.of`, and these values.

    Best are the values with the highest mean of `best.by`. Returns no trial where none has the
    metric yet, and all of them where no trial plans its stage, so that nothing is chosen."""
    columns = [
        column_of(name, runs, location=("best", "of", place)) for place, name in enumerate(best.of)
    ]
    field = best.by.partition("/")[0]
    if not any(field in run["planned"] for run in runs):
        return runs, ""
    found: list[tuple[float, Group]] = []
    for group in _by_values(runs, columns, Labels()):
        # By artifact, so that one that several trials share has no more weight than another.
        values = {artifact_id(run, field): run[best.by] for run in group.runs if has(run, best.by)}
        if values:
            found.append((sum(values.values()) / len(values), group))
    if not found:
        return [], ""
    # Of equal means the first in display order: `max` keeps the first.
    _, group = max(found, key=lambda pair: pair[0])
    return group.runs, "/".join(group.names)


def has(run: Run, metric: str) -> bool:
    """Tell whether a metric was logged for a trial."""
    value = run.get(metric)
    # pandas has NaN for what a trial did not log
    return value is not None and value == value


def variant_labels(
    runs: Sequence[Run], labels: Labels
) -> tuple[dict[Variant, str], tuple[str, ...]]:
    """Return names for people: by experiment and variant, and of the parts that all share."""
    keys = list(dict.fromkeys((str(run["experiment"]), str(run["variant"])) for run in runs))
    names = short_names(runs, labels)
    parts = split_variants(names)
    knobs = knobs_of_parts(runs)
    shared = [
        labels.part(knobs.get(part, part[0]), part[1], short=part[0]) if part[0] else part[1]
        for part in parts.owners
        if parts.is_shared(part)
    ]
    # a variant without a part of its own is named by what all share
    alone = [variant for variant, own in parts.own.items() if len(own) == len(shared)]
    common = () if alone else tuple(shared)
    return {key: names[key[1]] for key in keys}, common


def _columns(names: Sequence[str], runs: Sequence[Run], *, key: str) -> list[str]:
    return [column_of(name, runs, location=(key, place)) for place, name in enumerate(names)]


def _by_variant(runs: Sequence[Run], labels: Labels) -> tuple[list[Group], tuple[str, ...]]:
    names, common = variant_labels(runs, labels)
    own: dict[Variant, list[Run]] = {key: [] for key in names}
    for run in runs:
        own[run["experiment"], run["variant"]].append(run)
    # The name of the only experiment says nothing in every row.
    first = 0 if len({experiment for experiment, _ in names}) > 1 else 1
    groups = [
        Group(
            names=key[first:],
            labels=(key[0], name)[first:],
            told=key[1],
            heading=name,
            runs=own[key],
        )
        for key, name in names.items()
    ]
    return groups, common


def _by_values(runs: Sequence[Run], columns: Sequence[str], labels: Labels) -> list[Group]:
    """Return a group for each combination of values that occurs, in display order."""
    own: dict[tuple[str, ...], list[Run]] = {}
    for run in runs:
        own.setdefault(tuple(value_text(run[column]) for column in columns), []).append(run)
    ranks: list[Mapping[str, int]] = [
        {value: rank for rank, value in enumerate(display_order(values))}
        # From a tuple of values for each group to all values of each knob.
        for values in zip(*own, strict=True)
    ]

    def by_rank(names: tuple[str, ...]) -> list[int]:
        return [rank[name] for rank, name in zip(ranks, names, strict=True)]

    heads = short_heads(columns, runs)
    knobs = [column.removeprefix(PARAM) for column in columns]
    shown = [labels.value_names(knob, rank) for knob, rank in zip(knobs, ranks, strict=True)]

    def group(names: tuple[str, ...]) -> Group:
        parts = [
            labels.part(knob, value, short=head)
            for knob, head, value in zip(knobs, heads, names, strict=True)
        ]
        return Group(
            names=names,
            labels=tuple(own[name] for own, name in zip(shown, names, strict=True)),
            told=", ".join(map("=".join, zip(heads, names, strict=True))),
            heading=join(", ", parts),
            runs=own[names],
            knobs=tuple(knobs),
        )

    return [group(names) for names in sorted(own, key=by_rank)]


def _step(runs: Sequence[Run], spec: TableSpec, place: int) -> Group:
    step = spec.steps[place]
    own = matching(runs, step.where, location=("steps", place, "where"))
    told = ", ".join(f"{name}={value_text(value)}" for name, value in step.where.items())
    return Group(names=(step.name,), labels=(step.name,), told=told, heading=step.name, runs=own)


def _is_baseline(group: Group, runs: Sequence[Run], spec: TableSpec) -> bool:
    if spec.baseline is None:
        return any(run["baseline"] for run in group.runs)
    # All trials of the row: a mean over baseline and others is not a baseline.
    fits = {run["run_id"] for run in matching(runs, spec.baseline, location=("baseline",))}
    return all(run["run_id"] in fits for run in group.runs)


def refuse_averages(runs: Sequence[Run], field: str, *, name: str) -> None:
    """Refuse a mean over anything but seeds: two artifacts of one seed are two different things.

    Raises:
        SpecError: a knob has several values in these trials.
    """
    by_seed: dict[int, dict[str, Run]] = {}
    for run in runs:
        # By artifact: trials that share one are one measurement, with nothing to average.
        by_seed.setdefault(run["seed"], {}).setdefault(artifact_id(run, field), run)
    again: list[Run] = []
    for artifacts in by_seed.values():
        if len(artifacts) > 1:
            again += artifacts.values()
    if not again:
        return
    knobs = [
        column for column in again[0] if column.startswith(PARAM) and not column.endswith(".seed")
    ]
    # Data files, a stage's code and the experiment tell artifacts apart without any knob.
    values = {
        knob.removeprefix(PARAM): list(dict.fromkeys(value_text(run[knob]) for run in again))
        for knob in knobs
    }
    differ = "; ".join(
        f"{knob} ({', '.join(there)})" for knob, there in values.items() if len(there) > 1
    )
    raise SpecError(
        ("rows",),
        f"{name or 'the table'} would average over more than the seed: "
        f"{differ or 'data, code or experiment'}; "
        "add it to `rows` or `columns`, fix it in `where`, or pick one with `best`",
    )
