"""Everything that a report is made from: the trials, and what each sweep says of itself."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import pandas as pd

from analysis.read.json_text import parse_json
from analysis.read.knobs import scored_stages
from analysis.read.labels import Naming, labels_of, naming_of
from analysis.read.mlflow import load, sweep_tags
from analysis.report.blocks import Picture
from analysis.studies.correlation import Correlation, correlation
from occse.naming.labels import Labels


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A sweep: the trials that its file still asks for, and what its own run in MLflow says.

    Texts are empty where there is no such run, as with imported results.

    Attributes:
        name: of the experiment.
        trials: of `load`.
        question, expected: from the sweep's file.
        command: what made the runs.
        is_alone: the report is of this sweep only, so nothing in it needs the sweep's name.
    """

    name: str
    trials: pd.DataFrame
    question: str = ""
    expected: str = ""
    command: str = ""
    is_alone: bool = True

    @property
    def prefix(self) -> str:
        """Start of captions and titles, by which several sweeps are told apart."""
        return "" if self.is_alone else f"{self.name}: "

    @property
    def suffix(self) -> str:
        """End of file names and anchors, by which several sweeps are told apart."""
        return "" if self.is_alone else "_" + re.sub(r"[^\w.-]+", "_", self.name)

    # A frozen dataclass takes it: the value goes into `__dict__`, past the frozen `__setattr__`.
    @cached_property
    def naming(self) -> Naming:
        """Names for people."""
        return naming_of(self.trials)

    @property
    def names(self) -> Mapping[str, str]:
        """Short names of the variants."""
        return self.naming.variants

    @property
    def labels(self) -> Labels:
        """Names of knobs, values, stages and metrics."""
        return self.naming.labels

    @cached_property
    def scored_stages(self) -> list[str]:
        """The stages that have a score by now, upstream first."""
        return list(scored_stages(self.trials))

    @property
    def last_stage(self) -> str:
        """The last stage that has a score.

        Raises:
            ValueError: no stage has a score.
        """
        if not self.scored_stages:
            raise ValueError("no stage has a score yet")
        return self.scored_stages[-1]

    @cached_property
    def correlation(self) -> Correlation:
        """The correlation of its stages' scores, which a table and two figures show.

        Raises:
            ValueError: as `analysis.studies.correlation.correlation` does.
        """
        return correlation(self.trials)

    def own(self, picture: Picture) -> Picture:
        """Return a picture with the sweep's name where a report has several sweeps."""
        return replace(
            picture, name=picture.name + self.suffix, caption=self.prefix + picture.caption
        )


@dataclass(frozen=True, kw_only=True)
class Material:
    """Everything that the sections read.

    Attributes:
        sweeps: the experiments in the order they were asked for.
        trials: of `load`, all of them.
        tracking: as in `load`.
        server: address of MLflow's pages for the links of runs; empty where none is known.
        again: the command that makes this report again.
    """

    sweeps: Sequence[Sweep]
    trials: pd.DataFrame
    tracking: str | None
    server: str
    again: str

    @cached_property
    def labels(self) -> Labels:
        """Names of stages and metrics; of several sweeps the first that has one decides."""
        return labels_of(self.trials)

    @property
    def current(self) -> pd.DataFrame:
        """The trials that the sweeps' files still ask for."""
        return self.trials[self.trials["current"]]

    @property
    def title(self) -> str:
        """The names of the experiments."""
        return ", ".join(sweep.name for sweep in self.sweeps)


def gather(
    experiments: Sequence[str],
    *,
    tracking: str | None,
    server: str,
    again: str,
    labels: Path | None = None,
) -> Material:
    """Read everything.

    Raises:
        ValueError, ConnectionError: as `load` does.
    """
    trials = load(*experiments, tracking=tracking, labels=labels)
    # By the trials, since an experiment may be named by the file of its export.
    names = trials["experiment"].unique().tolist()
    return Material(
        sweeps=[_sweep(name, trials, tracking, is_alone=len(names) == 1) for name in names],
        trials=trials,
        tracking=tracking,
        server=server,
        again=again,
    )


def _sweep(name: str, trials: pd.DataFrame, tracking: str | None, *, is_alone: bool) -> Sweep:
    tags = sweep_tags(name, tracking=tracking)
    # The platform writes question and expectation into MLflow's note, parted by this text.
    question, _, expected = tags.get("mlflow.note.content", "").partition("\n\nExpected: ")
    return Sweep(
        name=name,
        trials=trials[trials["current"] & (trials["experiment"] == name)],
        question=question.strip(),
        expected=expected.strip(),
        command=tags.get("occse.command", ""),
        is_alone=is_alone,
    )


def packages(trials: pd.DataFrame) -> dict[str, list[str]]:
    """Return the versions of each package that the trials were made with, if they say so."""
    found: dict[str, set[str]] = {}
    for text in trials["packages"].dropna().unique():
        for package, version in parse_json(text or "{}").items():
            found.setdefault(package, set()).add(str(version))
    return {package: sorted(found[package]) for package in sorted(found)}
