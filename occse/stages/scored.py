"""What the scored stages share: counts into the artifact, metrics out of them."""

from pathlib import Path

from occse.data.dataset import Dataset
from occse.method.evaluation import CountsBuilder, summarize

COUNTS = "counts.npz"


def scores_of(builder: CountsBuilder, dataset: Dataset, output: Path) -> dict[str, float]:
    """Store the per-image confusion counts below `output` and return the metrics they give."""
    counts = builder.build()
    counts.save(output / COUNTS)
    return summarize(
        counts, multi_label={name for name in counts.names if len(dataset.labels[name]) > 1}
    )
