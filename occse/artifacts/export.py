"""Results of a stage as files that other programs read.

Label maps are PNGs with VOC's palette. CAMs are PNGs over the image, or the `.npy` dictionaries of
psa and OC-CSE (class index to map) or of irn (`keys`, `cam`, `high_res`).
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from occse.artifacts.manifest import Manifest
from occse.artifacts.panels import overlay
from occse.data.array_archive import ArrayReader
from occse.data.dataset import Dataset
from occse.stage import LABELS

CamFormat = Literal["png", "psa", "irn"]
README = "README.txt"


def export_labels(artifact: Path, out: Path) -> int:
    """Copy the label maps of an artifact into `out`, and return their number.

    Raises:
        ValueError: the artifact has none.
    """
    paths = sorted((artifact / LABELS).glob("**/*.png"))
    if not paths:
        raise ValueError(f"{artifact} has no label maps; expected a stage such as crf, pseudo, seg")
    for path in paths:
        target = out / path.relative_to(artifact / LABELS)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    return len(paths)


def export_cams(artifact: Path, dataset: Dataset, out: Path, *, form: CamFormat) -> int:
    """Write the CAMs of an artifact into `out`, and return the number of images.

    Args:
        artifact: folder of an artifact of the stage `cam`.
        dataset: its images.
        out: the folder to write into.
        form: "png" writes NAME_CLASS.png, the others NAME.npy with maps at the image's size.
    """
    # Imported here: it needs torch, and the help of the commands does not.
    from occse.data.score_archives import CAMS, read_cam

    reader = ArrayReader(artifact / CAMS)
    # CAMs need image labels, and are made for the training images only.
    names = dataset.splits["train_aug"]
    for name in names:
        image = dataset.image(name)
        maps, classes = read_cam(reader, name, image.shape[:2])
        target = out / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if form == "psa":
            _save_dict(target, dict(zip(classes, maps, strict=True)))
        elif form == "irn":
            # irn's files have both: `cam` as the network's maps are stored, `high_res` at the
            # image's size.
            stored = reader[name]["cam"].astype(np.float32)
            keys = np.array(classes, np.int64)
            _save_dict(target, {"keys": keys, "cam": stored, "high_res": maps})
        else:
            for index, cam in zip(classes, maps, strict=True):
                path = target.with_name(f"{target.name}_{dataset.classes[index]}.png")
                Image.fromarray(overlay(image, cam)).save(path)
    return len(names)


def _save_dict(target: Path, values: Mapping[Any, object]) -> None:
    # The readers of psa and irn unpickle a dictionary, so the file is one.
    np.save(target.with_name(f"{target.name}.npy"), np.array(dict(values), dtype=object))


def write_readme(
    out: Path, manifest: Manifest, classes: tuple[str, ...], *, field: str, contents: str
) -> None:
    """Write README.txt: what the files in `out` are, and what made them."""
    lines = readme_lines(manifest, classes, field=field, contents=contents)
    (out / README).write_text("\n".join(lines) + "\n", encoding="utf-8")


def readme_lines(
    manifest: Manifest, classes: tuple[str, ...], *, field: str, contents: str
) -> Iterator[str]:
    """Yield the lines of README.txt."""
    yield contents
    yield ""
    yield f"Made by the stage {field} ({manifest.stage}), artifact {manifest.fingerprint},"
    commit = manifest.git.get("sha", "")[:12] or "unknown"
    changed = " with uncommitted changes" if manifest.git.get("diff") else ""
    yield f"on {manifest.created} by the code of commit {commit}{changed}."
    yield f"Command: {manifest.command}"
    yield f"Knobs: {json.dumps(manifest.config)}"
    yield f"Inputs: {json.dumps(manifest.inputs)}"
    scores = {name: value for name, value in manifest.metrics.items() if "/" not in name}
    yield f"Metrics: {json.dumps(scores)}"
    yield ""
    yield "Labels: 0 background, 255 not labelled, and"
    for index, name in enumerate(classes):
        yield f"{index + 1:>5} {name}"
