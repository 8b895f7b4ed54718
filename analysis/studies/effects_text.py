"""The effects of knobs as tables."""

from analysis.read.knobs import show
from analysis.statistics.anova import AnovaRow, Margin
from analysis.studies.compare import p_text
from analysis.studies.effects import Effects, Group
from analysis.table.grid import Passage, text_grid

# A cell without a value, as when an effect was not tested.
NOTHING = "–"
METHOD = (
    "Method: analysis of variance, type II, of each kind of artifact by itself (split-plot): knobs of CGNet on "
    "the means of CGNets, with seeds as blocks; later knobs on what becomes of each, with those as blocks. Values "
    "of a knob are categories. Partial eta squared: the effect's share of its own and the error's sum of squares. "
    "Marginal means weigh all combinations of the other knobs the same; their 95 % intervals take artifacts of a "
    "kind for independent. fANOVA: Optuna's, share of the variance by a random forest with seed 0. No p-value is "
    "adjusted."
)


def effects_passages(found: Effects) -> list[Passage]:
    """Return each group's table of variance and marginal means, in percent."""
    passages = [
        _group_passage(group, found.metric, number) for number, group in enumerate(found.groups)
    ]
    notes = [
        f"{knob} always moves with {', '.join(others)}: one factor."
        for knob, others in found.together.items()
    ]
    if found.powerless:
        powerless = ", ".join(found.powerless)
        notes.append(
            f"Varied, but of no effect on the artifacts behind {found.metric}: {powerless}."
        )
    return [*passages, Passage(notes=notes, method=[METHOD])]


def _group_passage(group: Group, metric: str, number: int) -> Passage:
    where = ", ".join(f"{knob}={value}" for knob, value in group.where.items()) or "all trials"
    size = f"{group.variants} variants, {group.artifacts} artifacts"
    lead = f"{metric} {100 * group.mean:.1f}, mean of {size}."
    suffix = f"_{number + 1}" if number else ""
    grids = []
    if group.rows or group.importance:
        tested = {row.term for row in group.rows}
        rows = [_row_cells(row, group) for row in group.rows]
        rows += [
            [knob, NOTHING, NOTHING, NOTHING, NOTHING, f"{share:.2f}"]
            for knob, share in group.importance.items()
            if (knob,) not in tested
        ]
        heads = ["effect", "df", "F", "p", "partial eta²", "fANOVA"]
        grids.append(text_grid(f"effects{suffix}", "Effects and interactions", heads, rows))
    if group.margins:
        rows = [_margin_cells(margin) for margin in group.margins]
        heads = ["knob", "value", "mean", "95 % interval"]
        grids.append(text_grid(f"means{suffix}", "Means by knob, in percent", heads, rows))
    is_constant = not group.rows and not group.importance
    notes = ["No knob varies here."] if is_constant else []
    return Passage(title=where, lead=[lead], grids=grids, notes=[*notes, *group.notes])


def _row_cells(row: AnovaRow, group: Group) -> list[object]:
    share = group.importance.get(row.term[0]) if len(row.term) == 1 else None
    return [
        " × ".join(row.term),
        f"{row.freedom}, {row.error_freedom}",
        NOTHING if row.f is None else f"{row.f:.1f}",
        NOTHING if row.p is None else p_text(row.p),
        f"{row.eta:.2f}",
        "" if share is None else f"{share:.2f}",
    ]


def _margin_cells(margin: Margin) -> list[object]:
    ends = ""
    if margin.low is not None and margin.high is not None:
        ends = f"{100 * margin.low:.1f} to {100 * margin.high:.1f}"
    return [margin.factor, show(margin.level), f"{100 * margin.mean:.1f}", ends]
