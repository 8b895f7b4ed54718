"""Files of counts as the platform writes them, of one class, or of two."""

from pathlib import Path

import numpy as np

IMAGES, PIXELS = 60, 100


def write_counts(
    path: Path, hits: np.ndarray, *, thresholds: tuple[float, ...] = (), both: int = 0
) -> Path:
    """Counts of one class that covers every image; `hits` of its pixels are found, above every
    threshold.

    The first `both` images show a second class on as many pixels more, all of them found.
    """
    image = np.concatenate([np.repeat(np.arange(IMAGES), 2), np.arange(both)])
    count = np.concatenate([np.stack([hits, PIXELS - hits], axis=1).ravel(), np.full(both, PIXELS)])
    pred = np.concatenate([np.tile([1, 0], IMAGES), np.full(both, 2)])
    gt = np.concatenate([np.ones(2 * IMAGES, np.int64), np.full(both, 2)])
    bins = np.where(pred > 0, max(1, len(thresholds)), 0)
    entries = {"image": image, "bin": bins, "gt": gt, "pred": pred, "count": count}
    classes = ["fish", "cart"] if both else ["fish"]
    texts = {"names": np.array([f"image {i}" for i in range(IMAGES)]), "classes": np.array(classes)}
    arrays = entries | texts | {"thresholds": np.array(thresholds, np.float32)}
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **{f"counts/{key}": value for key, value in arrays.items()})
    return path
