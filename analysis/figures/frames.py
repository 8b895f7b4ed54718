"""Frames that figures are drawn from: scores by class and by threshold, of chosen variants."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from analysis.read.artifacts import counts_of, run_file
from analysis.read.counts import read_curve
from analysis.read.knobs import scored


def best_variant(trials: pd.DataFrame, metric: str) -> str:
    """The variant beside the baseline with the highest mean of `metric` over its seeds.

    Raises:
        ValueError: no other variant has the metric.
    """
    rows = scored(trials, metric)
    others = rows[~rows["baseline"]]
    if others.empty:
        raise ValueError(f"only the baseline has {metric}")
    return str(others.groupby("variant", sort=False)[metric].mean().idxmax())


def class_frame(trials: pd.DataFrame, field: str, names: Mapping[str, str]) -> pd.DataFrame:
    """IoU by class as fractions, one row per trial and class: `label`, `seed`, `class`, `iou`.

    Args:
        trials: from `load`.
        field: a scored stage.
        names: what to call the variants that are taken, in the order of the figure.

    Raises:
        ValueError: a variant has no score of the stage.
    """
    rows, prefix = _of(trials, names, field), f"{field}/iou/"
    frame = rows.melt(
        ["variant", "seed"],
        [name for name in rows.columns if name.startswith(prefix)],
        "class",
        "iou",
    )
    frame["class"] = frame["class"].str.removeprefix(prefix)
    return frame.assign(label=frame["variant"].map(names)).dropna(subset="iou")


def error_frame(
    trials: pd.DataFrame, field: str, names: Mapping[str, str], *, tracking: str | None = None
) -> pd.DataFrame:
    """What the union of truth and prediction consists of, by class: `label`, `class`, `hit`,
    `missed`, `false`.

    Shares of the union, so that `hit` is the IoU and they add up to 1; means over seeds, from the
    counts.

    Raises:
        ValueError: a variant has no score of the stage, or a run no counts.
    """
    rows = _of(trials, names, field)
    counts = counts_of(rows, field, tracking=tracking)
    frames = []
    for run, variant in zip(rows["run_id"], rows["variant"], strict=True):
        hit, true, predicted = counts[run].table.sum(axis=0)
        union = np.maximum(1, true + predicted - hit)
        shares = {
            "hit": hit / union,
            "missed": (true - hit) / union,
            "false": (predicted - hit) / union,
        }
        frames.append(
            pd.DataFrame(
                {"label": names[variant], "class": ("background", *counts[run].classes), **shares}
            )
        )
    return pd.concat(frames).groupby(["label", "class"], sort=False, as_index=False).mean()


def threshold_frame(
    trials: pd.DataFrame,
    names: Mapping[str, str],
    *,
    field: str = "cam",
    tracking: str | None = None,
) -> pd.DataFrame:
    """mIoU by threshold as fractions, one row per trial and threshold: `label`, `seed`,
    `threshold`, `miou`, `chosen`.

    Args:
        trials: from `load`.
        names: what to call the variants that are taken, in the order of the figure.
        field: a scored stage that has thresholds.
        tracking: as in `load`.

    Raises:
        ValueError: a variant has no score of the stage, or a run no counts by threshold.
    """
    frames = []
    for _, trial in _of(trials, names, field).iterrows():
        with run_file(trial["run_id"], f"counts/{field}.npz", tracking=tracking) as path:
            thresholds, mious = read_curve(path)
        frame = pd.DataFrame({"threshold": thresholds, "miou": mious})
        frames.append(
            frame.assign(
                label=names[trial["variant"]],
                seed=trial["seed"],
                chosen=trial[f"{field}/threshold"],
            )
        )
    return pd.concat(frames, ignore_index=True)


def _of(
    trials: pd.DataFrame, variants: Mapping[str, str] | Sequence[str], field: str
) -> pd.DataFrame:
    """The scored trials of `variants`, in their order."""
    rows = scored(trials, f"{field}/miou")
    if missing := [variant for variant in variants if variant not in set(rows["variant"])]:
        known = "; ".join(rows["variant"].unique())
        raise ValueError(f"no variant {missing[0]!r} has {field}/miou; there are: {known}")
    return pd.concat([rows[rows["variant"] == variant] for variant in variants])
