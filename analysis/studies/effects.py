"""Effects of the knobs of a sweep on a score: main effects and interactions.

Three things make a sweep's table unlike a textbook's. A knob may have no effect by design for some
trials (lambda without CGNet): trials with the same active knobs are analysed apart. Knobs may
always move together: they are one factor. And trials share stages: those of one CGNet are not
independent tests of lambda. So each knob is tested on the artifacts that it makes (a split-plot
analysis): lambda on the means of CGNets, with the seeds as blocks; alpha on what becomes of each
CGNet, with the CGNets as blocks."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, combinations

import pandas as pd

from analysis.read.artifact_ids import artifact_ids
from analysis.read.knobs import PARAM, aliases, measurements, ordered, scored, varied
from analysis.read.labels import Naming, labels_of
from analysis.read.pipeline import pipeline_of
from analysis.statistics.anova import (
    AnovaRow,
    Margin,
    Term,
    crossed,
    error_freedom,
    margins,
    separable,
    type_two,
)
from analysis.statistics.importance import importances
from analysis.studies.compare import p_text
from analysis.table.digits import rounded
from analysis.table.grid import GridCell, Passage, cell, named, text_grid
from occse.naming.counts import number
from occse.naming.labels import Labels, value_text
from occse.naming.markup import join

METHOD = (
    "Method: analysis of variance, type II, of each kind of artifact by itself (split-plot): knobs "
    "of CGNet on the means of CGNets, with seeds as blocks; later knobs on what becomes of each, "
    "with those as blocks. Values of a knob are categories. Partial eta squared: the effect's part "
    "of its own and the error's sum of squares. Marginal means weigh all combinations of the "
    "other knobs the same; their 95 % intervals take artifacts of a kind for independent. fANOVA: "
    "Optuna's, share of the variance by a random forest with seed 0."
)
UNADJUSTED = (
    "p treats the images as fixed and covers chance in the seeds alone; it is not adjusted for the "
    "number of effects."
)
# A factor of more levels was searched, not set: a table with a row for each would say nothing.
MOST_LEVELS = 10
SCORE = "score"
BLOCK = "block"
NOTHING = "–"


@dataclass(frozen=True, kw_only=True)
class Group:
    """Trials whose active knobs are the same.

    Attributes:
        where: the knobs that tell them from other groups, with their values.
        variants, artifacts: number of variants, and of distinct artifacts behind their scores.
        mean: of the score over variants, a fraction.
        rows: the table of variance.
        margins: marginal means of every factor.
        importance: share of the score's variance by factor, by fANOVA; empty for fewer than two
            factors.
        notes: what was left out, and why.
    """

    where: Mapping[str, str]
    variants: int
    artifacts: int
    mean: float
    rows: tuple[AnovaRow, ...]
    margins: tuple[Margin, ...]
    importance: Mapping[str, float]
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Effects:
    """The effects on `metric`.

    Attributes:
        metric: the score.
        groups: the largest first.
        together: knobs that always move with another, by that other.
        powerless: knobs that vary but cannot reach the score.
    """

    metric: str
    groups: tuple[Group, ...]
    together: Mapping[str, Sequence[str]]
    powerless: tuple[str, ...]


def effects(trials: pd.DataFrame, *, metric: str = "pseudo/miou", forest: bool = True) -> Effects:
    """Return the effects of the knobs that vary between `trials` (from `load`).

    Args:
        trials: from `load`.
        metric: the score.
        forest: also work out the importance by fANOVA.

    Raises:
        ValueError: no trial has the metric, or no knob varies that could reach it.
    """
    every = scored(trials, metric)
    rows = measurements(trials, metric)
    artifacts = artifact_ids(every, metric.partition("/")[0])
    # A knob that varies among the trials of one and the same artifact cannot have changed it.
    knobs = [knob for knob in varied(every) if _is_constant(every[PARAM + knob], artifacts)]
    powerless = [knob for knob in varied(every) if knob not in knobs]
    together = aliases(rows, knobs)
    if not together:
        name = labels_of(trials).metric(metric)
        raise ValueError(f"no knob that can reach {name} varies between the trials")
    # Only active knobs are recorded, so a knob without effect for a trial is missing there.
    active = rows[[PARAM + knob for knob in together]].notna()
    groups = [group for _, group in rows.groupby([active[column] for column in active], sort=False)]
    groups.sort(key=len, reverse=True)
    telling = _telling(groups, [knob for knob in together if active[PARAM + knob].all()])
    return Effects(
        metric=metric,
        groups=tuple(
            _group(group, metric, list(together), telling, forest=forest) for group in groups
        ),
        together={knob: others for knob, others in together.items() if others},
        powerless=tuple(powerless),
    )


def _telling(groups: Sequence[pd.DataFrame], common: Sequence[str]) -> list[str]:
    """Return the knobs that have one value in each group, and so tell the groups apart."""
    if len(groups) < 2:
        return []
    return [knob for knob in common if all(group[PARAM + knob].nunique() == 1 for group in groups)]


def _group(
    rows: pd.DataFrame, metric: str, knobs: Sequence[str], telling: Sequence[str], *, forest: bool
) -> Group:
    notes: list[str] = []
    factors = [knob for knob in knobs if rows[PARAM + knob].nunique() > 1]
    tested = _tested(rows, factors, notes)
    found = list(_analyses(rows, metric, tested, notes))
    return Group(
        where={knob: value_text(rows[PARAM + knob].iloc[0]) for knob in telling},
        variants=rows["variant"].nunique(),
        artifacts=len(rows),
        mean=float(rows.groupby("variant")[metric].mean().mean()),
        rows=tuple(chain.from_iterable(analysis.rows for analysis in found)),
        margins=tuple(chain.from_iterable(analysis.margins for analysis in found)),
        importance=importances(rows, metric, factors) if forest and len(factors) > 1 else {},
        notes=tuple(notes),
    )


def _tested(rows: pd.DataFrame, factors: Sequence[str], notes: list[str]) -> list[str]:
    """Return the factors that an analysis of variance can tell apart; `notes` gets the others."""
    fine = [knob for knob in factors if rows[PARAM + knob].nunique() > MOST_LEVELS]
    if fine:
        notes.append(f"{', '.join(fine)}: more than {MOST_LEVELS} values, so only by importance.")
    named = [knob for knob in factors if knob not in fine]
    values = rows[[PARAM + knob for knob in named]].set_axis(named, axis=1)
    # Confounded factors would share their effect by the order in which they stand. The one with the
    # most levels goes first: it is the likeliest to be a function of the others.
    while len(named) > 1 and not separable(values, named):
        lost = max(named, key=lambda knob: values[knob].nunique())
        named.remove(lost)
        notes.append(
            f"{lost}: its values cannot be told apart from those of the other knobs, so only by "
            "importance."
        )
    return named


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """The table of variance of one kind of artifact, and the marginal means of its factors."""

    rows: list[AnovaRow]
    margins: list[Margin]


def _analyses(
    rows: pd.DataFrame, metric: str, factors: Sequence[str], notes: list[str]
) -> Iterator[Analysis]:
    """Yield an analysis for each kind of artifact that decides a factor, the most shared first."""
    chain = _chain(rows, metric)
    frame = rows[[PARAM + knob for knob in factors]].set_axis(list(factors), axis=1)
    frame = frame.assign(**{SCORE: rows[metric]})
    home = {
        # A knob belongs to the most shared artifact that it decides. Testing lambda on
        # segmentations would count each CGNet as often as it has segmentations, and call noise an
        # effect.
        knob: next(at for at, unit in enumerate(chain) if _is_constant(frame[knob], unit))
        for knob in factors
    }
    blocks: pd.Series[str] | None = None
    for index in sorted(set(home.values())):
        known = [knob for knob in factors if home[knob] <= index]
        here = [knob for knob in known if home[knob] == index]
        # At the first level the same seeds of all variants are the blocks; at later ones the
        # artifact of the level before, whose quality all that is made from it shares.
        frame[BLOCK] = _seeds(rows, chain[index]) if blocks is None else blocks
        columns = {**dict.fromkeys([*known, BLOCK], "first"), SCORE: "mean"}
        units = frame.groupby(chain[index], sort=False).agg(columns)
        yield _analysis(units, known, here, notes)
        blocks = chain[index]


def _analysis(
    units: pd.DataFrame, known: Sequence[str], here: Sequence[str], notes: list[str]
) -> Analysis:
    """Test the factors `here` on their units, and their interactions with all `known` ones."""
    # One block is the constant; as many blocks as units leave nothing to test with.
    block = BLOCK if 1 < units[BLOCK].nunique() < len(units) else None
    mains: list[Term] = [(knob,) for knob in here]
    # Blocks take in the factors that were tested on earlier artifacts; without them they must be
    # in the model by themselves, or an interaction would stand for them.
    given: list[Term] = [] if block else [(knob,) for knob in known if knob not in here]
    pairs: list[Term] = [pair for pair in combinations(known, 2) if set(pair) & set(here)]
    if pairs and not error_freedom(units, [*given, *mains, *pairs], block=block):
        notes.append(f"Interactions of {', '.join(known)}: too few runs to tell them from noise.")
        pairs = []
    # With empty cells an interaction stands for whichever combinations happened to be run.
    if not crossed(units, known):
        notes.append(
            f"Not all combinations of {', '.join(known)} were run: effects are adjusted for each "
            "other."
        )
        pairs = []
    model: list[Term] = [(knob,) for knob in known]
    if pairs:
        model += combinations(known, 2)
    means: list[Margin] = []
    for knob in here:
        means += _ordered(margins(units, SCORE, model, knob))
    table = type_two(units, SCORE, [*mains, *pairs], block=block, given=given)
    return Analysis(rows=table, margins=means)


def _ordered(found: Sequence[Margin]) -> list[Margin]:
    order = ordered(pd.Series([margin.level for margin in found]))
    return sorted(found, key=lambda margin: order.index(margin.level))


def _chain(rows: pd.DataFrame, metric: str) -> list["pd.Series[str]"]:
    """Return the artifacts that each score rests on, from the most shared to the trial itself."""
    units = pipeline_of(rows).units(metric.partition("/")[0])
    columns = [f"fingerprint.{stage}" for stage in units]
    known = [column for column in columns if column in rows and rows[column].notna().all()]
    # The trial itself comes last, so every knob is constant within some unit.
    return [*(rows[column] for column in known), rows["run_id"]]


def _seeds(rows: pd.DataFrame, units: "pd.Series[str]") -> "pd.Series[str]":
    """Return the seeds that went into each artifact, as one text."""
    named = [name for name in rows.columns if name.startswith("seed.")]
    seeds = [name for name in named if _is_constant(rows[name], units)] or ["seed"]
    return rows[seeds].apply(lambda seed: "/".join(map(str, seed)), axis=1)


def _is_constant(values: "pd.Series[str]", units: "pd.Series[str]") -> bool:
    """Return True if all trials of a unit have the same value."""
    return bool(values.groupby(units).nunique(dropna=False).max() == 1)


def effects_passages(found: Effects, naming: Naming) -> list[Passage]:
    """Return each group's table of variance and marginal means, in percent."""
    labels = naming.labels
    passages = [
        _group_passage(group, found.metric, index, naming)
        for index, group in enumerate(found.groups)
    ]
    notes = [
        f"{labels.knob(knob)} always moves with {', '.join(map(labels.knob, others))}: one factor."
        for knob, others in found.together.items()
    ]
    if found.powerless:
        powerless = ", ".join(map(labels.knob, found.powerless))
        metric = labels.metric(found.metric)
        notes.append(f"Varied, but of no effect on the artifacts behind {metric}: {powerless}.")
    return [*passages, Passage(notes=notes, method=[METHOD])]


def _group_passage(group: Group, metric: str, index: int, naming: Naming) -> Passage:
    labels = naming.labels
    where = join(", ", [naming.part(knob, value) for knob, value in group.where.items()])
    size = f"{number(group.variants, 'variant')}, {number(group.artifacts, 'artifact')}"
    lead = f"{labels.metric(metric)} {100 * group.mean:.1f} %, mean of {size}."
    suffix = f"_{index + 1}" if index else ""
    grids = []
    if group.rows or group.importance:
        tested = {row.term for row in group.rows}
        rows = [_row_cells(row, group, labels) for row in group.rows]
        rows += [
            [_knob_cell(knob, labels), NOTHING, NOTHING, NOTHING, NOTHING, f"{share:.2f}"]
            for knob, share in group.importance.items()
            if (knob,) not in tested
        ]
        heads = ["effect", "df", "F", "p", "partial eta²", "fANOVA"]
        grids.append(text_grid(f"effects{suffix}", "Effects and interactions", heads, rows))
    if group.margins:
        rows = _margin_rows(group.margins, labels)
        heads = ["knob", "value", "mean", "95 % interval"]
        grids.append(text_grid(f"means{suffix}", "Means by knob, in percent", heads, rows))
    is_constant = not group.rows and not group.importance
    own_notes = list(group.notes)
    if any(row.p is not None for row in group.rows):
        own_notes.append(UNADJUSTED)
    notes = ["No knob varies between these trials."] if is_constant else []
    return Passage(
        title=where or "all trials", lead=[lead], grids=grids, notes=[*notes, *own_notes]
    )


def _row_cells(row: AnovaRow, group: Group, labels: Labels) -> list[object]:
    share = group.importance.get(row.term[0]) if len(row.term) == 1 else None
    return [
        named(" × ".join(map(labels.knob, row.term)), " × ".join(row.term)),
        f"{row.freedom}, {row.error_freedom}",
        NOTHING if row.f is None else f"{row.f:.1f}",
        NOTHING if row.p is None else p_text(row.p),
        f"{row.eta:.2f}",
        "" if share is None else f"{share:.2f}",
    ]


def _margin_rows(found: Sequence[Margin], labels: Labels) -> list[list[object]]:
    levels: dict[str, list[str]] = {}
    for margin in found:
        levels.setdefault(margin.factor, []).append(margin.level)
    names = {knob: labels.value_names(knob, values) for knob, values in levels.items()}
    rows: list[list[object]] = []
    for margin in found:
        ends = ""
        if margin.low is not None and margin.high is not None:
            ends = f"{rounded(100 * margin.low, 1)} to {rounded(100 * margin.high, 1)}"
        level = value_text(margin.level)
        value = replace(cell(names[margin.factor][level]), key=level)
        rows.append([_knob_cell(margin.factor, labels), value, rounded(100 * margin.mean, 1), ends])
    return rows


def _knob_cell(knob: str, labels: Labels) -> GridCell:
    return named(labels.knob(knob), knob)
