"""Files that the trials of a sweep left in MLflow."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pandas as pd

from analysis.read.counts import PerImage, read_counts
from analysis.read.source.connect import connect
from analysis.read.source.run import SourceError

SUBSETS = ("all", "multi")


def counts_of(
    trials: pd.DataFrame, field: str, *, tracking: str | None = None, subset: str = "all"
) -> dict[str, PerImage]:
    """Return the counts of the scored stage `field` by run id, at the threshold of its score.

    Args:
        trials: from `load`.
        field: a scored stage.
        tracking: as in `load`.
        subset: `all` images, or the `multi`-label ones, in which at least two classes can be seen.

    Raises:
        ValueError: a run has no such counts, they are damaged, or of no image.
    """
    # Label maps have no threshold. CAMs are counted at all of them, and the score holds at one.
    thresholds = trials.get(f"{field}/threshold", pd.Series(float("nan"), index=trials.index))
    found = {}
    for run, threshold in zip(trials["run_id"], thresholds, strict=True):
        with run_file(run, f"counts/{field}.npz", tracking=tracking) as path:
            counts = read_counts(path, threshold=None if pd.isna(threshold) else float(threshold))
        found[run] = of_subset(counts, subset, run, field)
    return found


def of_subset(counts: PerImage, subset: str, run: str, field: str) -> PerImage:
    """Return the counts of a subset of the images, for one run and stage.

    Raises:
        ValueError: there is no such image.
    """
    found = counts.multi if subset == "multi" else counts
    if not found.names:
        raise ValueError(
            f"run {run}, {field}: no image shows two classes, so there is no subset 'multi'"
        )
    return found


@contextmanager
def run_file(run: str, name: str, *, tracking: str | None = None) -> Iterator[Path]:
    """Yield the artifact `name` of a run, as a file to read that lasts as long as the context.

    Raises:
        ValueError: the run has no such artifact, or there is no such database.
    """
    source = connect(tracking)
    # A stack, so that `try` holds the opening alone: an OSError of the caller is another fault.
    with ExitStack() as stack:
        try:
            path = stack.enter_context(source.file(run, name))
        except OSError as error:
            reason = str(error).partition("\n")[0]
            raise ValueError(f"run {run} has no {name} in MLflow: {reason}") from None
        yield path


def names_below(run: str, folder: str, *, tracking: str | None = None) -> list[str]:
    """Return the artifacts of a run in `folder`, as MLflow names them."""
    return connect(tracking).files(run, folder)


def counted_stages(run: str, *, tracking: str | None = None) -> frozenset[str]:
    """Return the stages of which a run has counts per image.

    Raises:
        ValueError: there is no such database.
        ConnectionError: MLflow does not have the run, or does not answer.
    """
    try:
        files = connect(tracking).files(run, "counts")
    except SourceError as error:
        raise ConnectionError(f"cannot list the files of run {run}: {error}") from None
    return frozenset(Path(name).stem for name in files)
