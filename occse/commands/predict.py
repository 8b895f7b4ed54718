"""`occse predict`: segmentations, or class activation maps, of new images."""

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from occse.artifacts.manifest import MANIFEST
from occse.commands.options import Commands, add_store, make_folder
from occse.commands.values import above_0, add_device, chosen_device
from occse.commands.which import locate, manifest_of, of_run
from occse.pipeline import pipeline_class, stage_classes
from occse.stage import MODEL

if TYPE_CHECKING:
    from occse.artifacts.predict import Recipe

FINGERPRINT = re.compile(r"[0-9a-f]{16}")
SUFFIXES = (".jpg", ".jpeg", ".png")
README = "README.txt"
# Stages whose artifact is a result of a network: the field of the network in their inputs.
NETWORK_OF = {"Segment": "deeplab"}
# Classes of the stages whose results a run is asked for: segmentations, else CAMs.
RESULTS = ("Segment", "MakeCam")


def add(commands: Commands) -> None:
    command = commands.add_parser("predict", help="segment new images with a trained network")
    command.set_defaults(command=predict)
    command.add_argument(
        "--from",
        dest="source",
        required=True,
        metavar="RUN|FINGERPRINT|FOLDER",
        help="a run in MLflow, or an artifact of seg, deeplab, cgnet, oc or cam: its fingerprint "
        "or its folder",
    )
    command.add_argument("images", nargs="+", type=Path, help="image files, or folders of them")
    command.add_argument(
        "--out", type=Path, required=True, metavar="FOLDER", help="the folder to write into"
    )
    add_store(command)
    command.add_argument(
        "--tracking",
        metavar="URI",
        help="MLflow's tracking URI, for a run (default: sqlite:///runs/mlflow.db)",
    )
    command.add_argument(
        "--scales",
        nargs="+",
        type=above_0,
        metavar="SCALE",
        help="factors of the image size (default: those of the stage, or 1)",
    )
    add_device(command)


def predict(options: argparse.Namespace) -> None:
    """Write a result for each image, and a README.txt with the classes.

    Raises:
        ValueError: there is no such network, or an image cannot be read.
    """
    images = _images(options.images)
    recipe = _recipe(options)
    # Imported here: it needs torch, and a mistyped option does not.
    from occse.artifacts import predict as results

    make_folder(options.out)
    for path in results.predict(recipe, images, options.out):
        print(path)
    lines = [
        f"Made by the network {recipe.model}",
        f"at the scales {', '.join(f'{scale:g}' for scale in recipe.scales)}.",
        "",
        "Labels: 0 background, and",
        *(f"{index + 1:>5} {name}" for index, name in enumerate(recipe.classes)),
    ]
    (options.out / README).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _images(given: list[Path]) -> list[Path]:
    """Return the image files that are given, those of folders included."""
    paths: list[Path] = []
    for path in given:
        if path.is_dir():
            paths += sorted(each for each in path.iterdir() if each.suffix.lower() in SUFFIXES)
        elif path.is_file():
            paths.append(path)
        else:
            raise ValueError(f"{path}: no such image")
    by_name: dict[str, Path] = {}
    for path in paths:
        if path.stem in by_name:
            raise ValueError(
                f"{by_name[path.stem]} and {path} would both become {path.stem}.png; "
                "give them names of their own, or predict them into two folders"
            )
        by_name[path.stem] = path
    if not paths:
        raise ValueError(f"no images; expected files of {', '.join(SUFFIXES)}")
    return paths


def _recipe(options: argparse.Namespace) -> "Recipe":
    from dataclasses import replace

    from occse.artifacts.predict import Recipe

    folder = _folder(options)
    device = chosen_device(options)
    config: dict[str, object] = {}
    if (folder / MANIFEST).is_file():
        manifest = manifest_of(folder)
        network = NETWORK_OF.get(manifest.stage, str(manifest.config.get("source", "")))
        # `seg` and `cam` hold results: the network is an input of theirs, and their knobs hold.
        if network in manifest.inputs and not (folder / MODEL).is_file():
            config = manifest.config
            folder = _located(options.store, manifest.inputs[network], network)
    if not (folder / MODEL).is_file():
        raise ValueError(
            f"{folder} has no {MODEL}; expected an artifact of seg, deeplab, cgnet, oc or cam"
        )
    recipe = Recipe(model=folder / MODEL, classes=_classes(folder, options.store), device=device)
    recipe = recipe.with_knobs(config)
    return replace(recipe, scales=tuple(options.scales)) if options.scales else recipe


def _folder(options: argparse.Namespace) -> Path:
    """Return the folder of the artifact that `--from` means."""
    path = Path(options.source)
    if path.is_dir():
        return path
    if FINGERPRINT.fullmatch(options.source):
        return _located(options.store, options.source, "--from")
    fingerprints = of_run(options.source, tracking=options.tracking)
    # From the end, so that a segmentation comes before CAMs.
    for field in reversed(pipeline_class().model_fields):
        kind = stage_classes(field)[0].__name__
        if field in fingerprints and kind in RESULTS:
            return _located(options.store, fingerprints[field], field)
    raise ValueError(f"the run {options.source} has no network; it has {', '.join(fingerprints)}")


def _located(store: Path, fingerprint: str, field: str) -> Path:
    folder = locate(store, fingerprint)
    if folder is None:
        raise ValueError(f"{store} lacks the artifact {fingerprint} of {field}")
    return folder


def _classes(folder: Path, store: Path) -> tuple[str, ...]:
    """Return the class names that the network carries; older ones have them in their data."""
    from occse.data.dataset import load_classes
    from occse.networks.checkpoint import read_metadata

    classes: tuple[str, ...] = read_metadata(folder / MODEL)["classes"]
    if classes:
        return classes
    data = locate(store, manifest_of(folder).inputs.get("data", ""))
    if data is None:
        raise ValueError(
            f"{folder / MODEL} carries no class names, and the artifact of its data "
            f"is not in {store}"
        )
    return load_classes(data)
