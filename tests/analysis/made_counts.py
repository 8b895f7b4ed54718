"""Files of counts as the platform writes them, of one class."""

from pathlib import Path

import numpy as np

IMAGES, PIXELS = 60, 100


def write_counts(path: Path, hits: np.ndarray, *, thresholds: tuple[float, ...] = ()) -> Path:
    """Counts of one class that covers every image; `hits` of its pixels are found, above every threshold."""
    image = np.repeat(np.arange(IMAGES), 2)
    count = np.stack([hits, PIXELS - hits], axis=1).ravel()
    pred = np.tile([1, 0], IMAGES)
    bins = pred * max(1, len(thresholds))
    entries = {"image": image, "bin": bins, "gt": np.ones_like(image), "pred": pred, "count": count}
    texts = {"names": np.array([f"image {i}" for i in range(IMAGES)]), "classes": np.array(["fish"])}
    arrays = entries | texts | {"thresholds": np.array(thresholds, np.float32)}
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **{f"counts/{key}": value for key, value in arrays.items()})
    return path
