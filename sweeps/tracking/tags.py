"""What a run in MLflow says: tags, params and metrics of a sweep and of its trials, from the
artifacts in the store.
"""

import getpass
import json
import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from mlflow.entities import Metric, Param

from occse.artifacts.manifest import Manifest
from occse.artifacts.provenance import git_state
from occse.method.crf import alpha_text
from sweeps.spec.model import Spec
from sweeps.spec.trials import Trial
from sweeps.store.store import Store

TAG_CHARACTERS = 4000
Stopped = tuple[str, str]  # the stage after which a gate stopped a trial, and why


@dataclass(frozen=True, kw_only=True)
class Record:
    """What is known of a trial when it ends: its finished stages by field, its failed ones, what
    gate stopped it.
    """

    trial: Trial
    manifests: Mapping[str, Manifest]
    reused: frozenset[str] = frozenset()
    failed: Mapping[str, str] = field(default_factory=dict)
    stopped: Stopped | None = None


def about_sweep(spec: Spec) -> dict[str, str]:
    """Tags of the sweep's run."""
    note = f"{spec.question}\n\nExpected: {spec.expect}" if spec.expect else spec.question
    return {"mlflow.note.content": note, **about_code(spec)}


def about_code(spec: Spec) -> dict[str, str]:
    """Tags of the code and the command; MLflow shows those of its own names in its columns."""
    git = git_state()
    command = shlex.join(("python", *sys.orig_argv[1:]))
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


def about_trial(trial: Trial) -> dict[str, str]:
    """Tags that follow from the sweep's file alone, where a trial may be renamed without running
    again.
    """
    return {
        "mlflow.runName": trial.name,
        "mlflow.note.content": describe(trial),
        "occse.trial": trial.identity,
        "occse.variant": trial.variant,
        "occse.order": str(trial.order),
        "occse.baseline": json.dumps(trial.baseline),
        "occse.seed": str(trial.seed),
        "occse.current": "true",
    }


def about_plan(trial: Trial) -> dict[str, str]:
    """Tags of what a trial will need, known before it runs."""
    seeds = {
        name: node.stage.config()["seed"]
        for name, node in trial.nodes.items()
        if "seed" in node.stage.config()
    }
    tags = {f"occse.fingerprint.{name}": node.fingerprint for name, node in trial.nodes.items()}
    if "data" in trial.nodes:
        data = trial.nodes["data"]
        tags["occse.data"] = data.stage.config().get("digest") or data.fingerprint
    return tags | {"occse.seeds": json.dumps(seeds)}


def about_completion(record: Record) -> str:
    """What the tag says once the record of a trial is complete."""
    return record.trial.identity + (
        ": stopped after {}: {}".format(*record.stopped) if record.stopped else ""
    )


def about_record(record: Record, spec: Spec) -> dict[str, str]:
    """Tags of how a trial went."""
    spent = {
        name: manifest.seconds
        for name, manifest in record.manifests.items()
        if name not in record.reused
    }
    saved = {
        name: manifest.seconds
        for name, manifest in record.manifests.items()
        if name in record.reused
    }
    packages: dict[str, str] = {}
    for manifest in record.manifests.values():
        packages |= manifest.packages
    machines = {name: manifest.machine for name, manifest in record.manifests.items()}
    gpus = {
        name: int(machine.get("processes", 1)) if "gpu" in machine else 0
        for name, machine in machines.items()
    }
    parts = {
        name: machine["accumulate"] for name, machine in machines.items() if "accumulate" in machine
    }
    states = {name: manifest.git for name, manifest in record.manifests.items()}
    code = {
        name: git.get("sha", "")[:12] + "+" * bool(git.get("diff")) for name, git in states.items()
    }
    how = {
        f"occse.how.{name}": "reused" if name in record.reused else "run"
        for name in record.manifests
    }
    return how | {
        "occse.seconds.spent": f"{sum(spent.values()):.3f}",
        "occse.seconds.saved": f"{sum(saved.values()):.3f}",
        "occse.seconds": json.dumps(
            {name: round(seconds, 3) for name, seconds in (spent | saved).items()}
        ),
        "occse.gpus": json.dumps(gpus),
        "occse.threads": json.dumps(
            {name: machine["threads"] for name, machine in machines.items()}
        ),
        "occse.accumulated": json.dumps(parts),
        "occse.devices": ", ".join(
            sorted({manifest.device for manifest in record.manifests.values()})
        ),
        "occse.packages": json.dumps(packages),
        "occse.code": json.dumps(code),
        "occse.pixel_truth": ", ".join([*_thresholds(record), *_selections(spec)]),
        "occse.failed": ", ".join(record.failed),
        "occse.error": "; ".join(f"{name}: {error}" for name, error in record.failed.items())[
            :TAG_CHARACTERS
        ],
        "occse.stopped": record.stopped[0] if record.stopped else "",
        "occse.stopped.why": record.stopped[1] if record.stopped else "",
    }


def _thresholds(record: Record) -> list[str]:
    """The stages that picked a threshold from a range, which they do by scoring each; one alone is
    no choice.
    """
    scored = (
        (name, each.config)
        for name, each in record.manifests.items()
        if "threshold" in each.metrics
    )
    bounds = (
        (name, config.get("threshold_min"), config.get("threshold_max")) for name, config in scored
    )
    return [f"{name}.threshold on train" for name, low, high in bounds if low is None or low < high]


def _selections(spec: Spec) -> list[str]:
    """Where scores, which need pixel ground truth, decided which variants there are, and which came
    to their end.
    """
    objectives = [each for each in spec.search.objectives if "/" in each] if spec.search else []
    splits = {each: "val" if each.startswith("seg/") else "train" for each in objectives}
    gates = [f"gate after {gate.after} on train" for gate in spec.gates]
    return gates + [f"search for {objective} on {split}" for objective, split in splits.items()]


def describe(trial: Trial) -> str:
    """What a trial does, for people: erasing, lambda, alphas, backbones, seed."""
    knobs = {name: node.stage.config() for name, node in trial.nodes.items()}
    parts = [f"**{trial.name}**" + (" (baseline)" if trial.baseline else "")]
    cgnet = knobs.get("cgnet", {})
    if "lambda_start" in cgnet:
        erasing = cgnet.get("erasing", "nothing")
        parts.append(
            f"erasing {erasing}, lambda {cgnet['lambda_start']:g} + {cgnet['lambda_slope']:g} per epoch"
        )
    elif "cam" in knobs:
        parts.append("no erasing: the ordinary classifier's maps")
    for name, knob in (
        ("crf", "alpha"),
        ("crf_low", "alpha"),
        ("crf_high", "alpha"),
        ("pseudo", "alpha_walk"),
    ):
        if alpha := knobs.get(name, {}).get(knob):
            parts.append(f"{name}.{knob} {alpha_text(alpha)}")
    parts += [
        f"{name}: {stage['backbone']}" for name, stage in knobs.items() if "backbone" in stage
    ]
    return "\n- ".join(parts)


def params(trial: Trial) -> Iterator[Param]:
    """The active knobs of the planned stages."""
    for name, node in trial.nodes.items():
        for knob, value in node.stage.config().items():
            yield Param(f"{name}.{knob}", value if isinstance(value, str) else json.dumps(value))


def scores(
    name: str, manifest: Manifest, *, curves: Sequence[Mapping[str, float]]
) -> Iterator[Metric]:
    """What one stage measured that is no curve, dated by its artifact: writing it again makes no
    second point.
    """
    # their last point is the stage's metric too
    in_curves = {key for point in curves for key in point}
    for key, value in manifest.metrics.items():
        if key not in in_curves:
            yield Metric(f"{name}/{key}", value, milliseconds(manifest), 0)


def curve(name: str, point: Mapping[str, float], *, at: int) -> Iterator[Metric]:
    """One point of the curves of a stage, `{"step": ..., name: value, ...}`."""
    for key, value in point.items():
        if key != "step":
            yield Metric(f"{name}/{key}", value, at, int(point["step"]))


def measured(record: Record, store: Store) -> Iterator[Metric]:
    """All that the finished stages of a trial measured."""
    for name, manifest in record.manifests.items():
        curves = store.curves(record.trial.nodes[name])
        yield from scores(name, manifest, curves=curves)
        for point in curves:
            yield from curve(name, point, at=milliseconds(manifest))


def milliseconds(manifest: Manifest) -> int:
    """When an artifact was made, as MLflow dates metrics."""
    return int(datetime.fromisoformat(manifest.created).timestamp() * 1000)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may have no name for it
        return str(os.getuid())
