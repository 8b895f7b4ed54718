"""Configuration of the stages of a sweep: all of it once, in a file, and what varies as params.

A sweep has some 150 knobs, of which it varies three. As params of every trial they would fill
MLflow's pages and nine tenths of its database. `configurations.json` on the sweep's run has the
knobs of every distinct stage by its fingerprint, and the tags `occse.fingerprint.<field>` of a
trial tell which of them are its own."""

import json
import tempfile
from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from occse.data.reading import parse_json
from occse.pipeline import Node
from sweeps.spec.axes import knobs_of
from sweeps.spec.knobs import matching
from sweeps.spec.model import Spec
from sweeps.spec.trials import Trial

if TYPE_CHECKING:  # importing it takes a second that other commands do without
    from mlflow import MlflowClient

FILE = "configurations.json"
# Of the file; analysis reads it.
VERSION = 1
Knobs = Mapping[str, str]  # value by knob, as params have it: text as it is, all else as JSON


def knob_texts(node: Node) -> dict[str, str]:
    """Return the knobs of a stage that a record has, as MLflow's params have them."""
    return {knob: _text(value) for knob, value in node.stage.recorded().items()}


def by_fingerprint(trials: Iterable[Trial], *, known: Container[str] = ()) -> dict[str, Knobs]:
    """Return the knobs of every distinct stage of `trials` by its fingerprint, without `known`."""
    found: dict[str, Knobs] = {}
    for trial in trials:
        for node in trial.nodes.values():
            if node.fingerprint not in found and node.fingerprint not in known:
                found[node.fingerprint] = knob_texts(node)
    return found


class Variation:
    """Knobs of a sweep that vary, and those that do not.

    A knob varies if it has two values among the stages of the trials, or if the sweep's file
    searches over it. Seeds are told apart from what is swept, and are no params.
    """

    def __init__(self, spec: Spec, trials: Iterable[Trial]) -> None:
        self._axes = list(spec.axes())
        values: dict[str, set[str]] = {}
        seen: set[tuple[str, str]] = set()
        for trial in trials:
            for field, node in trial.nodes.items():
                if (field, node.fingerprint) in seen:
                    continue
                seen.add((field, node.fingerprint))
                for knob, text in knob_texts(node).items():
                    values.setdefault(f"{field}.{knob}", set()).add(text)
        seeds = set(spec.seeded_knobs())
        searched: set[str] = set()
        for axis in spec.search.space if spec.search else ():
            for key in knobs_of(axis):
                searched.update(matching(key))
        varying = {knob for knob, texts in values.items() if len(texts) > 1}
        self.varying = frozenset((varying | searched) - seeds)
        self._values = values

    def swept(self) -> list[str]:
        """Return the knobs that vary: those of the sweep's file first, in its order."""
        named: list[str] = []
        for axis in self._axes:
            for key in knobs_of(axis):
                named += matching(key)
        ranked = [knob for knob in named if knob in self.varying]
        return list(dict.fromkeys([*ranked, *sorted(self.varying)]))

    def params(self, trial: Trial) -> dict[str, str]:
        """Return the knobs of a trial that vary in the sweep."""
        found = {}
        for field, node in trial.nodes.items():
            for knob, text in knob_texts(node).items():
                if f"{field}.{knob}" in self.varying:
                    found[f"{field}.{knob}"] = text
        return found

    def constants(self) -> dict[str, dict[str, str]]:
        """Return the knobs that have one value in all trials that have them, by field."""
        found: dict[str, dict[str, str]] = {}
        for key, texts in self._values.items():
            field, _, knob = key.partition(".")
            if len(texts) == 1 and key not in self.varying:
                found.setdefault(field, {})[knob] = next(iter(texts))
        return found


def write_text(stages: Mapping[str, Knobs]) -> str:
    """Return the text of the file."""
    return json.dumps({"version": VERSION, "stages": stages}, indent=0)


def recorded_stages(client: "MlflowClient", run_id: str) -> dict[str, Knobs]:
    """Return the knobs by fingerprint that the run of a sweep has.

    Empty where the sweep is new, or where an earlier version recorded it.

    Raises:
        OSError, MlflowException: the server does not answer. Taken for an empty file, the knobs of
            trials that are no longer asked for would be lost.
    """
    if FILE not in {entry.path for entry in client.list_artifacts(run_id)}:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        path = client.download_artifacts(run_id, FILE, folder)
        return read_text(Path(path).read_text(encoding="utf-8"))


def read_text(text: str) -> dict[str, Knobs]:
    """Return the knobs by fingerprint that the text of a file has; none of an unreadable one."""
    try:
        content: Any = parse_json(text)
        return {str(key): dict(knobs) for key, knobs in content["stages"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def all_params(
    params: Mapping[str, str], fingerprints: Mapping[str, str], stages: Mapping[str, Knobs]
) -> dict[str, str]:
    """Return the active knobs of a trial, `<field>.<knob>`.

    Args:
        params: of its run; a run of an earlier version has all of them.
        fingerprints: of its stages by field.
        stages: knobs by fingerprint.
    """
    found: dict[str, str] = {}
    for field, fingerprint in fingerprints.items():
        for knob, text in stages.get(fingerprint, {}).items():
            found[f"{field}.{knob}"] = text
    return found | dict(params)


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
