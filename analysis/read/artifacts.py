"""Files that the trials of a sweep left in MLflow."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
from mlflow.exceptions import MlflowException

from analysis.read.counts import PerImage, read_counts
from analysis.read.mlflow import connect

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
        found[run] = counts.multi if subset == "multi" else counts
        if not found[run].names:
            raise ValueError(
                f"run {run}, {field}: no image shows two classes, so there is no subset 'multi'"
            )
    return found


@contextmanager
def run_file(run: str, name: str, *, tracking: str | None = None) -> Iterator[Path]:
    """Yield the artifact `name` of a run, as a file that lasts as long as the context.

    Raises:
        ValueError: the run has no such artifact, or there is no such database.
    """
    client = connect(tracking)
    with tempfile.TemporaryDirectory() as folder:
        try:
            path = client.download_artifacts(run, name, folder)
        except (MlflowException, OSError) as error:
            raise ValueError(
                f"run {run} has no {name} in MLflow: {str(error).splitlines()[0]}"
            ) from None
        yield Path(path)


def names_below(run: str, folder: str, *, tracking: str | None = None) -> list[str]:
    """Return the artifacts of a run in `folder`, as MLflow names them."""
    return [file.path for file in connect(tracking).list_artifacts(run, folder)]


def counted_stages(run: str, *, tracking: str | None = None) -> frozenset[str]:
    """Return the stages of which a run has counts per image.

    Raises:
        ValueError: there is no such database.
        ConnectionError: MLflow does not have the run, or does not answer.
    """
    try:
        files = connect(tracking).list_artifacts(run, "counts")
    except (MlflowException, OSError) as error:
        raise ConnectionError(
            f"cannot list the files of run {run}: {str(error).splitlines()[0]}"
        ) from None
    return frozenset(Path(file.path).stem for file in files)
