"""The order of a report's sections, and the making of them from MLflow."""

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from analysis.report.blocks import Section
from analysis.report.findings import Finding, finding, judgements
from analysis.report.material import Material, gather
from analysis.report.sections.answers import answers
from analysis.report.sections.costs import cost
from analysis.report.sections.explore import explore
from analysis.report.sections.gallery import gallery
from analysis.report.sections.results import comparisons, results
from analysis.report.sections.runs import again, environment, provenance, supervision
from analysis.report.sections.studies import STUDIES, study_section
from analysis.report.write import write_report

# Told what is done next; a report of many trials takes minutes.
Progress = Callable[[str], None]


def make_report(
    experiments: Sequence[str],
    folder: Path,
    *,
    tracking: str | None,
    server: str,
    again: str,
    progress: Progress,
    labels: Path | None = None,
) -> Iterator[str]:
    """Write the report of `experiments` into `folder`, and yield a line about each kind of file.

    Args:
        experiments: names of sweeps, or files that `export` wrote.
        folder: made where there is none.
        tracking: as in `analysis.read.mlflow`.
        server: address of MLflow's pages for the links of runs; empty where none is known.
        again: the command that makes this report again, which it tells.
        progress: told each step with the seconds since the start.
        labels: a YAML file with names for people.

    Raises:
        ValueError, ConnectionError: the trials cannot be read, or `folder` is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; expected a folder for the report")
    start = time.monotonic()

    def tell(step: str) -> None:
        progress(f"{time.monotonic() - start:4.0f} s: {step}")

    tell(f"reading {', '.join(experiments)}")
    material = gather(experiments, tracking=tracking, server=server, again=again, labels=labels)
    made = sections(material, tell)
    tell("writing the files")
    yield from write_report(
        material.title, made, folder, made=datetime.now(UTC), server=material.server
    )


def sections(material: Material, progress: Progress) -> list[Section]:
    """Return all sections; those that have nothing to show are left out."""
    found = {sweep.name: _findings(material, sweep.name, progress) for sweep in material.sweeps}
    progress("judging the expectations")
    judged = {
        sweep.name: judgements(sweep, tracking=material.tracking) for sweep in material.sweeps
    }
    # Functions, since the name of a step is told before its work begins.
    steps: list[tuple[str, Callable[[], Section | None]]] = [
        ("answers", lambda: answers(material, found, judged)),
        ("results", lambda: results(material)),
        ("runs to explore", lambda: explore(material)),
        ("images", lambda: gallery(material)),
        ("comparisons", lambda: comparisons(material, found)),
        # `kind=kind` binds each study: a plain lambda would see the last one of the loop.
        *((kind.key, lambda kind=kind: study_section(kind, material)) for kind in STUDIES),
        ("supervision", lambda: supervision(material)),
        ("cost", lambda: cost(material)),
        ("runs", lambda: provenance(material)),
        ("environment", lambda: environment(material)),
        ("how to make it again", lambda: again(material)),
    ]
    made = []
    for name, step in steps:
        progress(name)
        section = step()
        if section is not None and section.blocks:
            made.append(section)
    return made


def _findings(material: Material, name: str, progress: Progress) -> list[Finding]:
    sweep = next(sweep for sweep in material.sweeps if sweep.name == name)
    found = []
    for stage in sweep.scored_stages:
        score = sweep.labels.score(stage)
        progress(f"{sweep.prefix}comparing {len(sweep.trials)} trials by {score}")
        found.append(finding(sweep, stage, tracking=material.tracking))
    return found
