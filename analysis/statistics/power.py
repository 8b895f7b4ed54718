"""The number of seeds that a difference between two systems needs to be told from noise.

The test is that of `analysis.statistics.bootstrap` for one pair: the variance of a difference over
n seeds is that of the images plus that of the seeds by n. With a variance s2 from seed to seed,
n seeds show s2 chi2(n - 1) / (n - 1), independent of their mean, which is normal. So the power is
the mean over that chi-square distribution of the chance that the mean lies beyond the reach of the
error. More seeds do not make the images more: some differences need more images instead. s2 is a
guess from few seeds: its chi-square interval gives that of the number."""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import special

from analysis.read.counts import Floats
from analysis.statistics.behrens_fisher import reaches
from analysis.statistics.bootstrap import LEVEL

# The chance with which a difference shall be shown: the usual convention of power analysis.
POWER = 0.8
# Nobody trains a network with more seeds.
MOST = 10_000
# Quantiles of the chi-square distribution: the power errs by less than 0.001.
QUANTILES = 400


@dataclass(frozen=True, kw_only=True)
class Need:
    """The seeds that show a difference of `delta` (a fraction) with a chance of 80 % at the 5 %
    level.

    Attributes:
        delta: the difference.
        seeds: the number for the observed spread; None where 10,000 are not enough, as with too few
            images.
        low, high: the numbers for the ends of the spread's 95 % interval; None as above.
        smallest: the difference that these images can just show with seeds without end.
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
        """The need in words, in points."""
        delta = f"a difference of {_points(self.delta)}"
        if self.seeds is None and self.delta > self.smallest:
            return f"{delta} would need more than {MOST} seeds"
        if self.seeds is None:
            smallest = _points(self.smallest, above=self.delta)
            return (
                f"{delta} cannot be shown with so few images, whatever the seeds; at least "
                f"{smallest} can, with enough of them"
            )
        high = self.high if self.high is not None else f"more than {MOST}"
        return f"{delta} would need {self.seeds} seeds ({self.low} to {high})"


def need(delta: float, *, images_sd: float, seed_variance: float, freedom: float) -> Need:
    """Return the number of seeds for `delta`, and its interval for an uncertain variance.

    Args:
        delta: the true difference, a fraction above 0.
        images_sd: standard error of the difference that comes from the images.
        seed_variance: variance of the difference from seed to seed, paired where the systems are.
        freedom: degrees of freedom of that estimate.
    """
    # The interval of a variance estimate s2: s2 * freedom over quantiles of chi-square. The upper
    # quantile gives the smaller variance, and so the smaller number of seeds.
    tails = ((1 + LEVEL) / 2, (1 - LEVEL) / 2)
    ends = [freedom / float(_chi_square(np.array(tail), freedom)) for tail in tails]
    numbers = [_fewest(delta, images_sd, seed_variance * factor) for factor in (1.0, *ends)]
    # With endless seeds only the images' error is left, and it is normal: the textbook formula.
    smallest = images_sd * float(special.ndtri((1 + LEVEL) / 2) + special.ndtri(POWER))
    return Need(
        delta=delta,
        seeds=numbers[0],
        low=numbers[1],
        high=numbers[2],
        smallest=smallest,
        freedom=freedom,
    )


def power(delta: float, seeds: int, *, images_sd: float, seed_variance: float) -> float:
    """Return the chance that `seeds` seeds show a true difference of `delta` at the 5 % level.

    Args:
        delta: the true difference, a fraction.
        seeds: at least 2.
        images_sd: standard error of the difference that comes from the images.
        seed_variance: variance of the difference from seed to seed.
    """
    # The mean over equally likely quantiles stands for the integral over the variance estimate.
    seen = seed_variance * _estimates(seeds - 1) / seeds
    reach = reaches(images_sd**2, seen, seeds - 1, LEVEL)
    # Where neither images nor seeds vary, any positive scale gives a power of 1: the reach is 0.
    error = math.sqrt(images_sd**2 + seed_variance / seeds) or 1.0
    above = special.ndtr((delta - reach) / error)
    below = special.ndtr((-reach - delta) / error)
    return float(np.mean(above + below))


# Every comparison of a sweep asks for the same numbers of seeds.
@cache
def _estimates(freedom: int) -> Floats:
    """Return equally likely estimates of a variance of 1, from the smallest to the largest."""
    chances = (np.arange(QUANTILES) + 0.5) / QUANTILES
    return _chi_square(chances, freedom) / freedom


def _chi_square(chances: Floats, freedom: float) -> Floats:
    """Return quantiles of the chi-square distribution."""
    found: Floats = 2 * special.gammaincinv(freedom / 2, chances)
    return found


def _fewest(delta: float, images_sd: float, variance: float) -> int | None:
    """Return the smallest number of seeds with enough power, at least 2; None above `MOST`."""

    def lacking(seeds: int) -> float:
        return POWER - power(delta, seeds, images_sd=images_sd, seed_variance=variance)

    # Power grows with the number of seeds, so doubling brackets the answer and halving finds it.
    # One seed shows no spread, so the smallest answer is 2.
    few, many = 1, 2
    while lacking(many) > 0:
        few, many = many, 2 * many
        if few > MOST:
            return None
    while many - few > 1:
        middle = (few + many) // 2
        if lacking(middle) > 0:
            few = middle
        else:
            many = middle
    return many


def _points(value: float, *, above: float | None = None) -> str:
    """Return a difference in points, with as many digits as set it apart from `above`."""
    digits = 1
    while above is not None and digits < 6:
        if f"{100 * value:.{digits}f}" != f"{100 * above:.{digits}f}":
            break
        digits += 1
    return f"{100 * value:.{digits}f}"
