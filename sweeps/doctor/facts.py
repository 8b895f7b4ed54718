"""Facts about a machine of the cluster: it looks for itself, and `sweeps.doctor.report` judges."""

import os
import platform
import shutil
import stat
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from occse.artifacts.secrets import masked
from sweeps.cluster.code_version import source_digest

PACKAGES = ("torch", "torchvision", "ray", "mlflow", "optuna", "numpy", "pydensecrf2", "pydantic")
# A driver that hangs answers nvidia-smi after minutes, or never.
NVIDIA_SMI_S = 60.0
Facts = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Question:
    """Things that a machine is asked for: plain values, since they travel.

    Attributes:
        store: folder or URL of the artifacts.
        token: name of the file that the driver left in the store, for the others to find.
        tracking: MLflow's URI; empty for a machine that does not record, as all but the driver.
        data: the stage that reads data in place, as JSON, or None for data that the sweep makes.
        data_root: folder of the user's data set.
        weights: folder of the weight files.
        digests: digests of the weight files that the sweep needs.
    """

    store: str
    token: str
    tracking: str
    data: Mapping[str, Any] | None
    data_root: str | None
    weights: str | None
    digests: Sequence[str]


def look(question: Question, *, num_gpus: float) -> Facts:
    """Return what this machine has. Runs on every node; `num_gpus` is what Ray grants of it."""
    return {
        "host": platform.node(),
        "time": time.time(),
        "code": source_digest(),
        "versions": {"python": platform.python_version(), **_versions()},
        "num_gpus": num_gpus,
        "gpus": _gpus(),
        "cuda": _cuda(),
        "store": _attempt(lambda: _store(question.store, question.token)),
        "tracking": _attempt(lambda: _tracking(question.tracking)),
        "data": _attempt(lambda: _data(question)),
        "weights": _attempt(lambda: _weights(question)),
    }


def _attempt(action: Callable[[], Facts]) -> Facts:
    try:
        return action()
    except Exception as error:  # every fault belongs into the report, whatever it is
        lines = masked(str(error)).splitlines()
        return {"error": lines[0] if lines else type(error).__name__}


def _versions() -> dict[str, str]:
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def _gpus() -> list[str]:
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    if shutil.which(query[0]) is None:
        return []
    answer = subprocess.run(
        query, capture_output=True, text=True, check=False, timeout=NVIDIA_SMI_S
    )
    if answer.returncode != 0:
        return []
    return [" ".join(line.split(", ")) for line in answer.stdout.splitlines()]


def _cuda() -> str:
    """Return "ok" where torch computes on a GPU, else the reason.

    It is tried in a process of its own, because a CUDA context would hold GPU memory.
    """
    code = "import torch; torch.zeros(8, device='cuda').sum().item()"
    # Ray hides the GPUs from a task that asks for none
    environment = {
        name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"
    }
    answer = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    if answer.returncode == 0:
        return "ok"
    lines = answer.stderr.strip().splitlines()
    return lines[-1] if lines else "no message"


def _store(url: str, token: str) -> Facts:
    from sweeps.store.backends import FolderFiles
    from sweeps.store.store import Store

    store = Store(url)
    if store.files.read(token) is None:
        raise OSError(f"{store.url} is not the store that the driver sees")
    store.check_writable()
    # of an object store, the disk on which this machine keeps copies
    free = shutil.disk_usage(store.root).free
    facts = {"free": free, "said": f"writable, {free / 2**30:.0f} GB free"}
    if isinstance(store.files, FolderFiles):
        return facts | try_folder(store.root)
    name = f".doctor.{uuid.uuid4().hex[:8]}"
    try:
        store.files.write(name, b"")
        return facts | {
            "exclusive": not store.files.create(name, b""),
            "clock": _clock(store, name),
        }
    finally:
        store.files.remove(name)


def _clock(store: "Any", name: str) -> float:  # noqa: ANN401 - the store's import costs time
    """Return how many seconds the store's clock is ahead of this machine's."""
    return (store.files.modified(name) or time.time()) - time.time()


def try_folder(root: Path) -> Facts:
    """Try what a store needs of a file system below `root`, and leave nothing there.

    Returns:
        rename: an artifact is published by renaming its folder.
        links: leases are made by hard links, else by exclusive creation.
        exclusive: of two that create a file, the second one fails.
        clock: seconds by which times of files are ahead of this machine's clock.
        shared: others may write there, but not into what this process makes.
    """
    folder = root / f".doctor.{uuid.uuid4().hex[:8]}"
    folder.mkdir()
    try:
        file = folder / "file"
        file.write_bytes(b"content")
        ahead_s = file.stat().st_mtime - time.time()
        return {
            "rename": _tried(lambda: _rename(folder)),
            "links": _tried(lambda: os.link(file, folder / "linked")) == "",
            "exclusive": _is_exclusive(folder / "exclusive"),
            "clock": ahead_s,
            "shared": _is_shared(root) and not _is_shared(folder),
        }
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _rename(folder: Path) -> None:
    aside = folder / ".aside"
    aside.mkdir()
    (aside / "part").touch()
    aside.rename(folder / "published")
    # gone under the old name and complete under the new one
    if aside.exists() or not (folder / "published" / "part").exists():
        raise OSError("a renamed folder is not where it should be")


def _is_exclusive(path: Path) -> bool:
    # The first creation has to succeed, and the second one to fail.
    for _ in range(2):
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return True
    return False


def _is_shared(folder: Path) -> bool:
    return bool(folder.stat().st_mode & stat.S_IWGRP)


def _tried(action: Callable[[], None]) -> str:
    """Return why an action fails, or nothing."""
    try:
        action()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _tracking(uri: str) -> Facts:
    if not uri:
        return {}
    from sweeps.tracking.database import connect, database

    path = database(uri)
    if path is not None and not path.exists():
        return {}
    client = connect(uri, create=False)
    client.search_experiments(max_results=1)
    return {"said": "answers"}


def _data(question: Question) -> Facts:
    if question.data is None:
        return {}
    from occse.pipeline import DATA
    from occse.stages.data import InPlace

    data = DATA[question.data["kind"]].model_validate(question.data)
    assert isinstance(data, InPlace)
    if question.data_root is None:
        raise ValueError(
            "the sweep reads a user's data set, but its folder is not given; give --data-root "
            f"{data.example}"
        )
    # Without its digest: a stage that has one does not look at the files.
    here = data.model_copy(update={"digest": ""}).resolved(Path(question.data_root)).digest
    if data.digest not in ("", here):
        raise ValueError(
            f"{question.data_root} has the digest {here[:12]}, on the driver it has "
            f"{data.digest[:12]}"
        )
    return {"said": f"digest {here[:12]}"}


def _weights(question: Question) -> Facts:
    if not question.digests:
        return {}
    from occse.stages.trained import SHA256, locate

    for digest in question.digests:
        locate(SHA256 + digest, Path(question.weights) if question.weights else None)
    return {"said": f"{len(question.digests)} files"}
