"""Frames that figures are drawn from: scores by class and by threshold, of chosen variants."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from analysis.read.artifacts import counts_of, run_file
from analysis.read.counts import read_curve
from analysis.read.knobs import scored
from analysis.read.labels import shown_variants


def best_variant(trials: pd.DataFrame, metric: str) -> str:
    """Return the variant beside the baseline with the highest mean of `metric` over its seeds.

    Raises:
        ValueError: no other variant has the metric.
    """
    rows = scored(trials, metric)
    others = rows[~rows["baseline"]]
    if others.empty:
        raise ValueError(f"only the baseline has {metric}")
    return str(others.groupby("variant", sort=False)[metric].mean().idxmax())


def class_frame(trials: pd.DataFrame, field: str, names: Mapping[str, str]) -> pd.DataFrame:
    """Return the IoU by class: a row per trial and class with `label`, `seed`, `class`, `iou`.

    The IoU is a fraction.

    Args:
        trials: from `load`.
        field: a scored stage.
        names: what to call the variants that are taken, in the order of the figure.

    Raises:
        ValueError: a variant has no score of the stage.
    """
    rows = _of(trials, names, field)
    prefix = f"{field}/iou/"
    metrics = [name for name in rows.columns if name.startswith(prefix)]
    frame = rows.melt(["variant", "seed"], metrics, "class", "iou")
    frame["class"] = frame["class"].str.removeprefix(prefix)
    return frame.assign(label=frame["variant"].map(names)).dropna(subset="iou")


def error_frame(
    trials: pd.DataFrame, field: str, names: Mapping[str, str], *, tracking: str | None = None
) -> pd.DataFrame:
    """Return the parts of each class's union of truth and prediction, from the counts.

    The columns are `label`, `class`, `hit`, `missed` and `false`. The last three are shares of the
    union, means over seeds: they add up to 1, and `hit` is the IoU.

    Raises:
        ValueError: a variant has no score of the stage, or a run no counts.
    """
    rows = _of(trials, names, field)
    counts = counts_of(rows, field, tracking=tracking)
    frames = []
    for run, variant in zip(rows["run_id"], rows["variant"], strict=True):
        # (I, 3, L) to (3, L): pixels of all images together.
        hit, true, predicted = counts[run].table.sum(axis=0)
        # A class in neither map has shares of 0, not 0 / 0.
        union = np.maximum(1, true + predicted - hit)
        columns = {
            "label": names[variant],
            "class": ("background", *counts[run].classes),
            "hit": hit / union,
            "missed": (true - hit) / union,
            "false": (predicted - hit) / union,
        }
        frames.append(pd.DataFrame(columns))
    return pd.concat(frames).groupby(["label", "class"], sort=False, as_index=False).mean()


def threshold_frame(
    trials: pd.DataFrame,
    names: Mapping[str, str],
    *,
    field: str = "cam",
    tracking: str | None = None,
) -> pd.DataFrame:
    """Return the mIoU by threshold: a row per trial and threshold.

    The columns are `label`, `seed`, `threshold`, `miou` (a fraction) and `chosen`.

    Args:
        trials: from `load`.
        names: what to call the variants that are taken, in the order of the figure.
        field: a scored stage that has thresholds.
        tracking: as in `load`.

    Raises:
        ValueError: a variant has no score of the stage, or a run no counts by threshold.
    """
    frames = []
    for trial in _of(trials, names, field).to_dict("records"):
        with run_file(str(trial["run_id"]), f"counts/{field}.npz", tracking=tracking) as path:
            thresholds, mious = read_curve(path)
        columns = {
            "threshold": thresholds,
            "miou": mious,
            "label": names[trial["variant"]],
            "seed": trial["seed"],
            "chosen": trial[f"{field}/threshold"],
        }
        frames.append(pd.DataFrame(columns))
    return pd.concat(frames, ignore_index=True)


def _of(
    trials: pd.DataFrame, variants: Mapping[str, str] | Sequence[str], field: str
) -> pd.DataFrame:
    """Return the scored trials of `variants`, in their order."""
    rows = scored(trials, f"{field}/miou")
    if missing := [variant for variant in variants if variant not in set(rows["variant"])]:
        known = shown_variants(rows)
        raise ValueError(f"no variant {missing[0]!r} has {field}/miou; there are: {known}")
    return pd.concat([rows[rows["variant"] == variant] for variant in variants])
