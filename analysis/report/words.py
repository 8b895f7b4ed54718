"""Numbers and lists as sentences have them. Scores are fractions, and become percent or points
here.
"""

from analysis.statistics.bootstrap import Interval
from analysis.studies.compare import Comparison, p_text
from analysis.table import digits
from analysis.table.digits import rounded, with_minus

# A duration below this is told in seconds, since "1 min" would hide a third of it.
SHORTEST_MINUTES_S = 90
# A duration below this is told with a tenth of a minute, so that shares of it can be checked.
FIRST_WHOLE_MINUTES_S = 600


def percent(value: float) -> str:
    """Return a score in percent."""
    return rounded(100 * value, 1)


def points(value: float) -> str:
    """Return a difference of scores in points, with its sign."""
    return with_minus(digits.points(value))


def hours(seconds: float) -> str:
    """Return a duration in hours, minutes or seconds."""
    if seconds >= 3600:
        return f"{seconds / 3600:.1f} h"
    if seconds >= FIRST_WHOLE_MINUTES_S:
        return f"{seconds / 60:.0f} min"
    if seconds >= SHORTEST_MINUTES_S:
        return f"{seconds / 60:.1f} min"
    return f"{seconds:.0f} s"


def score(mean: float, std: float | None) -> str:
    """Return a mean in percent with its standard deviation, which one seed does not have."""
    return percent(mean) if std is None else f"{percent(mean)} ± {percent(std)}"


def ends(interval: Interval) -> str:
    """Return the ends of an interval of a difference, in points."""
    return f"{points(interval.low)} to {points(interval.high)}"


def against_baseline(comparison: Comparison) -> str:
    """Return a variant's difference from the baseline, and what may be said of it."""
    p = p_text(comparison.p_holm)
    sign = "" if p.startswith("<") else "= "
    return (
        f"{points(comparison.difference.value)} points (95 % interval "
        f"{ends(comparison.difference)}, Holm-adjusted p {sign}{p}): {claim(comparison)}"
    )


def claim(comparison: Comparison) -> str:
    """Return the verdict, and how far it holds at other alphas or thresholds."""
    is_claim = comparison.verdict != "within noise"
    return with_minus(comparison.remark if is_claim else comparison.verdict)
