"""A sweep in MLflow with all that a report shows: counts, panels, maps, costs, a question; and what
else a test asks for.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from pathlib import Path

from made_counts import write_counts
from mlflow import MlflowClient
from mlflow.entities import Metric
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from test_compare import found_by

Record = Callable[..., str]
STAGES = ("cam", "crf", "pseudo", "seg")
QUESTION = "Does erasing help?\n\nExpected: better maps & <b>better</b> segmentations."


def record_sweep(
    record: Record,
    tracking: str,
    folder: Path,
    experiment: str,
    *,
    variants: Mapping[str, float],
    seeds: int = 2,
    stages: tuple[str, ...] = STAGES,
    baseline: str = "source=oc",
    tags: Mapping[str, str] | None = None,
    both: int = 0,
    params: Mapping[str, Mapping[str, str]] | None = None,
    curves: Sequence[str] = (),
) -> dict[tuple[str, int], str]:
    """Record finished trials whose scores rise with the skill of a variant; returns run ids by
    variant and seed.
    """
    client, runs = MlflowClient(tracking), dict[tuple[str, int], str]()
    for order, (variant, skill) in enumerate(variants.items()):
        for seed in range(seeds):
            about = {
                "occse.baseline": str(variant == baseline).lower(),
                "occse.seconds.spent": "120.0",
                "occse.seconds.saved": "60.0",
                "occse.seconds": "{" + ", ".join(f'"{stage}": 45.0' for stage in stages) + "}",
                "occse.gpus": "{"
                + ", ".join(f'"{stage}": {int(stage != "crf")}' for stage in stages)
                + "}",
                "occse.git.sha": "0123456789abcdef",
                "occse.packages": '{"torch": "2.14"}',
                "occse.devices": "CPU of some kind",
                "occse.pixel_truth": "cam.threshold on train",
                **(tags or {}),
            }
            scores = {f"{stage}/miou": 0.5 + skill + 0.01 * seed for stage in stages}
            metrics = scores | {f"{stages[-1]}/iou/fish": 0.4 + skill, "cam/threshold": 0.2}
            run = record(
                experiment,
                variant,
                order=order,
                seed=seed,
                tags=about,
                metrics=metrics,
                fields=stages,
                params=(params or {}).get(variant, {}),
            )
            for name in curves:
                points = [Metric(name, 1 / (step + order + seed), 1, step) for step in range(1, 5)]
                client.log_batch(run, points)
            for stage in stages:
                file = folder / run / "counts" / f"{stage}.npz"
                thresholds = (0.1, 0.2) if stage == "cam" else ()
                write_counts(
                    file, found_by(skill, 10 * order + seed), thresholds=thresholds, both=both
                )
            for number in range(3):
                panel = folder / run / "panels" / f"image {number}.png"
                panel.parent.mkdir(exist_ok=True)
                panel.write_bytes(_picture(40 * order))
                maps = folder / run / "maps" / f"image {number}.png"
                maps.parent.mkdir(exist_ok=True)
                _write_maps(maps, 40 * order)
            client.log_artifacts(run, str(folder / run))
            runs[variant, seed] = run
    parent = client.get_run(runs[next(iter(variants)), 0]).data.tags["mlflow.parentRunId"]
    client.set_tag(parent, "mlflow.note.content", QUESTION)
    client.set_tag(parent, "occse.command", "python -m sweeps run sweeps/specs/some.yaml")
    client.set_tag(parent, "occse.git.sha", "0123456789abcdef")
    return runs


def _write_maps(path: Path, grey: int) -> None:
    """Write a sheet as `occse.artifacts.panels.write_maps` does: an image, a ramp, a label map."""
    sheet = Image.new("RGB", (48, 16), (grey, grey, grey))
    for column in range(16):
        value = 17 * column
        sheet.paste((value, value, value), (16 + column, 0, 17 + column, 16))
    sheet.paste((128, 0, 0), (32, 4, 48, 16))
    titles = (("image", "image"), ("CAM fish", "cam"), ("truth", "labels"))
    cells = [
        {"title": title, "kind": kind, "left": 16 * index, "width": 16}
        for index, (title, kind) in enumerate(titles)
    ]
    text = PngInfo()
    text.add_text("occse.maps", json.dumps({"cells": cells, "classes": {"fish": "#800000"}}))
    sheet.save(path, pnginfo=text)


def _picture(grey: int) -> bytes:
    buffer = BytesIO()
    Image.new("RGB", (30, 10), (grey, grey, grey)).save(buffer, "PNG")
    return buffer.getvalue()
