"""How many seeds a difference between two systems would need to be told from noise.

The test is that of `analysis.statistics.bootstrap`: the variance of a difference over n seeds is
that of the images plus that of the seeds by n, and t has Satterthwaite's degrees of freedom. Where
the seeds' variance is s2, what is seen of it in n seeds is s2 chi2(n - 1) / (n - 1), independent of
their mean, which is normal. So the power is the mean over that chi-square distribution of P(|mean|
> t sqrt(images_sd^2 + seen / n)). More seeds do not make the images more: some differences need
more images instead. s2 is a guess from few seeds: its chi-square interval gives that of the number.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from analysis.statistics.bootstrap import LEVEL, satterthwaite

POWER = 0.8
MOST = 10_000
QUANTILES = 400


@dataclass(frozen=True, kw_only=True)
class Need:
    """The seeds that show a difference of `delta` (a fraction) with a chance of 80 % at the 5 %
    level.

    Attributes:
        seeds: the number for the observed spread; None where 10,000 are not enough, as with too few
        images. low, high: the numbers for the ends of the spread's 95 % interval; None as above.
        smallest: the difference that these images can just show, were there no end of seeds.
        freedom: degrees of freedom behind the spread.
    """

    delta: float
    seeds: int | None
    low: int | None
    high: int | None
    smallest: float
    freedom: float

    @property
    def text(self) -> str:
        """In words, for a reader."""
        delta = f"a difference of {100 * self.delta:.1f}"
        if self.seeds is None:
            least = f"{100 * self.smallest:.1f}"
            return f"{delta} cannot be shown with so few images, whatever the seeds; {least} can"
        high = self.high if self.high is not None else f"more than {MOST}"
        return f"{delta} would need {self.seeds} seeds ({self.low} to {high})"


def need(delta: float, *, images_sd: float, seed_variance: float, freedom: float) -> Need:
    """The number of seeds for `delta`, with the interval that an estimate of `freedom` degrees of
    freedom leaves.

    Args:
        delta: the true difference, a fraction above 0.
        images_sd: standard error of the difference that comes from the images.
        seed_variance: variance of the difference from seed to seed, paired where the systems are.
        freedom: degrees of freedom of that estimate.
    """
    ends = [freedom / stats.chi2.ppf(tail, freedom) for tail in ((1 + LEVEL) / 2, (1 - LEVEL) / 2)]
    numbers = [_fewest(delta, images_sd, seed_variance * factor) for factor in (1.0, *ends)]
    smallest = images_sd * float(stats.norm.ppf((1 + LEVEL) / 2) + stats.norm.ppf(POWER))
    return Need(
        delta=delta,
        seeds=numbers[0],
        low=numbers[1],
        high=numbers[2],
        smallest=smallest,
        freedom=freedom,
    )


def power(delta: float, seeds: int, *, images_sd: float, seed_variance: float) -> float:
    """The chance that `seeds` seeds, at least 2, show a true difference of `delta` at the 5 %
    level.
    """
    seen = (
        seed_variance
        * stats.chi2.ppf((np.arange(QUANTILES) + 0.5) / QUANTILES, seeds - 1)
        / (seeds - 1)
        / seeds
    )
    freedom = np.array([satterthwaite(images_sd**2, each, seeds - 1) for each in seen])
    reach = np.sqrt(images_sd**2 + seen) * stats.t.ppf((1 + LEVEL) / 2, freedom)
    error = math.sqrt(images_sd**2 + seed_variance / seeds) or 1.0
    return float(
        np.mean(stats.norm.sf((reach - delta) / error) + stats.norm.cdf((-reach - delta) / error))
    )


def _fewest(delta: float, images_sd: float, variance: float) -> int | None:
    """The smallest number of seeds with enough power, at least 2; None where even a great many are
    too few.
    """

    def enough(seeds: int) -> bool:
        return power(delta, seeds, images_sd=images_sd, seed_variance=variance) >= POWER

    few, many = 1, 2
    while not enough(many):
        few, many = many, 2 * many
        if few > MOST:
            return None
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (few, middle) if enough(middle) else (middle, many)
    return many
