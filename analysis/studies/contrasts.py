"""Two variants, or two sets of variants, against each other: matched over all other knobs.

`cgnet.erasing=cse` against `cgnet.erasing=class_agnostic` is the mean, over every setting of the
other knobs that both have, of the difference of the two variants at that setting. Its noise is
taken to be that of a single difference, pooled over the sweep: the mean over several variants that
share their seeds has at most that."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from analysis.read.artifacts import counts_of
from analysis.read.counts import Floats, PerImage
from analysis.read.knobs import PARAM, comparable, matching, varied
from analysis.read.labels import Naming, variant_called
from analysis.read.yaml_file import Where
from analysis.statistics.bootstrap import RESAMPLES, Interval, Measured, measure, with_error
from analysis.statistics.seed_design import SeedNoise, pooled_noise
from analysis.studies.compare import (
    ends,
    method_text,
    metric_of,
    p_text,
    verdict_of,
)
from analysis.studies.other_thresholds import Elsewhere, at_other_settings, mean_of_pairs
from analysis.studies.pairs import Pair, finished, pair_of, pairs_with_baseline
from analysis.table.digits import points
from analysis.table.grid import Passage, named, text_grid
from occse.naming.markup import join

#: Variants as a user names them: by knobs, or one by its name as a table shows it.
Side = Where | str


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """One side against the other.

    Attributes:
        one, other: the variants of each side, matched pair by pair.
        difference: mean over the pairs, with interval and p-value.
        confounded: knobs that differ between the sides beside those that were asked for.
        elsewhere: the difference at other alphas or thresholds; None where none are recorded, or
            where nothing is claimed.
    """

    one: tuple[str, ...]
    other: tuple[str, ...]
    difference: Interval
    confounded: tuple[str, ...]
    elsewhere: Elsewhere | None = None


def contrast(
    trials: pd.DataFrame,
    field: str,
    one: Side,
    other: Side | None = None,
    *,
    tracking: str | None = None,
    subset: str = "all",
    resamples: int = RESAMPLES,
) -> Contrast:
    """Compare `one` with `other`, by default the baseline, by the mIoU of the stage `field`.

    Args:
        trials: from `load`, of one sweep.
        field: a scored stage.
        one, other: the sides.
        tracking: as in `load`.
        subset: `all` images, or the `multi`-label ones.
        resamples: number of the bootstrap's draws.

    Raises:
        ValueError: a side is empty, the sides overlap or have no setting in common, or a run has no
            counts of that stage.
    """
    rows = finished(trials, field, tracking=tracking)
    first, second = _side(rows, one), _side(rows, other)
    # A run paired with itself would add a difference of exactly 0, and make the noise look small.
    if set(first["run_id"]) & set(second["run_id"]):
        raise ValueError(f"{told(one)} and {told(other)} have variants in common; expected none")
    matched, confounded = _matched(first, second, asked={*_knobs(one), *_knobs(other)})
    if not matched:
        raise ValueError(
            f"no variant of {told(one)} has the other knobs of a variant of {told(other)}"
        )
    pairs = [
        pair_of(rows[rows["variant"] == a], rows[rows["variant"] == b], field) for a, b in matched
    ]
    used = list[str]()
    for pair in pairs:
        used += [*pair.system, *pair.reference]
    counts = counts_of(rows[rows["run_id"].isin(used)], field, tracking=tracking, subset=subset)
    measured = _measured(pairs, counts, resamples=resamples)
    # The other variants' spread is taken from logged scores, which exist for both subsets.
    noise = _noise(rows, metric_of(field, subset), pairs, _by_pair(measured.values, pairs), field)
    difference = with_error(_mean_over(pairs, measured), noise)
    elsewhere = None
    # As in a table of all variants: only a claim can be limited, and only on all images.
    if subset == "all" and verdict_of(difference.p or 0.0, difference.value) != "within noise":
        claimed = difference.value
        found = [
            at_other_settings(rows, field, pair, claimed=claimed, tracking=tracking)
            for pair in pairs
        ]
        elsewhere = mean_of_pairs(found, claimed=claimed)
    return Contrast(
        one=tuple(a for a, _ in matched),
        other=tuple(b for _, b in matched),
        difference=difference,
        confounded=tuple(confounded),
        elsewhere=elsewhere,
    )


def contrast_passage(
    found: Contrast,
    field: str,
    one: Side,
    other: Side | None,
    naming: Naming,
    *,
    subset: str = "all",
) -> Passage:
    """Return a contrast as a table of one row, with the variants that were matched."""
    p = found.difference.p or 0.0
    metric = naming.labels.metric(metric_of(field, subset))
    against = side_name(other, naming)
    limits = [found.elsewhere.text] if found.elsewhere else []
    row = [
        named(side_name(one, naming), told(one)),
        named(against, told(other)),
        points(found.difference.value),
        ends(found.difference),
        p_text(p),
        found.difference.seeds,
        "; ".join([verdict_of(p, found.difference.value), *limits]),
    ]
    grid = text_grid(
        f"contrast_{field}",
        f"{metric}: one side against the other, in points",
        ["one", "against", "difference", "95 % interval", "p", "seeds", "verdict"],
        [row],
    )
    notes = [method_text([found.difference], metric, against=against)]
    names = [
        f"{naming.variant(a)} with {naming.variant(b)}"
        for a, b in zip(found.one, found.other, strict=True)
    ]
    notes.append(f"Matched: {'; '.join(names)}.")
    if found.confounded:
        confounded = ", ".join(map(naming.labels.knob, found.confounded))
        notes.append(f"The sides differ in these knobs too: {confounded}.")
    return Passage(grids=[grid], notes=notes)


def side_name(side: Side | None, naming: Naming) -> str:
    """Return the name of a side for people."""
    if side is None or isinstance(side, str):
        return "the baseline" if side is None else naming.variant(side)
    return join(", ", [naming.part(knob, value) for knob, value in side.items()])


def told(side: Side | None) -> str:
    """Return a side as it was given, for errors and programs."""
    if side is None:
        return "the baseline"
    if isinstance(side, str):
        return side
    return ", ".join(f"{knob}={value}" for knob, value in side.items())


def _side(rows: pd.DataFrame, side: Side | None) -> pd.DataFrame:
    if side is None:
        found = rows[rows["baseline"]]
        if found.empty:
            raise ValueError("the sweep has no finished trial of a baseline: say --against what")
        return found
    if isinstance(side, str):
        return rows[rows["variant"] == variant_called(side, rows)]
    runs = matching(rows.to_dict("records"), side, location=("where",))
    found = rows[rows["run_id"].isin([run["run_id"] for run in runs])]
    if found.empty:
        raise ValueError(f"no finished trial has all of {told(side)} at once")
    return found


def _knobs(side: Side | None) -> set[str]:
    return set(side) if isinstance(side, Mapping) else set()


def _matched(
    first: pd.DataFrame, second: pd.DataFrame, *, asked: set[str]
) -> tuple[list[tuple[str, str]], list[str]]:
    """Return the pairs of variants that agree in all knobs that both sides vary, and confounders.

    A knob that one side does not have, or that has one value on each side, cannot be matched.
    """
    both = pd.concat([first, second])
    shared, confounded = [], []
    for knob in varied(both):
        own, others = first[PARAM + knob], second[PARAM + knob]
        is_asked = knob in asked or knob.rpartition(".")[2] in asked
        # CGNet's knobs do not exist for the classifier's own maps: there is nothing to match.
        if is_asked or own.isna().all() or others.isna().all():
            continue
        # One value on each side, and not the same (else it would not vary): the difference may be
        # due to this knob as well, which the reader must be told.
        if own.nunique(dropna=False) == others.nunique(dropna=False) == 1:
            confounded.append(knob)
        else:
            shared.append(PARAM + knob)

    def settings(rows: pd.DataFrame) -> dict[str, tuple[object, ...]]:
        firsts = rows.drop_duplicates("variant").to_dict("records")
        return {
            str(run["variant"]): tuple(comparable(run[column]) for column in shared)
            for run in firsts
        }

    of_second = settings(second)
    pairs = []
    for variant, setting in settings(first).items():
        pairs += [(variant, other) for other, its in of_second.items() if its == setting]
    return pairs, confounded


def _measured(pairs: Sequence[Pair], counts: Mapping[str, PerImage], *, resamples: int) -> Measured:
    """Return the differences of all runs of all pairs, one after the other."""
    # Numbered anew: the replicates of all pairs go through one bootstrap, so that all share the
    # drawn images and the covariance between pairs is seen.
    system = dict[int, PerImage]()
    reference = dict[int, PerImage]()
    for pair in pairs:
        for run, other in zip(pair.system, pair.reference, strict=True):
            system[len(system)] = counts[run]
            reference[len(reference)] = counts[other]
    return measure(system, reference, resamples=resamples)


def _by_pair(values: Floats, pairs: Sequence[Pair]) -> list[Floats]:
    ends = np.cumsum([len(pair.system) for pair in pairs])
    # Without the last end, at which `split` would add an empty part.
    return np.split(values, ends[:-1])


def _mean_over(pairs: Sequence[Pair], measured: Measured) -> Measured:
    """Return the mean difference over the pairs, replicate by replicate where they have as many."""
    lengths = {len(pair.system) for pair in pairs}
    # Pairs with unlike numbers of replicates cannot be averaged seed by seed; all runs then weigh
    # the same.
    if len(lengths) > 1:
        return measured
    values: Floats = np.mean(_by_pair(measured.values, pairs), axis=0)
    return replace(measured, values=values)


def _noise(
    rows: pd.DataFrame,
    metric: str,
    pairs: Sequence[Pair],
    differences: Sequence[Floats],
    field: str,
) -> SeedNoise:
    """Return the noise of the noisiest of the pairs, pooled with the sweep's other variants.

    The scores of the others are those that the sweep logged, which need no counts.
    """
    groups = [(pair.design, values) for pair, values in zip(pairs, differences, strict=True)]
    if metric in rows and rows["baseline"].any() and not rows["baseline"].all():
        scores = rows.set_index("run_id")[metric]
        taken = {pair.system for pair in pairs}
        # A pair of two or three seeds says little of its own noise; the sweep's other variants say
        # more.
        others = [
            pair for pair in pairs_with_baseline(rows, field).values() if pair.system not in taken
        ]
        groups += [(pair.design, pair.differences(scores)) for pair in others]
    noises = pooled_noise(groups)[: len(pairs)]
    # The mean over pairs has at most the noise of its noisiest pair (see the module's docstring).
    return max(noises, key=lambda noise: noise.of_mean)
