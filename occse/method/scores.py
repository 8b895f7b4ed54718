"""Counts of the scored stages: stored in the artifact, and turned into its metrics."""

from pathlib import Path

from occse.data.dataset import Dataset
from occse.method.evaluation import CountsBuilder, summarize
from occse.stage import COUNTS


def scores_of(builder: CountsBuilder, dataset: Dataset, output: Path) -> dict[str, float]:
    """Store the per-image confusion counts below `output` and return the metrics they give."""
    counts = builder.build()
    counts.save(output / COUNTS)
    if not counts.names:
        # A user's data may have no masks at all: then there is no score, and not a score of 0.
        return {}
    multi_label = {name for name in counts.names if len(dataset.labels[name]) > 1}
    return summarize(counts, multi_label=multi_label)
