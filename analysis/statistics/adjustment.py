"""Adjustment of p-values for claims that are made together (Holm)."""

from collections.abc import Sequence

from statsmodels.stats.multitest import multipletests


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values with Holm's step-down adjustment for all claims that are made together.

    With these, the chance of any false claim among all stays at the level.
    """
    if not p_values:
        return []
    # Holm's procedure holds for dependent claims too: those of a sweep share one baseline.
    return [float(p) for p in multipletests(list(p_values), method="holm")[1]]
