"""What a report is made from: the trials, and what each sweep says of itself."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from analysis.read.mlflow import load, sweep_tags
from analysis.studies.correlation import Correlation, correlation


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A sweep: the trials that its file still asks for, and what its own run in MLflow says.

    Texts are empty where there is no such run, as with imported results.
    """

    name: str
    trials: pd.DataFrame
    question: str = ""
    expected: str = ""
    command: str = ""
    sha: str = ""

    @property
    def key(self) -> str:
        """Its name as file names and anchors can hold it."""
        return re.sub(r"[^\w.-]+", "_", self.name)

    @cached_property
    def correlation(self) -> Correlation:
        """How the scores of its stages hang together; a table and two figures say so.

        Raises:
            ValueError: as `analysis.studies.correlation.correlation` does.
        """
        return correlation(self.trials)


@dataclass(frozen=True, kw_only=True)
class Material:
    """Everything that the sections read.

    Attributes:
        sweeps: the experiments in the order they were asked for.
        trials: of `load`, all of them.
        tracking: as in `load`.
        again: the command that makes this report again.
    """

    sweeps: Sequence[Sweep]
    trials: pd.DataFrame
    tracking: str | None
    again: str

    @property
    def current(self) -> pd.DataFrame:
        """The trials that the sweeps' files still ask for."""
        return self.trials[self.trials["current"]]

    @property
    def title(self) -> str:
        """The names of the experiments."""
        return ", ".join(sweep.name for sweep in self.sweeps)


def gather(experiments: Sequence[str], *, tracking: str | None, again: str) -> Material:
    """Read everything.

    Raises:
        ValueError, ConnectionError: as `load` does.
    """
    trials = load(*experiments, tracking=tracking)
    names = trials["experiment"].unique().tolist()
    return Material(
        sweeps=[_sweep(name, trials, tracking) for name in names],
        trials=trials,
        tracking=tracking,
        again=again,
    )


def _sweep(name: str, trials: pd.DataFrame, tracking: str | None) -> Sweep:
    tags = sweep_tags(name, tracking=tracking)
    question, _, expected = tags.get("mlflow.note.content", "").partition("\n\nExpected: ")
    return Sweep(
        name=name,
        trials=trials[trials["current"] & (trials["experiment"] == name)],
        question=question.strip(),
        expected=expected.strip(),
        command=tags.get("occse.command", ""),
        sha=tags.get("occse.git.sha", ""),
    )


def packages(trials: pd.DataFrame) -> dict[str, list[str]]:
    """The versions of each package that the trials were made with, where they say so."""
    found: dict[str, set[str]] = {}
    for text in trials["packages"].dropna().unique():
        for package, version in json.loads(text or "{}").items():
            found.setdefault(package, set()).add(str(version))
    return {package: sorted(found[package]) for package in sorted(found)}
