"""Files that a trial leaves in MLflow: with them an analysis needs no store, and a person sees what
the stages made.

counts/<field>.npz      confusion counts per image of every scored stage tables/<field>/
what they give at the best threshold: classes.csv (iou, precision, recall, pixels tp, fp, fn),
                        confusion.csv (pixels; a row per truth, a column per prediction); and
                        thresholds.csv
labels.csv              the classes of every image that is counted, separated by semicolons
panels/<image>.png      what the stages made of a fixed handful of images, the same for every trial
on these data config.yaml             the resolved configuration: every active knob of every planned
stage manifests.json          of every artifact by field: inputs, seconds, commit and diff, machine,
packages, command diff.patch              the uncommitted change of the code, where there was one

The sweep itself leaves sweep.yaml, its resolved file, and diff.patch.
"""

import json
import tempfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import yaml

from occse.artifacts.panels import choose, draw_panel
from occse.artifacts.provenance import git_state
from occse.data.dataset import load_dataset
from occse.method.evaluation import Counts
from occse.pipeline import scored_fields
from occse.stages.crf import LABELS
from occse.stages.scored import COUNTS
from sweeps.spec.model import Spec
from sweeps.store.store import Store
from sweeps.tracking.tables import write_csv, write_tables
from sweeps.tracking.tags import Record

NUM_PANELS = 4
DATA = "data"
IN_ONE_FILE = ("cam",)  # the maps of all images: it comes whole or not at all
SHOWN = {"train": {"cam", "crf", "pseudo"}, "val": {"seg"}}


def write_attachments(
    record: Record, folder: Path, *, store: Store, data_root: Path | None
) -> None:
    """Write the files of a trial below `folder`, as they shall stand in MLflow.

    Raises:
        OSError, ValueError: an artifact cannot be read.
    """
    with tempfile.TemporaryDirectory() as aside:
        folders = _folders(record, store, Path(aside), data_root=data_root)
        _write(record, folder, folders, data_root=data_root)


def _folders(
    record: Record, store: Store, aside: Path, *, data_root: Path | None
) -> dict[str, Path]:
    """What the data and the scored stages made. On an object store networks stay there, and of maps
    all but a few.
    """
    nodes = {field: node for field, node in record.trial.nodes.items() if field in record.manifests}
    folders = {
        field: store.folder(nodes[field]) for field in (DATA, *IN_ONE_FILE) if field in nodes
    }
    maps = [f"{LABELS}/{name}.png" for name in _shown(folders, nodes, data_root)]
    scored = [field for field in scored_fields() if field in nodes and field not in IN_ONE_FILE]
    return folders | {
        field: store.parts(nodes[field], [COUNTS, *maps], aside / field) for field in scored
    }


def _write(
    record: Record, folder: Path, folders: Mapping[str, Path], *, data_root: Path | None
) -> None:
    counted: dict[str, None] = {}
    for field, path in folders.items():
        if (path / COUNTS).exists():
            _place(folder / "counts" / f"{field}.npz", (path / COUNTS).read_bytes())
            counts = Counts.load(path / COUNTS)
            counted |= dict.fromkeys(counts.names)
            write_tables(counts, folder / "tables" / field)
    config = {field: node.stage.config() for field, node in record.trial.nodes.items()}
    _place(folder / "config.yaml", yaml.safe_dump(config, sort_keys=False).encode())
    manifests = {field: manifest.model_dump() for field, manifest in record.manifests.items()}
    _place(folder / "manifests.json", json.dumps(manifests, indent=1).encode())
    _place_diff(folder)
    if counted:
        dataset = load_dataset(folders[DATA], data_root=data_root or Path())
        labels = (
            ";".join(dataset.classes[index] for index in dataset.labels[name]) for name in counted
        )
        write_csv(folder / "labels.csv", ("image", "labels"), zip(counted, labels, strict=True))
    for name in _shown(folders, folders, data_root):
        path = folder / "panels" / f"{Path(name).name}.png"
        path.parent.mkdir(exist_ok=True)
        draw_panel(name, folders, data_root=data_root).save(path)


def write_sweep(spec: Spec, folder: Path) -> None:
    """Write the files of the sweep itself below `folder`."""
    values = spec.model_dump(mode="json", exclude_defaults=True)
    _place(folder / "sweep.yaml", yaml.safe_dump(values, sort_keys=False).encode())
    _place_diff(folder)


def _shown(
    folders: Mapping[str, Path], made: Collection[str], data_root: Path | None
) -> Iterator[str]:
    """The images of each split of which a stage of this trial, of those that `made` something, has
    a map.
    """
    splits = [split for split, fields in SHOWN.items() if fields.intersection(made)]
    if DATA in folders and splits:
        dataset = load_dataset(folders[DATA], data_root=data_root)
        for split in splits:
            if split in dataset.splits:
                yield from choose(dataset, split, number=NUM_PANELS)


def _place_diff(folder: Path) -> None:
    if diff := git_state()["diff"]:
        _place(folder / "diff.patch", diff.encode())


def _place(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
