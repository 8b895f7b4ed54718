"""The distribution of an error with two parts: one of known, one of estimated variance.

A difference of scores errs by the choice of images, whose variance the bootstrap knows well, and by
the seeds, whose variance rests on few degrees of freedom. Its error over the truth is distributed
as a normal variable plus one of Student's t (Behrens and Fisher; Welch, Biometrika 1938, on their
problem). Satterthwaite's single t, which is common instead, fails here: where the seeds' estimate
happens to be small, it takes the error for small and for certain at once
(tests/benchmarks/bench_false_claims.py has the numbers)."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import optimize, special

from analysis.read.counts import Floats

# The integral over the normal part is a sum: beyond 8 standard deviations lies less than 1e-14, and
# half the step changes no p-value above 1e-4 by more than 1e-6 of itself.
_STEPS = 641
_GRID = np.linspace(-8, 8, _STEPS)
_DENSITY = np.exp(-(_GRID**2) / 2)
_WEIGHTS = _DENSITY / _DENSITY.sum()
# Shares of the estimated part at which `reaches` is exact; between them it errs by less than 0.1 %.
_SHARES = np.linspace(0, 1, 33)


@dataclass(frozen=True, kw_only=True)
class Error:
    """The error of a measured value.

    Attributes:
        known: variance that is known, such as that of the images.
        estimated: variance that was estimated, such as that of a mean over seeds.
        freedom: degrees of freedom of that estimate.
    """

    known: float
    estimated: float
    freedom: float

    def p_value(self, value: float) -> float:
        """Return the two-sided chance of an error of at least `value`; 1 for no error at all."""
        if not self.known + self.estimated:
            return float(value == 0)
        # For a value of 0 the tail sums to one half only up to round-off.
        return min(1.0, 2 * self._beyond(abs(value)))

    def reach(self, level: float) -> float:
        """Return the half width of the interval that holds the truth with the chance `level`."""
        tail = (1 - level) / 2
        of_known = -float(special.ndtri(tail)) * self.known**0.5
        of_estimated = -float(special.stdtrit(self.freedom, tail)) * self.estimated**0.5
        if not self.known or not self.estimated:
            return float(of_known + of_estimated)
        # Both together reach further than either, and no further than one after the other.
        reach = optimize.brentq(
            lambda value: self._beyond(value) - tail,
            0.9 * max(of_known, of_estimated),
            1.1 * (of_known + of_estimated),
            rtol=1e-9,
        )
        return float(reach)

    def _beyond(self, value: float) -> float:
        """Return the chance of an error above `value`, which is at least 0."""
        if not self.estimated:
            return float(special.ndtr(-value / self.known**0.5))
        if not self.known:
            return float(special.stdtr(self.freedom, -value / self.estimated**0.5))
        # The chance that t exceeds what the normal part leaves of `value`, averaged over that part.
        rest: Floats = (value - self.known**0.5 * _GRID) / self.estimated**0.5
        # scipy.stats does the same in ten times the time, and a report asks a million times.
        return float(_WEIGHTS @ special.stdtr(self.freedom, -rest))


def reaches(known: float, estimated: Floats, freedom: int, level: float) -> Floats:
    """Return `Error.reach` for each of the variances `estimated`, from a table by their share."""
    total = known + estimated
    # Two systems that agree everywhere have no error at all, and no share.
    shares = np.divide(estimated, total, out=np.zeros_like(total), where=total > 0)
    # The reach grows with the scale of the error, so a table for a total variance of 1 serves all.
    found: Floats = np.sqrt(total) * np.interp(shares, _SHARES, _reach_by_share(freedom, level))
    return found


@cache
def _reach_by_share(freedom: int, level: float) -> Floats:
    """Return the reach of errors whose variances sum to 1, by the share that is estimated."""
    return np.array(
        [Error(known=1 - share, estimated=share, freedom=freedom).reach(level) for share in _SHARES]
    )
