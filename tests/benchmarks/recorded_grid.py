"""A finished sweep of thousands of trials in an MLflow database, made in seconds.

MLflow makes the database; the rows are inserted with SQL, since thousands of trials through MLflow
take longer than what is measured on them. Params, tags and the files of the sweep's own run are
those that the driver writes."""

import json
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from mlflow import MlflowClient

from occse.pipeline import pipeline_facts
from sweeps.spec.model import Spec
from sweeps.spec.trials import Trial, trials
from sweeps.tracking.configurations import FILE, Variation, by_fingerprint, write_text
from sweeps.tracking.names import TrialNames
from sweeps.tracking.tags import about_plan, about_trial

NAME = "large"
# The size of the embedded data set.
IMAGES = 200
CLASSES = ("beetle", "cart", "fish", "plant", "sofa")
PIXELS = 4096
STAGES = ("cam", "crf", "pseudo", "seg")
SEEDS = 4
ALPHAS = [4, 6, 8, 16, 24]
THRESHOLDS = np.linspace(0.05, 0.95, 19, dtype=np.float32)
EPOCHS = 10
CURVES = ("pretrain/loss", "oc/loss", "cgnet/loss", "cgnet/adversarial", "deeplab/loss")


def grid_of(number: int) -> tuple[Spec, list[Trial]]:
    """Return a sweep of erasing x lambda x alpha with four seeds, and its first trials."""
    lambdas = -(-number // (2 * len(ALPHAS) * SEEDS))
    spec = Spec.model_validate(
        {
            "name": NAME,
            "question": "Does it scale?",
            "profile": "embedded",
            "base": {"cam.source": "cgnet"},
            "grid": {
                "cgnet.erasing": ["class_agnostic", "cse"],
                "cgnet.lambda_start": list(range(1, lambdas + 1)),
                "crf.alpha": ALPHAS,
            },
            "baseline": {"cgnet.erasing": "class_agnostic", "cgnet.lambda_start": 1},
            "seeds": SEEDS,
        }
    )
    return spec, trials(spec)[:number]


def record(folder: Path, number: int, *, counts: bool) -> str:
    """Record a sweep below `folder`, with counts per image if asked; return its tracking URI."""
    spec, made = grid_of(number)
    uri = f"sqlite:///{folder}/mlflow.db"
    client = MlflowClient(uri)
    experiment = client.create_experiment(NAME, artifact_location=(folder / "files").as_uri())
    parent = client.create_run(experiment, tags={"occse.kind": "sweep"}).info.run_id
    files = folder / "files" / parent / "artifacts"
    files.mkdir(parents=True)
    (files / "pipeline.json").write_text(json.dumps(pipeline_facts(spec.base_pipeline())))
    (files / FILE).write_text(write_text(by_fingerprint(made)))
    names = TrialNames(spec, made)
    variation = Variation(spec, made)
    with closing(sqlite3.connect(folder / "mlflow.db")) as database:
        for trial in made:
            tags = about_trial(trial, names) | about_plan(trial) | _about_end(trial, parent)
            params = variation.params(trial)
            _insert(database, trial, folder, experiment=experiment, tags=tags, params=params)
        database.commit()
    if counts:
        for trial in made:
            _write_counts(trial, folder)
    return uri


def _insert(
    database: sqlite3.Connection,
    trial: Trial,
    folder: Path,
    *,
    experiment: str,
    tags: Mapping[str, str],
    params: Mapping[str, str],
) -> None:
    run = trial.identity
    location = (folder / "files" / run / "artifacts").as_uri()
    database.execute(
        "INSERT INTO runs (run_uuid, name, status, experiment_id, lifecycle_stage, artifact_uri,"
        " source_type, source_name, entry_point_name, user_id, start_time, end_time)"
        " VALUES (?, ?, 'FINISHED', ?, 'active', ?, 'LOCAL', '', '', '', 1, 2)",
        (run, trial.name, int(experiment), location),
    )
    database.executemany(
        "INSERT INTO tags (run_uuid, key, value) VALUES (?, ?, ?)",
        [(run, key, value) for key, value in tags.items()],
    )
    database.executemany(
        "INSERT INTO params (run_uuid, key, value) VALUES (?, ?, ?)",
        [(run, knob, text) for knob, text in params.items()],
    )
    latest = [(run, *point) for point in _scores(trial)]
    curves = [(run, *point) for point in _curves(trial)]
    latest += curves[EPOCHS - 1 :: EPOCHS]
    database.executemany(
        "INSERT INTO metrics (run_uuid, key, value, step, timestamp, is_nan)"
        " VALUES (?, ?, ?, ?, 1, 0)",
        [*latest[: -len(CURVES)], *curves],
    )
    database.executemany(
        "INSERT INTO latest_metrics (run_uuid, key, value, step, timestamp, is_nan)"
        " VALUES (?, ?, ?, ?, 1, 0)",
        latest,
    )


def _about_end(trial: Trial, parent: str) -> dict[str, str]:
    by_field = dict.fromkeys(trial.nodes, 45.0)
    return {
        "mlflow.parentRunId": parent,
        "occse.kind": "trial",
        "occse.seconds.spent": "120.0",
        "occse.seconds.saved": "60.0",
        "occse.seconds": json.dumps(by_field),
        "occse.gpus": json.dumps(dict.fromkeys(trial.nodes, 1)),
        "occse.code": json.dumps(dict.fromkeys(trial.nodes, "0123456789ab")),
        "occse.git.sha": "0123456789abcdef",
        "occse.git.dirty": "false",
        "occse.packages": '{"torch": "2.14"}',
        "occse.devices": "NVIDIA H100",
        "occse.pixel_truth": "cam.threshold on train",
        "occse.complete": trial.identity,
    }


def _skill(trial: Trial, stage: str) -> float:
    """Return the share of pixels that a stage finds: by lambda, alpha, and chance in its seed."""
    chance = np.random.default_rng(int(trial.nodes[stage].fingerprint[:8], 16))
    strength = float(trial.knobs["cgnet.lambda_start"])
    is_best = trial.knobs["crf.alpha"] == ALPHAS[1]
    return 0.55 + 0.02 * is_best - 0.0005 * strength + 0.01 * float(chance.normal())


def _scores(trial: Trial) -> Iterator[tuple[str, float, int]]:
    for stage in STAGES:
        skill = _skill(trial, stage)
        for metric in ("miou", "precision", "recall", "miou_multi"):
            yield f"{stage}/{metric}", skill, 0
        for name in ("background", *CLASSES):
            yield f"{stage}/iou/{name}", skill, 0
    yield "cam/threshold", 0.3, 0


def _curves(trial: Trial) -> Iterator[tuple[str, float, int]]:
    for name in CURVES:
        for epoch in range(1, EPOCHS + 1):
            yield name, (1 + trial.seed) / epoch, epoch


def _write_counts(trial: Trial, folder: Path) -> None:
    for stage in STAGES:
        fingerprint = trial.nodes[stage].fingerprint
        source = folder / "counts" / f"{fingerprint}.npz"
        if not source.exists():
            source.parent.mkdir(exist_ok=True)
            write_counts(source, _skill(trial, stage), int(fingerprint[:8], 16), stage=stage)
        path = folder / "files" / trial.identity / "artifacts" / "counts" / f"{stage}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(source, path)


def write_counts(path: Path, skill: float, seed: int, *, stage: str) -> None:
    """Write counts of two classes per image, of which a share `skill` is found."""
    chance = np.random.default_rng(seed)
    image = np.repeat(np.arange(IMAGES), 3)
    # The same truth for all trials: they are scored on the same images.
    truth = np.random.default_rng(0).integers(1, len(CLASSES) + 1, (IMAGES, 2))
    gt = np.concatenate([np.zeros((IMAGES, 1), int), truth], axis=1)
    share = np.clip(chance.normal(skill, 0.1, (IMAGES, 3)), 0.02, 0.98)
    hit = np.rint(PIXELS / 3 * share).astype(int)
    missed = PIXELS // 3 - hit
    wrong = np.where(gt > 0, 0, chance.integers(1, len(CLASSES) + 1, (IMAGES, 3)))
    thresholds: Sequence[float] | np.ndarray = THRESHOLDS if stage == "cam" else ()
    entries = {
        "image": np.concatenate([image, image]),
        "gt": np.concatenate([gt.ravel(), gt.ravel()]),
        "pred": np.concatenate([gt.ravel(), wrong.ravel()]),
        "count": np.concatenate([hit.ravel(), missed.ravel()]),
    }
    arrays = {
        **entries,
        "bin": np.full(len(entries["image"]), max(1, len(thresholds))),
        "names": np.array([f"train_{index:06d}" for index in range(IMAGES)]),
        "classes": np.array(CLASSES),
        "thresholds": np.array(thresholds, np.float32),
    }
    np.savez_compressed(path, **{f"counts/{key}": value for key, value in arrays.items()})
