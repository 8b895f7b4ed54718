"""The knobs of a table's rows, a column each: for programs, and for names that are too wide."""

from collections.abc import Mapping, Sequence

from analysis.read.artifact_ids import Run
from analysis.read.knobs import PARAM, comparable
from analysis.read.labels import knobs_of_parts
from analysis.table.groups import Group
from analysis.table.model import Knob
from occse.naming.labels import NO_VALUE, Labels, value_text
from occse.naming.variants import split_variants


def differing_knobs(rows: Sequence[Group]) -> list[dict[str, Knob]]:
    """Return by row the values of the knobs that differ between the trials of the table.

    A value is None where the trials of a row differ in it, or do not have the knob. Seeds are no
    knobs.
    """
    runs: list[Run] = []
    for row in rows:
        runs += row.runs
    names = [
        name
        for name in (runs[0] if runs else ())
        if str(name).startswith(PARAM) and not str(name).endswith(".seed")
    ]
    # A knob that a trial does not have has no value there: that alone is no difference, or every
    # knob of a stage that one variant lacks would have a column.
    differing = []
    for name in names:
        values = {value_text(run[name]) for run in runs}
        if len(values - {NO_VALUE}) > 1:
            differing.append(name)
    return [
        {str(name).removeprefix(PARAM): _common_value(row.runs, str(name)) for name in differing}
        for row in rows
    ]


def name_parts(
    rows: Sequence[Group], runs: Sequence[Run], labels: Labels
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return the knobs that the variants' names tell, and by row their values, all for people.

    Nothing where rows are no variants, or where names hold more than knobs: then a name is said as
    it is.
    """
    nothing = [() for _ in rows]
    variants = {str(run["variant"]) for run in runs}
    # The last name of a row is its variant, where rows are variants; an experiment stands before.
    if not {row.names[-1] for row in rows} <= variants:
        return (), list(nothing)
    parts = split_variants(row.names[-1] for row in rows)
    knobs = knobs_of_parts(runs)
    heads: dict[str, str] = {}
    for part in parts.owners:
        # A part without a knob is a name that the sweep's file gave.
        if not part[0]:
            return (), list(nothing)
        if not parts.is_shared(part):
            heads.setdefault(part[0], knobs.get(part, part[0]))
    titles = tuple(labels.knob(knob, short=head) for head, knob in heads.items())
    values = [
        (*row.labels[:-1], *_values(dict(parts.own[row.names[-1]]), heads, labels)) for row in rows
    ]
    return titles, values


def _values(own: Mapping[str, str], heads: Mapping[str, str], labels: Labels) -> list[str]:
    return [
        labels.value(knob, own[head]) if head in own else NO_VALUE for head, knob in heads.items()
    ]


def _common_value(runs: Sequence[Run], name: str) -> Knob:
    # By the shown text, for which "6" and "6.0" are one value.
    values = {value_text(run[name]): run[name] for run in runs}
    if len(values) != 1:
        return None
    value = comparable(next(iter(values.values())))
    # a list has no cell of its own
    return value if isinstance(value, Knob) else value_text(value)
