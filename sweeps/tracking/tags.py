"""Tags, params and metrics of a sweep and of its trials, from the artifacts in the store."""

import getpass
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from occse.artifacts.manifest import Manifest
from occse.artifacts.provenance import git_state
from occse.artifacts.secrets import masked_command
from occse.artifacts.source import changes
from occse.method.crf import alpha_text
from occse.naming.variants import marked_baseline
from occse.pipeline import scored_fields, stage_classes
from sweeps.spec.model import Spec
from sweeps.spec.trials import Trial
from sweeps.store.store import Store
from sweeps.tracking.configurations import Variation
from sweeps.tracking.keys import name_tags, safe_key
from sweeps.tracking.names import TrialNames

if TYPE_CHECKING:  # importing it takes a second that other commands do without
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

# MLflow's servers store 8000 characters of a tag, older ones 5000.
TAG_CHARACTERS = 4000
# The first digits of a commit, as git shows them, are enough to find it.
SHA_DIGITS = 12
Stopped = tuple[str, str]  # the stage after which a gate stopped a trial, and why


@dataclass(frozen=True, kw_only=True)
class Record:
    """Knowledge of a trial when it ends.

    Attributes:
        trial: the trial.
        manifests: its finished artifacts by field.
        curves: of the stages that were read already, by field; the others are read when needed.
        reused: fields whose artifact was in the store before, or was made for another trial.
        failed: errors by field.
        stopped: gate that stopped it, if one did.
        ended_s: when it ended, in seconds since 1970; it may be logged later.
    """

    trial: Trial
    manifests: Mapping[str, Manifest]
    curves: Mapping[str, Sequence[Mapping[str, float]]] = dataclass_field(default_factory=dict)
    reused: frozenset[str] = frozenset()
    failed: Mapping[str, str] = dataclass_field(default_factory=dict)
    stopped: Stopped | None = None
    ended_s: float = dataclass_field(default_factory=time.time)


def about_sweep(spec: Spec, variation: Variation) -> dict[str, str]:
    """Return the tags of the sweep's run."""
    note = f"{spec.question}\n\nExpected: {spec.prose}" if spec.prose else spec.question
    constants = {
        f"occse.constant.{field}": json.dumps(knobs)[:TAG_CHARACTERS]
        for field, knobs in variation.constants().items()
    }
    return {"mlflow.note.content": note, **constants, **about_code(spec)}


def about_code(spec: Spec) -> dict[str, str]:
    """Return the tags of the code and the command; some are MLflow's own, with a column."""
    git = git_state()
    command = masked_command(("python", *sys.orig_argv[1:]))
    return {
        "occse.git.sha": git["sha"],
        "occse.git.dirty": json.dumps(bool(git["diff"])),
        "occse.profile": spec.profile or "",
        "occse.command": command[:TAG_CHARACTERS],
        "mlflow.source.type": "LOCAL",
        "mlflow.source.name": "python -m sweeps",
        "mlflow.source.git.commit": git["sha"],
        "mlflow.user": _user(),
    }


def about_trial(trial: Trial, names: TrialNames) -> dict[str, str]:
    """Return the tags that follow from the sweep's file alone.

    They may change without the trial running again, as when a variant gets another name.

    Args:
        trial: the trial.
        names: for people, which MLflow's pages show.
    """
    return {
        "mlflow.runName": names.of(trial),
        "occse.label": names.label(trial),
        "mlflow.note.content": describe(trial, names.of(trial)),
        "occse.trial": trial.identity,
        "occse.variant": trial.variant,
        "occse.order": str(trial.order),
        "occse.baseline": json.dumps(trial.baseline),
        "occse.seed": str(trial.seed),
        "occse.current": "true",
    }


def about_plan(trial: Trial) -> dict[str, str]:
    """Return the tags of what a trial will need, known before it runs."""
    configs = _configs(trial)
    seeds = {field: config["seed"] for field, config in configs.items() if "seed" in config}
    tags = {f"occse.fingerprint.{field}": node.fingerprint for field, node in trial.nodes.items()}
    if "data" in trial.nodes:
        tags["occse.data"] = configs["data"].get("digest") or trial.nodes["data"].fingerprint
    return tags | {"occse.seeds": json.dumps(seeds)}


def about_completion(record: Record) -> str:
    """Return the value of the tag that says that the record of a trial is complete."""
    if record.stopped is None:
        return record.trial.identity
    gate, why = record.stopped
    return f"{record.trial.identity}: stopped after {gate}: {why}"


def about_record(record: Record, spec: Spec) -> dict[str, str]:
    """Return the tags of how a trial went."""
    manifests = record.manifests
    seconds = {field: manifest.seconds for field, manifest in manifests.items()}
    spent_s = sum(value for field, value in seconds.items() if field not in record.reused)
    saved_s = sum(value for field, value in seconds.items() if field in record.reused)
    machines = {field: manifest.machine for field, manifest in manifests.items()}
    parts = {
        field: machine["accumulate"]
        for field, machine in machines.items()
        if "accumulate" in machine
    }
    packages: dict[str, str] = {}
    for manifest in manifests.values():
        packages |= manifest.packages
    how = {field: "reused" if field in record.reused else "run" for field in manifests}
    errors = "; ".join(f"{field}: {error}" for field, error in record.failed.items())
    gate, why = record.stopped or ("", "")
    tags = {
        "occse.how": _by_field(how),
        "occse.seconds.spent": f"{spent_s:.3f}",
        "occse.seconds.saved": f"{saved_s:.3f}",
        "occse.seconds": _by_field({field: round(value, 3) for field, value in seconds.items()}),
        "occse.gpus": _by_field({field: _gpus(machine) for field, machine in machines.items()}),
        "occse.threads": _by_field(
            {field: machine["threads"] for field, machine in machines.items()}
        ),
        "occse.accumulated": _by_field(parts),
        "occse.devices": ", ".join(sorted({manifest.device for manifest in manifests.values()})),
        "occse.packages": json.dumps(packages),
        "occse.code": _by_field({field: _code(manifest) for field, manifest in manifests.items()}),
        "occse.other_code": _by_field(_other_code(record)),
        "occse.pixel_truth": ", ".join([*_thresholds(record), *_selections(spec)]),
        "occse.failed": ", ".join(record.failed),
        "occse.error": errors[:TAG_CHARACTERS],
        "occse.stopped": gate,
        "occse.stopped.why": why,
    }
    keys: list[str] = []
    for field, manifest in manifests.items():
        keys += [f"{field}/{metric}" for metric in manifest.metrics]
    return tags | name_tags(keys)


def _other_code(record: Record) -> dict[str, str]:
    """Return the reason for each artifact that was not made by the code of this process."""
    nodes = {node.fingerprint: node for node in record.trial.nodes.values()}
    manifests = {manifest.fingerprint: manifest for manifest in record.manifests.values()}
    reasons = changes(manifests, nodes)
    return {
        field: reasons[node.fingerprint]
        for field, node in record.trial.nodes.items()
        if node.fingerprint in reasons
    }


def set_tags(client: "MlflowClient", run: "Run", tags: Mapping[str, str]) -> None:
    """Set those tags that differ; a tag that has no value any more is deleted."""
    from mlflow.entities import RunTag

    known = run.data.tags
    changed = {key: value for key, value in tags.items() if value and known.get(key) != value}
    if changed:
        new = [RunTag(key, value) for key, value in changed.items()]
        client.log_batch(run.info.run_id, tags=new)
    known.update(changed)
    for key in [key for key, value in tags.items() if not value and key in known]:
        client.delete_tag(run.info.run_id, key)
        del known[key]


def set_params(client: "MlflowClient", run: "Run", params: Mapping[str, str]) -> None:
    """Set the params that a run has not; one of a file that varied more may have them."""
    from mlflow.entities import Param

    new = [Param(key, text) for key, text in params.items() if key not in run.data.params]
    if new:
        client.log_batch(run.info.run_id, params=new)


def describe(trial: Trial, name: str) -> str:
    """Describe a trial for people: erasing, lambda, alphas, backbones, seed.

    Args:
        trial: the trial.
        name: for people; the one that commands take stands behind it.
    """
    configs = _configs(trial)
    shown = f"**{name}**"
    parts = [marked_baseline(name, shown=shown) if trial.baseline else shown]
    if name != trial.name:
        parts.append(f"in commands: {trial.name}")
    lambdas = [config for config in configs.values() if "lambda_start" in config]
    for config in lambdas:
        erasing = config.get("erasing", "nothing")
        schedule = f"{config['lambda_start']:g} + {config['lambda_slope']:g} per epoch"
        parts.append(f"erasing {erasing}, lambda {schedule}")
    if not lambdas and "cam" in configs:
        parts.append("no erasing: the ordinary classifier's maps")
    for field, config in configs.items():
        for knob, value in config.items():
            if knob.startswith("alpha") and value:
                parts.append(f"{field}.{knob} {alpha_text(value)}")
    for field, config in configs.items():
        if "backbone" in config:
            parts.append(f"{field}: {config['backbone']}")
    return "\n- ".join(parts)


def scores(
    field: str, manifest: Manifest, *, curves: Sequence[Mapping[str, float]]
) -> "Iterator[Metric]":
    """Yield the measurements of a stage that are no curve.

    They are dated by the artifact, so that writing them again makes no second point.
    """
    from mlflow.entities import Metric

    # the last point of a curve is a metric of the stage, too
    in_curves: set[str] = set()
    for point in curves:
        in_curves |= point.keys()
    for key, value in manifest.metrics.items():
        if key not in in_curves:
            yield Metric(safe_key(f"{field}/{key}"), value, milliseconds(manifest), 0)


def curve(field: str, point: Mapping[str, float], *, at: int) -> "Iterator[Metric]":
    """Yield one point of the curves of a stage, `{"step": ..., name: value, ...}`."""
    from mlflow.entities import Metric

    for key, value in point.items():
        if key != "step":
            yield Metric(safe_key(f"{field}/{key}"), value, at, int(point["step"]))


def measured(record: Record, store: Store) -> "Iterator[Metric]":
    """Yield everything that the finished stages of a trial measured.

    Scored stages come first: MLflow's pages show metrics in the order of writing, and compare runs
    by the first.
    """
    scored = [field for field in reversed(scored_fields()) if field in record.manifests]
    for field in dict.fromkeys([*scored, *record.manifests]):
        manifest = record.manifests[field]
        curves = record.curves.get(field)
        if curves is None:
            curves = store.curves(record.trial.nodes[field])
        yield from scores(field, manifest, curves=curves)
        for point in curves:
            yield from curve(field, point, at=milliseconds(manifest))


def milliseconds(manifest: Manifest) -> int:
    """Return when an artifact was made, as MLflow dates metrics."""
    return int(datetime.fromisoformat(manifest.created).timestamp() * 1000)


def split_of(field: str) -> str:
    """Return the split with whose masks a stage is scored."""
    return stage_classes(field)[0].scored_split or "train"


def _configs(trial: Trial) -> dict[str, dict[str, Any]]:
    return {field: node.stage.config() for field, node in trial.nodes.items()}


def _by_field(values: Mapping[str, object]) -> str:
    return json.dumps(values) if values else ""


def _gpus(machine: Mapping[str, str | int]) -> int:
    return int(machine.get("processes", 1)) if "gpu" in machine else 0


def _code(manifest: Manifest) -> str:
    """Return the commit of the code that made an artifact; `+`: with uncommitted changes."""
    changed = "+" if manifest.git.get("diff") else ""
    return manifest.git.get("sha", "")[:SHA_DIGITS] + changed


def _thresholds(record: Record) -> Iterator[str]:
    """Yield the stages that picked a threshold from a range, which they do by scoring each.

    A range of one threshold is no choice.
    """
    for field, manifest in record.manifests.items():
        low = manifest.config.get("threshold_min")
        high = manifest.config.get("threshold_max")
        if "threshold" in manifest.metrics and (low is None or low < high):
            yield f"{field}.threshold on {split_of(field)}"


def _selections(spec: Spec) -> Iterator[str]:
    """Yield the scores, which need pixel ground truth, that decided about variants."""
    for gate in spec.gates:
        yield f"gate after {gate.after} on {split_of(gate.after)}"
    for objective in spec.search.objectives if spec.search else ():
        if "/" in objective:
            yield f"search for {objective} on {split_of(objective.partition('/')[0])}"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may have no name for it
        return str(os.getuid())
