"""The effects of knobs as Markdown."""

from collections.abc import Iterator

from analysis.read.knobs import plain
from analysis.statistics.anova import AnovaRow, Margin
from analysis.studies.compare import p_text
from analysis.studies.effects import Effects, Group

METHOD = (
    "Method: analysis of variance, type II, of each kind of artifact by itself (split-plot): knobs of CGNet on "
    "the means of CGNets, with seeds as blocks; later knobs on what becomes of each, with those as blocks. Values "
    "of a knob are categories. Partial eta squared: the effect's share of its own and the error's sum of squares. "
    "Marginal means weigh all combinations of the other knobs the same; their 95 % intervals take artifacts of a "
    "kind for independent. fANOVA: Optuna's, share of the variance by a random forest with seed 0. No p-value is "
    "adjusted."
)


def effects_text(found: Effects) -> str:
    """Every group's table of variance and marginal means, in percent, with the method below."""
    lines = [line for group in found.groups for line in _group_lines(group, found.metric)]
    lines += [
        f"{knob} always moves with {', '.join(others)}: one factor."
        for knob, others in found.together.items()
    ]
    if found.powerless:
        lines.append(
            f"Varied, but of no effect on the artifacts behind {found.metric}: {', '.join(found.powerless)}."
        )
    return "\n".join([*lines, METHOD])


def _group_lines(group: Group, metric: str) -> Iterator[str]:
    where = ", ".join(f"{knob}={value}" for knob, value in group.where.items()) or "all trials"
    size = f"{group.variants} variants, {group.artifacts} artifacts"
    yield f"**{where}**: {metric} {100 * group.mean:.1f}, mean of {size}."
    yield ""
    if group.rows or group.importance:
        yield from (
            "| effect | df | F | p | partial eta² | fANOVA |",
            "| :-- | --: | --: | --: | --: | --: |",
        )
        yield from (_row_text(row, group) for row in group.rows)
        only = {
            knob: share
            for knob, share in group.importance.items()
            if (knob,) not in {row.term for row in group.rows}
        }
        yield from (f"| {knob} | – | – | – | – | {share:.2f} |" for knob, share in only.items())
    if group.margins:
        yield from ("", "| knob | value | mean | 95 % interval |", "| :-- | :-- | --: | :-: |")
        yield from (_margin_text(margin) for margin in group.margins)
    if not group.rows and not group.importance:
        yield "No knob varies here."
    yield from ("", *group.notes, *([""] if group.notes else []))


def _row_text(row: AnovaRow, group: Group) -> str:
    share = group.importance.get(row.term[0]) if len(row.term) == 1 else None
    test = "– | –" if row.f is None or row.p is None else f"{row.f:.1f} | {p_text(row.p)}"
    importance = "" if share is None else f"{share:.2f}"
    return f"| {' × '.join(row.term)} | {row.freedom}, {row.error_freedom} | {test} | {row.eta:.2f} | {importance} |"


def _margin_text(margin: Margin) -> str:
    ends = (
        ""
        if margin.low is None or margin.high is None
        else f"{100 * margin.low:.1f} to {100 * margin.high:.1f}"
    )
    return f"| {margin.factor} | {plain(margin.level)} | {100 * margin.mean:.1f} | {ends} |"
