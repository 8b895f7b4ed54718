"""Counts of the scored stages: stored in the artifact, and turned into its metrics."""

from pathlib import Path

from occse.data.dataset import Dataset
from occse.method.evaluation import CountsBuilder, summarize
from occse.stage import COUNTS

# Label maps that wait to be written, one byte per pixel: two batches of 32, so that the writer has
# work while the network computes the next batch.
MAPS_BEHIND = 64


def scores_of(builder: CountsBuilder, dataset: Dataset, output: Path) -> dict[str, float]:
    """Store the per-image confusion counts below `output` and return the metrics they give."""
    counts = builder.build()
    counts.save(output / COUNTS)
    if not counts.names:
        # A user's data may have no masks at all: then there is no score, and not a score of 0.
        return {}
    multi_label = {name for name in counts.names if len(dataset.labels[name]) > 1}
    return summarize(counts, multi_label=multi_label)
