"""Is a variant really better than the baseline: differences of mIoU with interval and p-value, from counts."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from analysis.bootstrap import LEVEL, RESAMPLES, Interval, difference, holm
from analysis.counts import PerImage, read_counts
from analysis.load import tracking_uri


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A variant against the baseline; `p_holm` is adjusted over all comparisons that are shown together."""

    variant: str
    difference: Interval
    p_holm: float

    @property
    def verdict(self) -> str:
        """What may be claimed at the level of the interval."""
        if self.p_holm >= 1 - LEVEL:
            return "within noise"
        return "better" if self.difference.value > 0 else "worse"


def compare(
    trials: pd.DataFrame, field: str, *, tracking: str | None = None, resamples: int = RESAMPLES
) -> list[Comparison]:
    """Every variant of `trials` (from `load`) against the baseline, by the mIoU of the scored stage `field`.

    Raises:
        ValueError: there is no baseline, nothing else, or a run has no counts of that stage.
    """
    current = trials[trials["current"] & (trials["status"] == "FINISHED")]
    baseline = current[current["baseline"]]
    others = current[~current["baseline"]]
    if baseline.empty or others.empty:
        raise ValueError(
            f"the sweep has {len(baseline)} finished trials of a baseline and {len(others)} others; it needs both"
        )
    with tempfile.TemporaryDirectory() as folder:
        counts = dict(_counts(current, field, Path(folder), tracking))
    reference = {seed: counts[run] for seed, run in zip(baseline["seed"], baseline["run_id"], strict=True)}
    if len(reference) == 1:  # an ordinary classifier that no seed can change is compared with every seed
        reference = dict.fromkeys(set(current["seed"]), next(iter(reference.values())))
    found: list[tuple[str, Interval]] = []
    for variant, group in others.groupby("variant", sort=False):
        system = {seed: counts[run] for seed, run in zip(group["seed"], group["run_id"], strict=True)}
        found.append((str(variant), difference(system, reference, resamples=resamples)))
    adjusted = holm([interval.p or 0.0 for _, interval in found])
    return [
        Comparison(variant=variant, difference=interval, p_holm=p)
        for (variant, interval), p in zip(found, adjusted, strict=True)
    ]


def comparison_text(comparisons: list[Comparison], field: str) -> str:
    """A Markdown table, in percentage points, and what its interval speaks of."""
    lines = ["| variant | difference | 95 % interval | p (Holm) | seeds | |", "| :-- | --: | :-: | --: | --: | :-- |"]
    for each in comparisons:
        found = each.difference
        lines.append(
            f"| {each.variant} | {100 * found.value:+.1f} | {100 * found.low:+.1f} to {100 * found.high:+.1f} "
            f"| {each.p_holm:.3f} | {found.seeds} | {each.verdict} |"
        )
    covers = sorted({each.difference.covers for each in comparisons})
    images = sorted({each.difference.images for each in comparisons})
    lines += [
        "",
        f"{field}/miou against the baseline, in points: paired bootstrap over {', '.join(map(str, images))} images. "
        f"The interval speaks of chance in {' or '.join(covers)}.",
    ]
    return "\n".join(lines)


def _counts(trials: pd.DataFrame, field: str, folder: Path, tracking: str | None) -> Iterator[tuple[str, PerImage]]:
    client = MlflowClient(tracking_uri(tracking))
    thresholds = trials.get(f"{field}/threshold", pd.Series(float("nan"), index=trials.index))
    for run, threshold in zip(trials["run_id"], thresholds, strict=True):
        place = folder / run
        place.mkdir()
        try:
            path = client.download_artifacts(run, f"counts/{field}.npz", str(place))
        except (MlflowException, OSError) as error:
            raise ValueError(f"run {run} has no counts of {field!r} in MLflow: {str(error).splitlines()[0]}") from None
        yield run, read_counts(Path(path), threshold=None if pd.isna(threshold) else float(threshold))
