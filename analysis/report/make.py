"""A report from MLflow: which sections it has, in which order."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from analysis.report.blocks import Section
from analysis.report.costs import cost
from analysis.report.figures import figures
from analysis.report.findings import findings
from analysis.report.material import Material, gather
from analysis.report.results import comparisons, results
from analysis.report.runs import again, environment, ledger, provenance
from analysis.report.studies import studies
from analysis.report.summary import summary
from analysis.report.write import write_report


def make_report(
    experiments: Sequence[str], folder: Path, *, tracking: str | None, again: str
) -> Iterator[str]:
    """Write the report of `experiments` into `folder`, and yield a line about each kind of file.

    Args:
        experiments: names of sweeps, or files that `export` wrote.
        folder: made where there is none.
        tracking: as in `analysis.read.mlflow`.
        again: the command that makes this report again, which it tells.

    Raises:
        ValueError, ConnectionError: the trials cannot be read, or `folder` is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; expected a folder for the report")
    material = gather(experiments, tracking=tracking, again=again)
    yield from write_report(material.title, sections(material), folder, made=datetime.now(UTC))


def sections(material: Material) -> list[Section]:
    """The whole report."""
    found = {
        sweep.name: findings(sweep.trials, tracking=material.tracking) for sweep in material.sweeps
    }
    made = [
        summary(material, found),
        results(material),
        comparisons(material, found),
        *studies(material),
        figures(material, found),
        ledger(material),
        cost(material),
        provenance(material),
        environment(material),
        again(material),
    ]
    return [section for section in made if section is not None]
