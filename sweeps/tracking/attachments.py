"""Files that a sweep and its trials leave in MLflow, so that an analysis needs no store.

Of a trial:

| file | content |
|---|---|
| `counts/<field>.npz` | confusion counts per image of every scored stage |
| `tables/<field>/classes.csv` | iou, precision, recall and pixels by class, at the best threshold |
| `tables/<field>/confusion.csv` | pixels; a row per truth, a column per prediction |
| `tables/<field>/thresholds.csv` | miou, precision and recall by threshold |
| `labels.csv` | classes of every image that is counted, separated by semicolons |
| `panels/<image>.png` | results of the stages on a few images, the same for every trial |
| `maps/<image>.png` | the same for programs, see `occse.artifacts.panels.write_maps` |
| `gallery.html` | all panels on one page |
| `config.yaml` | every active knob of every planned stage |
| `manifests.json` | of every artifact by field: inputs, seconds, commit, machine, command; |
| | what all of them share is in `common` |
| `diff.patch` | the uncommitted change of the code, where there was one |

Of the sweep: `sweep.yaml`, its resolved file; `pipeline.json`, the facts of its stages (see
`occse.pipeline.pipeline_facts`); `configurations.json`, the knobs of every stage by its fingerprint
(see `sweeps.tracking.configurations`); `table.md`, `table.html` and `table.csv`, the results as
`python -m sweeps run` printed them; `expectations.json`, the claims of its file, if any;
`labels.json`, the names that its file gives; and `diff.patch`.
"""

import csv
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml
from jaxtyping import Int64

from occse.artifacts.manifest import Manifest
from occse.artifacts.panels import choose, draw_panel, write_maps
from occse.artifacts.provenance import git_state
from occse.artifacts.secrets import masked
from occse.data.dataset import load_dataset
from occse.method.evaluation import Counts, iou, precision, recall
from occse.pipeline import Node, pipeline_facts, scored_fields
from occse.stage import COUNTS, LABELS
from occse.stages.cam import MakeCam
from sweeps.spec.model import Spec
from sweeps.store.store import Store
from sweeps.tracking.configurations import FILE as CONFIGURATIONS
from sweeps.tracking.configurations import Knobs, write_text
from sweeps.tracking.database import local_folder
from sweeps.tracking.gallery import gallery
from sweeps.tracking.tags import TAG_CHARACTERS, Record

if TYPE_CHECKING:  # importing it takes a second that other commands do without
    from mlflow import MlflowClient
    from mlflow.entities import Run

# Enough to see what a variant does, and some 300 kB for each trial.
NUM_PANELS = 4
# Version of `labels.json`, which analysis reads.
LABELS_VERSION = 1
DATA = "data"
# Parts of a manifest that are in `config.yaml` and in MLflow's metrics.
ELSEWHERE = {"config", "metrics"}
# Parts that the artifacts of a trial mostly share; an uncommitted difference of the code is long.
ORIGIN = ("version", "host", "device", "git", "packages", "machine", "command", "source")
BY_CLASS = ("class", "iou", "precision", "recall", "tp", "fp", "fn")
BY_THRESHOLD = ("threshold", "miou", "precision", "recall")
# Ten times as fast where PyYAML was built with its library, as its wheels are.
DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
CsvRow = Sequence[object]


def write_attachments(
    record: Record, folder: Path, *, title: str, store: Store, data_root: Path | None
) -> None:
    """Write the files of a trial below `folder`, as MLflow shall have them.

    Args:
        record: of the trial.
        folder: an empty one.
        title: name of the trial for people.
        store: has its artifacts.
        data_root: folder of the data set.

    Raises:
        OSError: an artifact cannot be read.
        ValueError: an artifact is damaged.
    """
    with tempfile.TemporaryDirectory() as aside:
        folders = _folders(record, store, Path(aside), data_root=data_root)
        _write(record, folder, folders, title=title, data_root=data_root)


def upload(client: "MlflowClient", run: "Run", write: Callable[[Path], None]) -> tuple[bool, str]:
    """Upload the files that `write` makes in a folder.

    Returns:
        False where that is to be tried again; and the reason why files are missing, if they are.
        No number is lost over a file.
    """
    from mlflow.exceptions import MlflowException

    unreadable = refused = ""
    with tempfile.TemporaryDirectory() as folder:
        try:
            write(Path(folder))
        except (OSError, ValueError) as error:
            unreadable = masked(str(error))[:TAG_CHARACTERS]
        try:
            location = local_folder(run.info.artifact_uri)
            if location is None:
                client.log_artifacts(run.info.run_id, folder)
            else:
                # as MLflow does it, which would ask its database first for what is known here
                shutil.copytree(folder, location, dirs_exist_ok=True)
        except (OSError, shutil.Error, MlflowException) as error:
            refused = masked(str(error))[:TAG_CHARACTERS]
    return not refused, refused or unreadable


def write_sweep(spec: Spec, stages: Mapping[str, Knobs], folder: Path) -> None:
    """Write the files of the sweep itself below `folder`.

    Args:
        spec: the sweep.
        stages: knobs of all its stages by fingerprint.
        folder: an empty one.
    """
    _write_file(folder / CONFIGURATIONS, write_text(stages).encode())
    # the hook changes no result, and the URL of a chat is a secret as a whole
    values = spec.model_dump(mode="json", exclude_defaults=True, exclude={"notify"})
    # a study's storage is an address of a database, often with a password
    text = masked(yaml.safe_dump(values, sort_keys=False))
    _write_file(folder / "sweep.yaml", text.encode())
    facts = pipeline_facts(spec.base_pipeline())
    _write_file(folder / "pipeline.json", json.dumps(facts, indent=1).encode())
    if spec.claims:
        expectations = json.dumps(spec.expectations(), indent=1)
        _write_file(folder / "expectations.json", expectations.encode())
    if spec.labels:
        labels = json.dumps({"version": LABELS_VERSION, "labels": spec.labels}, indent=1)
        _write_file(folder / "labels.json", labels.encode())
    _write_diff(folder)


def write_tables(counts: Counts, folder: Path) -> None:
    """Write the tables that the counts of one scored stage give.

    `classes.csv` and `confusion.csv` are those at the best threshold; `thresholds.csv` is written
    where there are thresholds.
    """
    levels = counts.confusion()
    labels = ("background", *counts.classes)
    confusion = levels[int(iou(levels).mean(axis=-1).argmax())]
    folder.mkdir(parents=True)
    _write_csv(folder / "classes.csv", BY_CLASS, zip(labels, *_by_class(confusion), strict=True))
    rows = ((label, *row) for label, row in zip(labels, confusion.tolist(), strict=True))
    _write_csv(folder / "confusion.csv", ("truth", *labels), rows)
    if counts.thresholds.size:
        scores = [
            score.mean(axis=-1).tolist()
            for score in (iou(levels), precision(levels), recall(levels))
        ]
        by_threshold = zip(map(str, counts.thresholds), *scores, strict=True)
        _write_csv(folder / "thresholds.csv", BY_THRESHOLD, by_threshold)


def _folders(
    record: Record, store: Store, aside: Path, *, data_root: Path | None
) -> dict[str, Path]:
    """Return the folders of the data and of the scored stages on this machine.

    On an object store networks stay there, and of label maps all but a few.
    """
    nodes = {field: node for field, node in record.trial.nodes.items() if field in record.manifests}
    folders = {DATA: store.folder(nodes[DATA])} if DATA in nodes else {}
    maps = [f"{LABELS}/{image}.png" for image in _shown(folders, nodes, data_root)]
    for field in scored_fields():
        node = nodes.get(field)
        if node is None:
            continue
        if isinstance(node.stage, MakeCam):
            # the maps of all images are one file: fetched once per machine, not once per trial
            folders[field] = store.folder(node)
        else:
            folders[field] = store.parts(node, [COUNTS, *maps], aside / field)
    return folders


def _write(
    record: Record,
    folder: Path,
    folders: Mapping[str, Path],
    *,
    title: str,
    data_root: Path | None,
) -> None:
    counted: dict[str, None] = {}
    for field, path in folders.items():
        counts = Counts.load(path / COUNTS) if (path / COUNTS).exists() else None
        # Without a mask nothing was counted, and tables of zeros would look like scores.
        if counts is not None and counts.names:
            _write_file(folder / "counts" / f"{field}.npz", (path / COUNTS).read_bytes())
            counted |= dict.fromkeys(counts.names)
            write_tables(counts, folder / "tables" / field)
    _write_file(folder / "config.yaml", _configs(record.trial.nodes).encode())
    _write_file(folder / "manifests.json", _manifests(record.manifests).encode())
    _write_diff(folder)
    if counted:
        _write_labels(folder / "labels.csv", counted, folders[DATA], data_root=data_root)
    nodes = {field: record.trial.nodes[field] for field in folders}
    panels = {}
    for image in _shown(folders, nodes, data_root):
        name = f"{Path(image).name}.png"
        (folder / "panels").mkdir(exist_ok=True)
        (folder / "maps").mkdir(exist_ok=True)
        panels[image] = draw_panel(image, folders, data_root=data_root)
        panels[image].save(folder / "panels" / name)
        write_maps(image, folders, folder / "maps" / name, data_root=data_root)
    if panels:
        page = gallery(title, panels)
        _write_file(folder / "gallery.html", page.encode())


@dataclass(frozen=True)
class _Part:
    """One stage of a file about a trial. Parts are equal if they are of the same artifact."""

    field: str
    fingerprint: str
    values: Callable[[], Mapping[str, Any]] = dataclass_field(compare=False)


# Trials share most of their stages, and writing YAML takes longer than the rest of a record. A
# sweep's trials come in the order of its file, so that those that share are near.
@lru_cache(maxsize=1000)
def _yaml(part: _Part) -> str:
    return str(yaml.dump({part.field: dict(part.values())}, Dumper=DUMPER, sort_keys=False))


def _configs(nodes: Mapping[str, Node]) -> str:
    """Return the active knobs of every stage as YAML."""
    parts = [_Part(field, node.fingerprint, node.stage.config) for field, node in nodes.items()]
    return "".join(map(_yaml, parts))


def _manifests(manifests: Mapping[str, Manifest]) -> str:
    """Return manifests by field as JSON, a line each; `common` has what all of them share.

    Without their knobs and metrics, which the run has beside it.
    """
    parts = {field: each.model_dump(exclude=ELSEWHERE) for field, each in manifests.items()}
    first = next(iter(parts.values()), {})
    common = {
        key: first[key]
        for key in ORIGIN
        if first and all(part[key] == first[key] for part in parts.values())
    }
    lines = [f'"common": {json.dumps(common)}']
    for field, part in parts.items():
        own = {key: value for key, value in part.items() if key not in common}
        lines.append(f"{json.dumps(field)}: {json.dumps(own)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _shown(
    folders: Mapping[str, Path], nodes: Mapping[str, Node], data_root: Path | None
) -> Iterator[str]:
    """Yield the images of the panels: some of each split of which a scored stage has maps."""
    splits = []
    for field in scored_fields():
        stage = nodes[field].stage if field in nodes else None
        if stage is not None and stage.scored_split and stage.mapped_split:
            splits.append(stage.scored_split)
    if DATA not in folders or not splits:
        return
    dataset = load_dataset(folders[DATA], data_root=data_root)
    for split in dict.fromkeys(splits):
        if split in dataset.splits:
            yield from choose(dataset, split, number=NUM_PANELS)


def _write_labels(path: Path, images: Iterable[str], data: Path, *, data_root: Path | None) -> None:
    dataset = load_dataset(data, data_root=data_root or Path())
    rows = []
    for image in images:
        classes = [dataset.classes[index] for index in dataset.labels[image]]
        rows.append((image, ";".join(classes)))
    _write_csv(path, ("image", "labels"), rows)


def _by_class(confusion: Int64[np.ndarray, "labels labels"]) -> list[list[float]]:
    """Return the columns of BY_CLASS but the first; the last three are pixels."""
    hits = np.diagonal(confusion)
    wrong = confusion.sum(axis=0) - hits
    missed = confusion.sum(axis=1) - hits
    columns = (iou(confusion), precision(confusion), recall(confusion), hits, wrong, missed)
    return [column.tolist() for column in columns]


def _write_csv(path: Path, head: CsvRow, rows: Iterable[CsvRow]) -> None:
    """Write a table with one line of names above it."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        for row in (head, *rows):
            writer.writerow([_inert(cell) for cell in row])


def _inert(cell: object) -> object:
    """Return a cell that a spreadsheet does not run as a formula; a class name may be one."""
    if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r")):
        return f"'{cell}"
    return cell


def _write_diff(folder: Path) -> None:
    diff = git_state()["diff"]
    if diff:
        _write_file(folder / "diff.patch", diff.encode())


def _write_file(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
