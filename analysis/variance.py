"""How much of a score's spread comes from the seed of which stage.

A sweep with `seeds: {cgnet: 3, deeplab: 2}` runs every combination. Within each variant that is a crossed design of
random effects, y = mean + cgnet + deeplab + interaction, whose variances the method of moments finds: the expected mean
square of a stage is that of the interaction plus n times the stage's variance, n being the runs that share its seed.
Mean squares are averaged over variants, which are taken to be alike in this; Satterthwaite's formula counts their
degrees of freedom where variants share a classifier. Intervals of the differences of mean squares are those of the
modified large-sample method (Burdick and Graybill, Confidence Intervals on Variance Components, 1992).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from analysis.artifacts import counts_of
from analysis.bootstrap import LEVEL, interval
from analysis.counts import Floats
from analysis.knobs import measurements
from analysis.power import pooled

# The trained stages that each scored stage rests on.
TRAINED = {
    "erase_and_infer": ("pretrain", "oc"),
    "cam": ("pretrain", "oc", "cgnet"),
    "crf": ("pretrain", "oc", "cgnet"),
    "pseudo": ("pretrain", "oc", "cgnet", "affinity"),
    "seg": ("pretrain", "oc", "cgnet", "affinity", "deeplab"),
}


RESAMPLES = 2000
METHOD = (
    "Method: crossed random effects of seeds within variants, by the method of moments; mean squares are averaged over "
    "variants, and the intervals are those of the modified large-sample method."
)


@dataclass(frozen=True, kw_only=True)
class Design:
    """The seeds of a variant's runs: `levels` of them for each of `sources`; `complete` with every combination once."""

    sources: tuple[tuple[str, ...], ...]
    levels: tuple[int, ...]
    constant: tuple[str, ...]
    complete: bool

    @property
    def runs(self) -> int:
        """Runs that a complete design takes."""
        return math.prod(self.levels)


@dataclass(frozen=True, kw_only=True)
class Component:
    """The variance that one source adds, of a score as a fraction.

    Attributes:
        stages: whose seed it is; several where they always had the same, so that they cannot be told apart; none for
            the interaction of the others.
        variance: the estimate, which may come out below 0.
        low, high: the ends of its 95 % interval, at least 0.
    """

    stages: tuple[str, ...]
    variance: float
    low: float
    high: float

    @property
    def sd(self) -> float:
        """Standard deviation; 0 for an estimate below 0."""
        return math.sqrt(max(0.0, self.variance))

    @property
    def name(self) -> str:
        """The source, for people."""
        return ", ".join(self.stages) or "interaction"


@dataclass(frozen=True, kw_only=True)
class Variance:
    """Where the spread of `metric` over seeds comes from.

    Attributes:
        components: by stage, upstream first, then their interaction.
        constant: stages that had one seed only, whose share is unknown and not in these numbers.
        variants, left_out: how many variants went in, and how many have other stages or lack runs.
        runs: runs of each variant.
        images, images_sd: standard error of a score that comes from the choice of that many images; None if not asked.
    """

    metric: str
    components: tuple[Component, ...]
    constant: tuple[str, ...]
    variants: int
    left_out: int
    runs: int
    images: int | None = None
    images_sd: float | None = None

    @property
    def total_sd(self) -> float:
        """Standard deviation of one run whose seeds are all new."""
        return math.hypot(*(each.sd for each in self.components))

    def share(self, component: Component) -> float:
        """Of the variance of one run, from 0 to 1; NaN where nothing varies."""
        return component.sd**2 / self.total_sd**2 if self.total_sd else math.nan


def variance(trials: pd.DataFrame, field: str, *, tracking: str | None = None, images: bool = True) -> Variance:
    """The variance of `field`/miou by stage seed.

    Args:
        trials: from `load`.
        field: a scored stage.
        tracking: as in `load`; the counts there tell what the images add.
        images: whether to work that out.

    Raises:
        ValueError: no such score, no variant with two seeds, or counts are missing.
    """
    if field not in TRAINED:
        raise ValueError(f"{field!r} is no scored stage; expected one of {', '.join(TRAINED)}")
    rows = measurements(trials, f"{field}/miou")
    designs: dict[Design, list[pd.DataFrame]] = {}
    for _, group in rows.groupby("variant", sort=False):
        designs.setdefault(_design(group, field), []).append(group)
    usable = {design: groups for design, groups in designs.items() if design.complete}
    if not usable:
        raise ValueError(f"no variant has two seeds of {field}, each combined with every one of another stage")
    design, groups = max(usable.items(), key=lambda item: len(item[1]) * item[0].runs)
    of_images = _of_images([group.iloc[:1] for group in groups], field, tracking) if images else (None, None)
    return Variance(
        metric=f"{field}/miou",
        components=components(np.stack([_table(group, design, field) for group in groups]), design.sources),
        constant=design.constant,
        variants=len(groups),
        left_out=rows["variant"].nunique() - len(groups),
        runs=design.runs,
        images=of_images[0],
        images_sd=of_images[1],
    )


def variance_text(found: Variance) -> str:
    """A Markdown table, in percentage points, with the method below."""
    lines = ["| seed of | standard deviation | 95 % interval | share of variance |", "| :-- | --: | :-: | --: |"]
    for each in found.components:
        ends = f"{100 * math.sqrt(each.low):.2f} to {100 * math.sqrt(each.high):.2f}"
        lines.append(f"| {each.name} | {100 * each.sd:.2f} | {ends} | {100 * found.share(each):.0f} % |")
    if len(found.components) > 1:
        lines.append(f"| all, of one run | {100 * found.total_sd:.2f} | | 100 % |")
    if found.images_sd is not None:
        lines.append(f"| beside it: choice of {found.images} images | {100 * found.images_sd:.2f} | | |")
    return "\n".join([*lines, "", *_notes(found)])


def _notes(found: Variance) -> list[str]:
    lines = [f"{found.metric} in points; {found.variants} variants of {found.runs} runs each."]
    if found.left_out:
        lines[0] += f" Left out: {found.left_out} with other stages, or without all combinations of their seeds."
    lines += [
        f"{each.name}: always the same seed for them all, so their shares cannot be told apart."
        for each in found.components
        if len(each.stages) > 1
    ]
    if found.constant:
        lines.append(f"One seed only: {', '.join(found.constant)}; what another one would change is not in here.")
    if found.images is not None:
        lines.append("All runs are scored on the same images: their choice moves scores together (bootstrap).")
    return [*lines, METHOD]


def components(table: Floats, names: Sequence[tuple[str, ...]]) -> tuple[Component, ...]:
    """Variance components of a crossed design.

    Args:
        table: (V, L1, ..., Lk) scores of V variants by the seed of each of k sources.
        names: the stages of each source.
    """
    axes = range(1, table.ndim)
    rest = table - table.mean(axis=tuple(axes), keepdims=True)
    effects = [rest.mean(axis=tuple(other for other in axes if other != axis), keepdims=True) for axis in axes]
    if len(effects) == 1:
        return (_alone(names[0], *pooled(rest, freedom=rest.shape[1] - 1)),)
    for effect in effects:
        rest = rest - effect
    freedom = table[0].size - 1 - sum(levels - 1 for levels in table.shape[1:])
    noise = pooled(rest.reshape(len(table), -1), freedom=freedom)
    found = []
    for stages, levels, effect in zip(names, table.shape[1:], effects, strict=True):
        sharing = table[0].size // levels
        mean, free = pooled(effect.reshape(len(table), -1), freedom=levels - 1)
        found.append(_above(stages, sharing * mean, free, noise, sharing))
    return (*found, _alone((), *noise))


def _alone(stages: tuple[str, ...], mean_square: float, freedom: float) -> Component:
    low, high = (mean_square * freedom / stats.chi2.ppf(tail, freedom) for tail in ((1 + LEVEL) / 2, (1 - LEVEL) / 2))
    return Component(stages=stages, variance=mean_square, low=low, high=high)


def _above(
    stages: tuple[str, ...], mean_square: float, freedom: float, noise: tuple[float, float], sharing: int
) -> Component:
    """The variance (mean_square - noise) / sharing, with its interval."""
    tail = (1 - LEVEL) / 2
    below, below_freedom = noise
    upper_f, lower_f = (stats.f.isf(side, freedom, below_freedom) for side in (tail, 1 - tail))
    g1, h1 = 1 - freedom / stats.chi2.isf(tail, freedom), freedom / stats.chi2.isf(1 - tail, freedom) - 1
    g2 = 1 - below_freedom / stats.chi2.isf(tail, below_freedom)
    h2 = below_freedom / stats.chi2.isf(1 - tail, below_freedom) - 1
    g12 = ((upper_f - 1) ** 2 - g1**2 * upper_f**2 - h2**2) / upper_f
    h12 = ((1 - lower_f) ** 2 - h1**2 * lower_f**2 - g2**2) / lower_f
    first, second, both = mean_square**2, below**2, mean_square * below
    down = math.sqrt(max(0.0, g1**2 * first + h2**2 * second + g12 * both))
    up = math.sqrt(max(0.0, h1**2 * first + g2**2 * second + h12 * both))
    value = mean_square - below
    return Component(
        stages=stages,
        variance=value / sharing,
        low=max(0.0, (value - down) / sharing),
        high=max(0.0, (value + up) / sharing),
    )


def _design(group: pd.DataFrame, field: str) -> Design:
    """Which stages had which number of seeds in the runs of a variant."""
    by_codes: dict[tuple[int, ...], list[str]] = {}
    for stage in TRAINED[field]:
        if (column := f"seed.{stage}") in group and group[column].notna().all():
            by_codes.setdefault(tuple(_codes(group, stage)), []).append(stage)
    varying = {tuple(stages): max(codes) + 1 for codes, stages in by_codes.items() if max(codes)}
    return Design(
        sources=tuple(varying),
        levels=tuple(varying.values()),
        constant=tuple(stage for codes, stages in by_codes.items() if not max(codes) for stage in stages),
        complete=len(group) == math.prod(varying.values()) == len(set(zip(*by_codes, strict=True))) > 1,
    )


def _codes(group: pd.DataFrame, stage: str) -> list[int]:
    codes: list[int] = pd.factorize(group[f"seed.{stage}"], sort=True)[0].tolist()
    return codes


def _table(group: pd.DataFrame, design: Design, field: str) -> Floats:
    """The scores of a variant by the seed of each source."""
    table = np.empty(design.levels)
    table[tuple(_codes(group, stages[0]) for stages in design.sources)] = group[f"{field}/miou"]
    return table


def _of_images(groups: list[pd.DataFrame], field: str, tracking: str | None) -> tuple[int, float]:
    """Number of images, and the standard error that they leave in a score: root mean square over one run of each."""
    counts = counts_of(pd.concat(groups), field, tracking=tracking).values()
    found = [interval({0: each}, resamples=RESAMPLES) for each in counts]
    return found[0].images, math.sqrt(float(np.mean([each.images_sd**2 for each in found])))
