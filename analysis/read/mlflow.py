"""The trials of experiments as a frame, one row per trial.

| column | content |
|---|---|
| `experiment`, `run_id`, `trial` | name of the sweep, MLflow's id of the run, id of the trial |
| `variant` | the values that vary, except seeds |
| `order`, `baseline` | position of the variant in the spec; whether it is the baseline |
| `seed` | number of the replicate |
| `current` | False where the sweep's file no longer asks for the trial |
| `status` | MLflow's: RUNNING, FINISHED, FAILED, KILLED, SCHEDULED |
| `failed`, `error` | what failed and why, empty otherwise |
| `stopped`, `stopped_why` | the field after which a gate stopped the trial, and why; else empty |
| `pixel_truth` | what pixel ground truth was used for, empty otherwise |
| `imported` | source of a run that no sweep made; else empty |
| `protocol` | what the numbers of an imported run rest on, by stage; else empty |
| `pipeline` | text of `pipeline.json`, see `analysis.read.pipeline`; empty for old runs |
| `labels` | text of `labels.json`, see `analysis.read.labels`; empty where a sweep has none |
| `planned` | tuple of the fields that the trial has by plan |
| `spent_s`, `saved_s` | seconds of stages run and of those reused; missing until it ends |
| `seconds.<field>`, `gpus.<field>` | duration of a stage, and the number of its GPUs |
| `fingerprint.<field>` | the identity of the artifact of a stage |
| `seed.<field>` | the seed of a stage |
| `accumulated.<field>` | parts of a batch if a GPU was too small for a whole one; else missing |
| `code.<field>` | commit of the code that made an artifact, with `+` for uncommitted changes |
| `experiment_id`, `data_id` | MLflow's id of the experiment; digest or fingerprint of the data |
| `sha`, `dirty` | commit of the recording code; whether it had uncommitted changes |
| `packages`, `devices` | versions, as JSON; models of the devices |
| `not_attached` | why files are missing in MLflow; else empty |
| `param.<field>.<knob>` | knobs, as strings; missing where the trial does not have the field |
| `<field>/<name>` | metrics as fractions, the last value of a curve; missing if not logged |

In a notebook: `load("quickstart").groupby("variant")["cam/miou"].agg(["mean", "std", "count"])`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.read.json_text import parse_json
from analysis.read.labels import with_label_file
from analysis.read.parquet import SUFFIX, read_export
from analysis.read.secrets import masked
from analysis.read.source.connect import connect, tracking_uri
from analysis.read.source.run import Run, Source, SourceError

#: Tags with the original of a name that MLflow refuses in a key.
NAME_TAG = "occse.name."
#: The artifact of the sweep's own run that `analysis.read.pipeline` reads.
PIPELINE_FILE = "pipeline.json"
#: The artifact of the sweep's own run that `analysis.read.labels` reads.
LABELS_FILE = "labels.json"
#: The artifact of the sweep's own run with the knobs of every stage by its fingerprint.
CONFIGURATIONS_FILE = "configurations.json"
FINGERPRINT_TAG = "occse.fingerprint."
Stages = Mapping[str, Mapping[str, str]]  # value by knob, by fingerprint


def load(
    *experiments: str, tracking: str | None = None, labels: Path | None = None
) -> pd.DataFrame:
    """The trials of `experiments`, one after the other, each in the order of its spec, then of the
    seeds.

    Args:
        experiments: names of sweeps, or files that `python -m analysis export` wrote.
        tracking: where MLflow keeps its runs; by default MLFLOW_TRACKING_URI, else
            sqlite:///runs/mlflow.db.
        labels: a YAML file with names for people, which come before those of the sweeps.

    Raises:
        ValueError: there is no such database, experiment or file, it has no trials, a run lacks a
            tag of the schema, or `labels` has a key of nothing that there is.
        ConnectionError: the tracking server does not answer, or refuses.
    """
    frames = []
    for experiment in experiments:
        if experiment.endswith(SUFFIX):
            frames.append(read_export(Path(experiment)))
        else:
            frames.append(read_experiment(connect(tracking), experiment, tracking_uri(tracking)))
    # An experiment and an export of it may be named together.
    trials = pd.concat(frames).drop_duplicates("run_id", ignore_index=True)
    return trials if labels is None else with_label_file(trials, labels)


def read_experiment(source: Source, experiment: str, uri: str) -> pd.DataFrame:
    """Return the trials of one experiment of `source`, whose address is `uri`.

    Raises:
        ValueError, ConnectionError: as `load` does.
    """
    try:
        experiments = source.experiments()
        runs = source.runs(experiments[experiment], "trial") if experiment in experiments else []
        texts = _texts_of_sweep(source, runs)
        stages = _configurations(source, runs)
    except SourceError as error:
        raise ConnectionError(f"cannot read experiments from {masked(uri)}: {error}") from error
    if experiment not in experiments:
        names = sorted(name for name in experiments if name != "Default")
        raise ValueError(
            f"no experiment {experiment!r} in {masked(uri)}; "
            f"there are: {', '.join(names) or 'none'}"
        )
    if not runs:
        raise ValueError(
            f"experiment {experiment!r} in {masked(uri)} has no trials (runs with the tag "
            "occse.kind = trial)"
        )
    return pd.DataFrame([{**_row(run, experiment, stages), **texts} for run in runs]).sort_values(
        ["order", "variant", "seed", "run_id"], ignore_index=True
    )


def sweep_tags(experiment: str, *, tracking: str | None = None) -> dict[str, str]:
    """The tags of the sweep's own run: question, command, commit. Empty where there is none, or
    nobody answers.
    """
    try:
        source = connect(tracking)
        found = source.experiments().get(experiment)
        runs = source.runs(found, "sweep") if found else []
    except (ValueError, ConnectionError):
        runs = []
    return dict(runs[0].tags) if runs else {}


def sweep_text(experiment: str, name: str, *, tracking: str | None = None) -> str:
    """Return the file `name` that the sweep logged on its own run.

    Empty where there is none, or where MLflow does not answer.
    """
    try:
        source = connect(tracking)
        found = source.experiments().get(experiment)
        return _text_of_sweep(source, found, name) if found else ""
    except (ValueError, ConnectionError):
        return ""


def _texts_of_sweep(source: Source, trials: Sequence[Run]) -> dict[str, str]:
    """Return the texts of the sweep that stand with every trial."""
    if not trials:
        return {}
    experiment_id = trials[0].experiment_id
    return {
        "pipeline": _text_of_sweep(source, experiment_id, PIPELINE_FILE),
        "labels": _text_of_sweep(source, experiment_id, LABELS_FILE),
    }


def _configurations(source: Source, trials: Sequence[Run]) -> Stages:
    """Return the knobs of all stages by fingerprint.

    None where an earlier version recorded the sweep: its trials have all knobs as params.

    Raises:
        ValueError: the sweep's file of them cannot be read.
    """
    text = _text_of_sweep(source, trials[0].experiment_id, CONFIGURATIONS_FILE) if trials else ""
    if not text:
        return {}
    try:
        content = parse_json(text)["stages"]
        return {fingerprint: dict(knobs) for fingerprint, knobs in content.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{CONFIGURATIONS_FILE} of a sweep cannot be read: {error!r}") from None


def _text_of_sweep(source: Source, experiment_id: str, name: str) -> str:
    """Return a file that the sweep logged, of the newest of its own runs that has it, or nothing.

    An older sweep does not have every file; the reader says what holds without.
    """
    for run in source.runs(experiment_id, "sweep"):
        try:
            with source.file(run.run_id, name) as path:
                return path.read_text(encoding="utf-8")
        # Not every OSError: a source that does not answer has not said that there is no file.
        except FileNotFoundError:
            continue
    return ""


def _metrics(run: Run) -> dict[str, float]:
    """The last value of each metric, under the name that the user gave to a class.

    MLflow refuses some characters in a key; the tag `occse.name.<key's name>` has the original.
    """
    metrics = {}
    for key, value in sorted(run.metrics.items()):
        # Only the name of the class, the third part, may have been changed.
        *parts, name = key.split("/", 2)
        original = run.tags.get(f"{NAME_TAG}{name}", name)
        metrics["/".join([*parts, original])] = value
    return metrics


def _params(run: Run, stages: Stages) -> dict[str, str]:
    """Return all active knobs of a trial; its run has as params those that vary in the sweep."""
    found: dict[str, str] = {}
    for tag, fingerprint in run.tags.items():
        if tag.startswith(FINGERPRINT_TAG):
            field = tag.removeprefix(FINGERPRINT_TAG)
            for knob, text in stages.get(fingerprint, {}).items():
                found[f"{field}.{knob}"] = text
    return {**found, **run.params}


def _row(run: Run, experiment: str, stages: Stages) -> dict[str, Any]:
    params = _params(run, stages)
    tags = run.tags
    by_param = {name.partition(".")[0] for name in params}
    by_tag = {
        name.removeprefix(FINGERPRINT_TAG) for name in tags if name.startswith(FINGERPRINT_TAG)
    }
    return {
        "experiment": experiment,
        "experiment_id": run.experiment_id,
        "run_id": run.run_id,
        "trial": tags.get("occse.trial", ""),
        "variant": _tag(run, "occse.variant"),
        "order": _integer(run, "occse.order"),
        "baseline": tags.get("occse.baseline") == "true",
        "seed": _integer(run, "occse.seed"),
        "current": tags.get("occse.current") != "false",
        "status": run.status,
        "failed": tags.get("occse.failed", ""),
        "error": tags.get("occse.error", ""),
        "stopped": tags.get("occse.stopped", ""),
        "stopped_why": tags.get("occse.stopped.why", ""),
        "pixel_truth": tags.get("occse.pixel_truth", ""),
        "imported": tags.get("occse.imported", ""),
        "protocol": _by_stage(run),
        # A stage without knobs has no params, an imported run few fingerprints.
        "planned": tuple(sorted(by_param | by_tag)),
        "data_id": tags.get("occse.data", ""),
        "sha": tags.get("occse.git.sha", ""),
        "dirty": tags.get("occse.git.dirty") == "true",
        "packages": _packages(run),
        "devices": tags.get("occse.devices", ""),
        "not_attached": tags.get("occse.not_attached", ""),
        "spent_s": float(tags.get("occse.seconds.spent", "nan")),
        "saved_s": float(tags.get("occse.seconds.saved", "nan")),
        **_by_field(run, "occse.seconds", "seconds"),
        **_by_field(run, "occse.gpus", "gpus"),
        **_by_field(run, "occse.seeds", "seed"),
        **_by_field(run, "occse.accumulated", "accumulated"),
        **_by_field(run, "occse.code", "code", kind=str),
        **_by_field(run, "occse.other_code", "other_code", kind=str),
        **{f"fingerprint.{field}": tags[f"{FINGERPRINT_TAG}{field}"] for field in sorted(by_tag)},
        **{f"param.{name}": value for name, value in sorted(params.items())},
        **_metrics(run),
    }


def _by_field(
    run: Run, tag: str, name: str, *, kind: type[float] | type[str] = float
) -> dict[str, Any]:
    """Columns of a tag that holds a value for each field, as JSON; none where the run has no such
    tag.
    """
    text = run.tags.get(tag, "{}")
    try:
        values = parse_json(text)
        return {f"{name}.{field}": kind(value) for field, value in values.items()}
    except (ValueError, TypeError, AttributeError):
        what = "numbers" if kind is float else "texts"
        raise ValueError(
            f"run {run.run_id}: tag {tag} is {text[:200]!r}, expected {what} by field"
        ) from None


def _packages(run: Run) -> str:
    """Return the versions of a trial's packages as JSON; empty where it does not tell them.

    As text, which is counted and compared for thousands of trials, and checked here once.
    """
    _by_field(run, "occse.packages", "version", kind=str)
    return run.tags.get("occse.packages", "")


def _by_stage(run: Run) -> dict[str, dict[str, str]]:
    """Return what the numbers of an imported run rest on, by stage; nothing for a sweep's own."""
    text = run.tags.get("occse.protocol", "{}")
    try:
        return {stage: dict(known) for stage, known in parse_json(text).items()}
    except (ValueError, TypeError, AttributeError):
        raise ValueError(
            f"run {run.run_id}: tag occse.protocol is {text[:200]!r}, expected texts by stage"
        ) from None


def _tag(run: Run, name: str) -> str:
    if name not in run.tags:
        raise ValueError(f"run {run.run_id} is tagged occse.kind = trial but has no tag {name}")
    return str(run.tags[name])


def _integer(run: Run, name: str) -> int:
    text = _tag(run, name)
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"run {run.run_id}: tag {name} is {text!r}, expected an integer") from None
