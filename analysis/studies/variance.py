"""The spread of a score by the seed of each stage: the variance components of
`analysis.statistics.seed_design`.

Intervals of differences of mean squares are those of the modified large-sample method (Burdick and
Graybill, Confidence Intervals on Variance Components, 1992)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from analysis.read.artifacts import counts_of
from analysis.read.counts import Floats
from analysis.read.knobs import measurements
from analysis.read.labels import labels_of
from analysis.read.pipeline import pipeline_of
from analysis.statistics.bootstrap import LEVEL, interval
from analysis.statistics.seed_design import Design, Square, design, squares
from analysis.table.grid import Passage, named, text_grid
from occse.naming.counts import number
from occse.naming.labels import Labels

# A standard error from 2,000 resamples is known to 1.6 %.
RESAMPLES = 2000
# The source that is not a stage: seeds of several together.
INTERACTION = "interaction"
METHOD = (
    "Method: crossed random effects of seeds within variants, by the method of moments; mean "
    "squares are averaged over variants, and the intervals are those of the modified large-sample "
    "method."
)


@dataclass(frozen=True, kw_only=True)
class Component:
    """The variance that one source adds, of a score as a fraction.

    Attributes:
        stages: whose seed it is; several where they always had the same, so that they cannot be
            told apart; none for the interaction of the others.
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

    def name(self, labels: Labels) -> str:
        """Return the source for people."""
        return ", ".join(map(labels.stage, self.stages)) or INTERACTION


@dataclass(frozen=True, kw_only=True)
class Variance:
    """The sources of the spread of `metric` over seeds.

    Attributes:
        components: by stage, upstream first, then their interaction. constant: stages that had one
        seed only, whose share is unknown and not in these numbers. variants, left_out: how many
        variants went in, and how many have other stages or lack runs. runs: runs of each variant.
        images, images_sd: standard error of a score that comes from the choice of that many images;
        None if not asked.
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
        # Sources are independent, so their variances add up.
        return math.hypot(*(each.sd for each in self.components))

    def share(self, component: Component) -> float:
        """Of the variance of one run, from 0 to 1; NaN where nothing varies."""
        return component.sd**2 / self.total_sd**2 if self.total_sd else math.nan


def variance(
    trials: pd.DataFrame, field: str, *, tracking: str | None = None, images: bool = True
) -> Variance:
    """The variance of `field`/miou by stage seed.

    Args:
        trials: from `load`.
        field: a scored stage.
        tracking: as in `load`; the counts there tell what the images add.
        images: whether to work that out.

    Raises:
        ValueError: no such score, no variant with two seeds, or counts are missing.
    """
    expected = pipeline_of(trials).scored
    if field not in expected:
        raise ValueError(f"expected a scored stage ({', '.join(expected)}), not {field!r}")
    rows = measurements(trials, f"{field}/miou")
    # Mean squares can be averaged over variants of one design only; the design with most runs is
    # taken.
    found: dict[tuple[object, ...], list[tuple[Design, pd.DataFrame]]] = {}
    for _, group in rows.groupby("variant", sort=False):
        if (made := design(group, field)).complete:
            found.setdefault((made.sources, made.levels, made.constant), []).append((made, group))
    if not found:
        raise ValueError(
            f"no variant has two seeds of {labels_of(trials).stage(field)}, each combined with "
            "every one of another stage"
        )
    chosen = max(found.values(), key=lambda each: len(each) * len(each[0][1]))
    made = chosen[0][0]
    groups = [group for _, group in chosen]
    of_images = (
        _of_images([group.iloc[:1] for group in groups], field, tracking)
        if images
        else (None, None)
    )
    return Variance(
        metric=f"{field}/miou",
        components=components(
            np.stack([each.table(group[f"{field}/miou"].to_numpy()) for each, group in chosen]),
            made.sources,
        ),
        constant=made.constant,
        variants=len(groups),
        left_out=rows["variant"].nunique() - len(groups),
        runs=len(groups[0]),
        images=of_images[0],
        images_sd=of_images[1],
    )


def variance_passage(found: Variance, labels: Labels) -> Passage:
    """Return the standard deviation by the seed of each stage, in percentage points."""
    rows = [_component_cells(component, found, labels) for component in found.components]
    if len(found.components) > 1:
        rows.append(["all, of one run", f"{100 * found.total_sd:.2f}", "", "100 %"])
    if found.images_sd is not None:
        images = f"beside it: choice of {found.images} images"
        rows.append([images, f"{100 * found.images_sd:.2f}", "", ""])
    grid = text_grid(
        "variance",
        "Standard deviation by the seed of each stage, in points",
        ["seed of", "standard deviation", "95 % interval", "share of variance"],
        rows,
    )
    return Passage(grids=[grid], notes=_notes(found, labels), method=[METHOD])


def _component_cells(component: Component, found: Variance, labels: Labels) -> list[object]:
    low, high = math.sqrt(component.low), math.sqrt(component.high)
    share = f"{100 * found.share(component):.0f} %"
    ends = f"{100 * low:.2f} to {100 * high:.2f}"
    name = named(component.name(labels), ", ".join(component.stages) or INTERACTION)
    return [name, f"{100 * component.sd:.2f}", ends, share]


def _notes(found: Variance, labels: Labels) -> list[str]:
    metric = labels.metric(found.metric)
    variants = number(found.variants, "variant")
    lines = [f"{metric} in points; {variants} of {found.runs} runs each."]
    if found.left_out:
        lines[0] += (
            f" Left out: {found.left_out} with other stages, or without all combinations of their "
            "seeds."
        )
    lines += [
        f"{component.name(labels)}: always the same seed for them all, so their shares cannot be "
        "told apart."
        for component in found.components
        if len(component.stages) > 1
    ]
    if found.constant:
        constant = ", ".join(map(labels.stage, found.constant))
        lines.append(f"One seed only: {constant}; what another one would change is not in here.")
    if found.images is not None:
        lines.append(
            "All runs are scored on the same images: their choice moves scores together "
            "(bootstrap)."
        )
    return lines


def components(table: Floats, names: Sequence[tuple[str, ...]]) -> tuple[Component, ...]:
    """Variance components of a crossed design.

    Args:
        table: (V, L1, ..., Lk) scores of V variants by the seed of each of k sources.
        names: the stages of each source.
    """
    *sources, last = squares(table)
    if not sources:
        return (_alone(names[0], last),)
    return (
        *(_above(stages, each, last) for stages, each in zip(names, sources, strict=True)),
        _alone((), last),
    )


def _alone(stages: tuple[str, ...], square: Square) -> Component:
    tails = ((1 + LEVEL) / 2, (1 - LEVEL) / 2)
    # The exact interval of a variance under normal noise, from the chi-square distribution.
    low, high = (
        square.value * square.freedom / stats.chi2.ppf(tail, square.freedom) for tail in tails
    )
    return Component(stages=stages, variance=square.value, low=low, high=high)


def _above(stages: tuple[str, ...], square: Square, noise: Square) -> Component:
    """The variance by which a mean square is above the noise, with its interval."""
    tail = (1 - LEVEL) / 2
    freedom = square.freedom
    below_freedom = noise.freedom
    # Modified large-sample interval of a difference of mean squares (Burdick and Graybill 1992).
    # With g12 the lower end is 0 just where the F test of this source is at its limit; with h12 the
    # same holds of the upper end. Without them interval and test could contradict each other.
    upper_f, lower_f = (stats.f.isf(side, freedom, below_freedom) for side in (tail, 1 - tail))
    g1, h1 = (
        1 - freedom / stats.chi2.isf(tail, freedom),
        freedom / stats.chi2.isf(1 - tail, freedom) - 1,
    )
    g2 = 1 - below_freedom / stats.chi2.isf(tail, below_freedom)
    h2 = below_freedom / stats.chi2.isf(1 - tail, below_freedom) - 1
    g12 = ((upper_f - 1) ** 2 - g1**2 * upper_f**2 - h2**2) / upper_f
    h12 = ((1 - lower_f) ** 2 - h1**2 * lower_f**2 - g2**2) / lower_f
    first = square.value**2
    second = noise.value**2
    both = square.value * noise.value
    # g12 and h12 may be negative, and the sums then fall below 0 by a little.
    down = math.sqrt(max(0.0, g1**2 * first + h2**2 * second + g12 * both))
    up = math.sqrt(max(0.0, h1**2 * first + g2**2 * second + h12 * both))
    value = square.value - noise.value
    return Component(
        stages=stages,
        variance=value / square.sharing,
        low=max(0.0, (value - down) / square.sharing),
        high=max(0.0, (value + up) / square.sharing),
    )


def _of_images(groups: list[pd.DataFrame], field: str, tracking: str | None) -> tuple[int, float]:
    """Number of images, and the standard error that they leave in a score: root mean square over
    one run of each.
    """
    counts = counts_of(pd.concat(groups), field, tracking=tracking).values()
    # One run at a time: the error that the images bring to a single score.
    found = [interval({0: each}, resamples=RESAMPLES) for each in counts]
    return found[0].images, math.sqrt(float(np.mean([each.images_sd**2 for each in found])))
