"""Time and memory of the report of a large sweep.

`python tests/benchmarks/bench_report.py --trials 1000` records a made-up sweep in an MLflow
database of its own, makes its report, and prints the seconds of each step, the CPU time and the
peak memory.
"""

import argparse
import itertools
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

# The size of the embedded data set: a sweep's counts are read image by image.
IMAGES = 200
CLASSES = ("beetle", "cart", "fish", "plant", "sofa")
PIXELS = 4096
STAGES = ("cam", "crf", "pseudo", "seg")
SEEDS = 4
THRESHOLDS = np.linspace(0.05, 0.95, 19, dtype=np.float32)


def write_counts(path: Path, skill: float, seed: int, *, stage: str) -> None:
    """Write counts of two classes per image, of which a share `skill` is found."""
    chance = np.random.default_rng(seed)
    image = np.repeat(np.arange(IMAGES), 3)
    gt = np.stack(
        [np.zeros(IMAGES, int), *chance.integers(1, len(CLASSES) + 1, (2, IMAGES))], axis=1
    )
    share = np.clip(chance.normal(skill, 0.1, (IMAGES, 3)), 0.02, 0.98)
    hit = np.rint(PIXELS / 3 * share).astype(int)
    missed = PIXELS // 3 - hit
    wrong = np.where(gt > 0, 0, chance.integers(1, len(CLASSES) + 1, (IMAGES, 3)))
    entries = {
        "image": np.concatenate([image, image]),
        "gt": np.concatenate([gt.ravel(), gt.ravel()]),
        "pred": np.concatenate([gt.ravel(), wrong.ravel()]),
        "count": np.concatenate([hit.ravel(), missed.ravel()]),
    }
    thresholds = THRESHOLDS if stage == "cam" else np.array([], np.float32)
    bins = np.full(len(entries["image"]), max(1, len(thresholds)))
    texts = {
        "names": np.array([f"train_{index:06d}" for index in range(IMAGES)]),
        "classes": np.array(CLASSES),
    }
    arrays = {**entries, "bin": bins, **texts, "thresholds": thresholds}
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **{f"counts/{key}": value for key, value in arrays.items()})


def record(folder: Path, trials: int) -> str:
    """Record a sweep of erasing x lambda x alpha with four seeds; return its tracking URI."""
    uri = f"sqlite:///{folder}/mlflow.db"
    client = MlflowClient(uri)
    experiment = client.create_experiment("large", artifact_location=(folder / "files").as_uri())
    parent = client.create_run(experiment, tags={"occse.kind": "sweep"})
    levels = itertools.product(("class_agnostic", "cse"), range(1, 1000), (4, 6, 8, 16, 24))
    for order in range(-(-trials // SEEDS)):
        erasing, strength, alpha = next(levels)
        for seed in range(SEEDS):
            record_trial(
                client,
                experiment,
                parent.info.run_id,
                folder,
                order,
                erasing,
                strength,
                alpha,
                seed,
            )
    return uri


def record_trial(
    client: MlflowClient,
    experiment: str,
    parent: str,
    folder: Path,
    order: int,
    erasing: str,
    strength: int,
    alpha: int,
    seed: int,
) -> None:
    """Record one trial with scores, curves, counts and costs."""
    is_baseline = order == 0
    skill = 0.55 + 0.02 * (alpha == 6) - 0.0005 * strength
    chance = np.random.default_rng([order, seed])
    variant = f"erasing={erasing}, lambda_start={strength}, alpha={alpha}"
    run = client.create_run(experiment).info.run_id
    tags = {
        "mlflow.parentRunId": parent,
        "occse.kind": "trial",
        "occse.variant": variant,
        "occse.order": str(order),
        "occse.seed": str(seed),
        "occse.trial": f"{variant}/{seed}",
        "occse.baseline": str(is_baseline).lower(),
        "occse.seconds.spent": "120.0",
        "occse.seconds.saved": "60.0",
        "occse.seconds": json.dumps(dict.fromkeys(STAGES, 45.0 + strength)),
        "occse.git.sha": "0123456789abcdef",
        "occse.packages": '{"torch": "2.14"}',
        **{f"occse.fingerprint.{stage}": f"{stage}{order}/{seed}" for stage in STAGES},
    }
    scores = {f"{stage}/miou": skill + 0.01 * chance.normal() for stage in STAGES}
    scores |= {f"seg/iou/{name}": skill for name in CLASSES} | {"cam/threshold": 0.3}
    metrics = [Metric(name, value, 1, 0) for name, value in scores.items()]
    metrics += [Metric("cgnet/loss", 1 / step, 1, step) for step in range(1, 11)]
    params = {
        "cgnet.erasing": erasing,
        "cgnet.lambda_start": str(float(strength)),
        "crf.alpha": str(float(alpha)),
    }
    client.log_batch(
        run,
        metrics=metrics,
        params=[Param(name, value) for name, value in params.items()],
        tags=[RunTag(name, value) for name, value in tags.items()],
    )
    for stage in STAGES:
        path = folder / "files" / run / "artifacts" / "counts" / f"{stage}.npz"
        write_counts(path, skill, 10 * order + seed, stage=stage)
    client.set_terminated(run)


def main() -> None:
    """Record, report, and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--folder", type=Path, help="keep the database here, and use one there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        uri = f"sqlite:///{folder}/mlflow.db"
        if not (folder / "mlflow.db").exists():
            start = time.monotonic()
            record(folder, options.trials)
            print(f"recorded in {time.monotonic() - start:.0f} s")
        start = time.monotonic()
        command = [sys.executable, "-m", "analysis", "report", "large", str(folder / "out")]
        subprocess.run([*command, "--tracking", uri], check=True)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        print(
            f"report of {options.trials} trials: {time.monotonic() - start:.0f} s, "
            f"{used.ru_utime + used.ru_stime:.0f} s of CPU, {used.ru_maxrss / 1024:.0f} MB, page "
            f"{(folder / 'out' / 'index.html').stat().st_size / 1e6:.1f} MB"
        )


if __name__ == "__main__":
    main()
