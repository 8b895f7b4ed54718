"""Numbers and lists as sentences have them. Scores are fractions, and become percent or points
here.
"""

from collections.abc import Sequence

from analysis.statistics.bootstrap import Interval
from analysis.studies.compare import Comparison, p_text

# A duration below this is told in seconds, since "1 min" would hide a third of it.
SHORTEST_MINUTES_S = 90


def percent(value: float) -> str:
    """Return a score in percent."""
    return f"{100 * value:.1f}"


def points(value: float) -> str:
    """Return a difference of scores in points, with its sign."""
    return f"{100 * value:+.1f}".replace("-", "−")


def hours(seconds: float) -> str:
    """Return a duration in hours, minutes or seconds."""
    if seconds >= 3600:
        return f"{seconds / 3600:.1f} h"
    if seconds >= SHORTEST_MINUTES_S:
        return f"{seconds / 60:.0f} min"
    return f"{seconds:.0f} s"


def number(count: int, noun: str) -> str:
    """Return a count and its noun, in the plural for any number but one."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def listed(parts: Sequence[str]) -> str:
    """Return parts as a sentence lists them."""
    if len(parts) < 2:
        return "".join(parts)
    return f"{', '.join(parts[:-1])} and {parts[-1]}"


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
    return comparison.remark if is_claim else comparison.verdict
