"""Numbers and lists as sentences have them. Scores are fractions, and become percent or points
here.
"""

from collections.abc import Sequence

from analysis.statistics.bootstrap import Interval
from analysis.studies.compare import Comparison


def percent(value: float) -> str:
    """A score."""
    return f"{100 * value:.1f}"


def points(value: float) -> str:
    """A difference of scores, with its sign."""
    return f"{100 * value:+.1f}"


def hours(seconds: float) -> str:
    """A duration."""
    return (
        f"{seconds / 3600:.1f} h"
        if seconds >= 3600
        else f"{seconds / 60:.0f} min"
        if seconds >= 90
        else f"{seconds:.0f} s"
    )


def number(count: int, what: str) -> str:
    """A count and what it counts."""
    return f"{count} {what}" + ("" if count == 1 else "s")


def listed(parts: Sequence[str]) -> str:
    """Parts as a sentence lists them."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def score(mean: float, std: float | None, seeds: int) -> str:
    """A mean with its standard deviation; of one seed there is none."""
    spread = "" if std is None else f" ± {percent(std)}"
    return f"{percent(mean)}{spread} % ({number(seeds, 'seed')})"


def reach(interval: Interval) -> str:
    """The ends of an interval, of a score."""
    return f"95 % interval {percent(interval.low)} to {percent(interval.high)}, chance in {interval.covers}"


def against_baseline(comparison: Comparison) -> str:
    """A variant's difference from the baseline, and what may be said of it."""
    found = comparison.difference
    p = "< 0.001" if comparison.p_holm < 0.001 else f"= {comparison.p_holm:.3f}"
    ends = f"{points(found.low)} to {points(found.high)}"
    return (
        f"{points(found.value)} points against the baseline (95 % interval {ends}, "
        f"Holm-adjusted p {p}): {comparison.verdict}"
    )
