"""A difference at the other settings that a sweep recorded: other alphas of the CRF, thresholds of
the CAM.

The score of a CRF holds for one alpha, that of a CAM for one threshold. A sweep records others
beside it: the CRFs of low and high alpha, and counts at every threshold. A claim is only as strong
as the share of these settings at which the difference has the same sign."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from analysis.read.artifacts import run_file
from analysis.read.counts import read_curve
from analysis.read.knobs import PARAM
from analysis.read.pipeline import pipeline_of
from analysis.studies.pairs import Pair
from analysis.table.digits import points
from occse.naming.labels import value_text

#: `everywhere`: the same sign at all settings; `in part`: the sign of the claim at its own setting
#: and at some others; `reversed`: the opposite sign at every other setting.
Extent = Literal["everywhere", "in part", "reversed"]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A difference, a fraction, at the alpha or the threshold `value`."""

    value: float
    difference: float


@dataclass(frozen=True, kw_only=True)
class Elsewhere:
    """The difference at all recorded settings of one knob, the setting of the claim among them.

    Attributes:
        knob: `alpha` or `threshold`.
        claimed: the difference that is claimed.
        settings: by value.
    """

    knob: Literal["alpha", "threshold"]
    claimed: float
    settings: tuple[Setting, ...]

    @property
    def opposite(self) -> tuple[Setting, ...]:
        """The settings at which the difference has the other sign."""
        return tuple(each for each in self.settings if each.difference * self.claimed < 0)

    @property
    def extent(self) -> Extent:
        """The share of the settings at which the claim's sign holds, in a word."""
        if not self.opposite:
            return "everywhere"
        same = [each for each in self.settings if each.difference * self.claimed > 0]
        # The one setting with the same sign is the claim's own.
        return "reversed" if len(same) <= 1 else "in part"

    @property
    def text(self) -> str:
        """The extent in words, with the largest opposite difference."""
        total = len(self.settings)
        plural = f"{self.knob}s"
        if not self.opposite:
            return f"the same sign at all {total} recorded {plural}"
        worst = max(self.opposite, key=lambda each: abs(each.difference))
        told = f"{points(worst.difference)} at {self.knob} {worst.value:g}"
        if self.extent == "reversed" and len(self.opposite) == 1:
            return f"reversed at the only other recorded {self.knob}: {told}"
        if self.extent == "reversed":
            return f"reversed at every other recorded {self.knob}: {told}"
        same = total - len(self.opposite)
        return f"the same sign at {same} of {total} recorded {plural}, reversed elsewhere: {told}"


def at_other_settings(
    trials: pd.DataFrame, field: str, pair: Pair, *, claimed: float, tracking: str | None
) -> Elsewhere | None:
    """Return a claimed difference at the other thresholds of a stage, or at its other alphas.

    None where none are recorded.
    """
    if f"{field}/threshold" in trials and trials[f"{field}/threshold"].notna().any():
        return at_other_thresholds(pair, field, claimed=claimed, tracking=tracking)
    return at_other_alphas(trials, field, pair)


def mean_of_pairs(found: Sequence[Elsewhere | None], *, claimed: float) -> Elsewhere | None:
    """Return the mean difference over several pairs at the settings that all of them have."""
    known = [each for each in found if each is not None]
    if not known or len(known) < len(found):
        return None
    by_value = [{each.value: each.difference for each in one.settings} for one in known]
    common = sorted(set.intersection(*map(set, by_value)))
    if len(common) < 2:
        return None
    settings = tuple(
        Setting(value=value, difference=float(np.mean([each[value] for each in by_value])))
        for value in common
    )
    return Elsewhere(knob=known[0].knob, claimed=claimed, settings=settings)


def at_other_alphas(trials: pd.DataFrame, field: str, pair: Pair) -> Elsewhere | None:
    """Return the difference at the alphas of all CRFs that a pair's trials have scores of.

    Args:
        trials: from `load`.
        field: a scored CRF stage.
        pair: the runs that are compared.
    """
    settings: dict[float, Setting] = {}
    for other in _same_class(trials, field):
        found = _at_alpha(trials, other, pair)
        if found is not None:
            # Two CRF stages may have one alpha (`crf` and `crf_low`): the claimed stage's
            # difference stands, so that this list and the claim do not contradict each other.
            settings.setdefault(found.value, found)
        if other == field and found is not None:
            settings[found.value] = found
    return _elsewhere("alpha", list(settings.values()), _at_alpha(trials, field, pair))


def at_other_thresholds(
    pair: Pair, field: str, *, claimed: float, tracking: str | None
) -> Elsewhere | None:
    """Return the difference at every threshold that the counts of a pair's runs have."""
    curves: dict[str, np.ndarray] = {}
    levels: np.ndarray | None = None
    for run in dict.fromkeys([*pair.system, *pair.reference]):
        with run_file(run, f"counts/{field}.npz", tracking=tracking) as path:
            own, curves[run] = read_curve(path)
        if levels is not None and not np.array_equal(own, levels):
            # runs of other thresholds have no differences at theirs
            return None
        levels = own
    if levels is None:
        return None
    gains = [
        curves[system] - curves[reference]
        for system, reference in zip(pair.system, pair.reference, strict=True)
    ]
    settings = tuple(
        # Levels are stored in single precision; 0.30000001 would be printed as such.
        Setting(value=float(level), difference=float(gain))
        for level, gain in zip(np.round(levels, 4), np.mean(gains, axis=0), strict=True)
    )
    return Elsewhere(knob="threshold", claimed=claimed, settings=settings)


def _elsewhere(
    knob: Literal["alpha", "threshold"], settings: Sequence[Setting], own: Setting | None
) -> Elsewhere | None:
    if own is None or len(settings) < 2:
        return None
    ordered = sorted(settings, key=lambda each: each.value)
    return Elsewhere(knob=knob, claimed=own.difference, settings=tuple(ordered))


def _at_alpha(trials: pd.DataFrame, field: str, pair: Pair) -> Setting | None:
    """Return the difference of a CRF whose alpha is the same in all runs of a pair."""
    metric, knob = f"{field}/miou", f"{PARAM}{field}.alpha"
    if metric not in trials or knob not in trials:
        return None
    # Asked for every pair of a sweep: an index of all its columns would copy the whole frame.
    known = trials[["run_id", metric, knob]].set_index("run_id")
    rows = known.loc[[*pair.system, *pair.reference]]
    # Runs with different alphas differ by the alpha as well as by the system.
    if rows[metric].isna().any() or rows[knob].nunique(dropna=False) != 1:
        return None
    difference = float(pair.differences(known[metric]).mean())
    return Setting(value=float(value_text(rows[knob].iloc[0])), difference=difference)


def _same_class(trials: pd.DataFrame, field: str) -> tuple[str, ...]:
    """Return the fields whose stages are of the class of `field`."""
    return pipeline_of(trials).like(field)
