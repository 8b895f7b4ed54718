"""Artifacts that a command means: of a trial of knobs, of a sweep, of a run, or one by itself."""

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from occse.artifacts.checksums import intact
from occse.artifacts.manifest import MANIFEST, Manifest, read_manifest
from occse.commands.options import add_trial, planned
from occse.naming.exit_codes import ExitCode


@dataclass(frozen=True, kw_only=True)
class Meant:
    """Artifacts in the store that a command means.

    Attributes:
        folders: their folders by pipeline field.
        fingerprints: the fingerprints of all that are meant, by field, those that are not in the
            store too.
        data_root: folder of the user's data set, for data that are read in place.
    """

    folders: Mapping[str, Path]
    fingerprints: Mapping[str, str]
    data_root: Path | None

    def folder(self, field: str, *, store: Path) -> Path:
        """Return the folder of the artifact of `field`.

        Raises:
            ValueError: it is not meant, or not in the store.
        """
        if field not in self.fingerprints:
            raise ValueError(f"there is no {field!r}; there are {', '.join(self.fingerprints)}")
        if field not in self.folders:
            raise ValueError(
                f"{store} lacks the artifact {self.fingerprints[field]} of {field!r}: "
                "run the trial first"
            )
        return self.folders[field]


def add_meant(command: argparse.ArgumentParser) -> None:
    """Declare the options that say which artifacts are meant."""
    add_trial(command)
    command.add_argument(
        "--spec",
        type=Path,
        metavar="FILE",
        help="a sweep's file, in place of --profile and --set",
    )
    command.add_argument(
        "--variant",
        metavar="TRIAL",
        help="a trial of that sweep: its number, or a part of its name (default: the first trial)",
    )
    command.add_argument("--run", help="a trial's run in MLflow: its id, or EXPERIMENT/NAME")
    command.add_argument(
        "--tracking",
        metavar="URI",
        help="MLflow's tracking URI, for --run (default: sqlite:///runs/mlflow.db)",
    )


def meant(options: argparse.Namespace) -> Meant:
    """Return the artifacts that the options of `add_meant` mean.

    Raises:
        ValueError: the options mean none, or contradict each other.
        OSError: the tracking server of a run does not answer.
    """
    if options.spec is None and options.run is None:
        nodes = planned(options)
        fingerprints = {field: node.fingerprint for field, node in nodes.items()}
        data_root = options.data_root
    else:
        fingerprints, data_root = _of_sweep(options)
    return _found(options.store, fingerprints, data_root)


def with_inputs(store: Path, fingerprint: str, field: str, data_root: Path | None) -> Meant:
    """Return the artifact `fingerprint` as `field`, and the artifacts that it was made from.

    Raises:
        ValueError: it is not in the store.
    """
    fingerprints = {field: fingerprint}
    waiting = [fingerprint]
    while waiting:
        folder = locate(store, waiting.pop())
        if folder is not None:
            inputs = manifest_of(folder).inputs
            waiting += [need for name, need in inputs.items() if name not in fingerprints]
            # The artifact that was asked for keeps its field, whatever its inputs are called.
            fingerprints = inputs | fingerprints
    found = _found(store, fingerprints, data_root)
    found.folder(field, store=store)
    return found


def locate(store: Path, fingerprint: str) -> Path | None:
    """Return the folder of the artifact `fingerprint`, or None where it is not in the store."""
    for path in store.glob(f"*/{fingerprint}/{MANIFEST}"):
        if intact(store, path.parent.parent.name, fingerprint):
            return path.parent
    return None


def manifest_of(folder: Path) -> Manifest:
    """Return the manifest of the artifact in `folder`.

    Raises:
        ValueError: there is none that is whole.
    """
    path = folder / MANIFEST
    if not path.is_file() or read_manifest(path.read_bytes()) is None:
        raise ValueError(f"{folder} is not an artifact: it has no {MANIFEST}, or a damaged one")
    return Manifest.model_validate_json(path.read_bytes())


def _found(store: Path, fingerprints: Mapping[str, str], data_root: Path | None) -> Meant:
    folders = {field: locate(store, fingerprint) for field, fingerprint in fingerprints.items()}
    here = {field: folder for field, folder in folders.items() if folder is not None}
    return Meant(folders=here, fingerprints=fingerprints, data_root=data_root)


def of_run(run: str, *, tracking: str | None) -> dict[str, str]:
    """Return the fingerprints of a trial's artifacts by field, from its run in MLflow.

    Raises:
        ValueError: there is no such run.
        OSError: the tracking server does not answer.
    """
    fingerprints, _ = _ask_sweeps({"--run": run, "--tracking": tracking})
    return fingerprints


def _of_sweep(options: argparse.Namespace) -> tuple[dict[str, str], Path | None]:
    given = {
        "--trial": options.variant,
        "--run": options.run,
        "--tracking": options.tracking,
        "--data-root": options.data_root,
        "--weights": options.weights,
    }
    fingerprints, data_root = _ask_sweeps(given, options.spec)
    return fingerprints, data_root or options.data_root


def _ask_sweeps(
    given: Mapping[str, object], spec: Path | None = None
) -> tuple[dict[str, str], Path | None]:
    """Ask `sweeps` for the artifacts of one of its trials, and for the folder of its data."""
    arguments = [] if spec is None else [str(spec)]
    for option, value in given.items():
        if value is not None:
            arguments += [option, str(value)]
    # In a process of its own, because occse never imports sweeps.
    answer = subprocess.run(
        [sys.executable, "-m", "sweeps", "artifacts", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    if answer.returncode:
        text = answer.stderr.strip() or "`python -m sweeps artifacts` failed"
        if answer.returncode == ExitCode.BAD_INPUT:
            raise ValueError(text)
        raise OSError(text)
    # The answer is the last line; a library may have printed before it.
    values = json.loads(answer.stdout.splitlines()[-1])
    root = values["data_root"]
    return values["artifacts"], Path(root) if root else None
