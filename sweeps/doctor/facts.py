"""What a machine of the cluster has, as plain facts: it looks for itself, `sweeps.doctor.report`
compares and judges.
"""

import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from sweeps.cluster.code_version import source_digest

PACKAGES = ("torch", "torchvision", "ray", "mlflow", "optuna", "numpy", "pydensecrf2", "pydantic")
Facts = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Question:
    """What every machine is asked for: plain values, since it travels.

    Attributes:
        store: folder or URL of the artifacts. token: name of the file that the driver left in the
        store, for the others to find. tracking: MLflow's URI; only a server can be seen from other
        machines. data: the stage that reads data in place, as JSON, or None for data that the sweep
        makes itself. weights: folder of the weight files, and the digests that the sweep needs of
        it.
    """

    store: str
    token: str
    tracking: str
    data: Mapping[str, Any] | None
    data_root: str | None
    weights: str | None
    digests: Sequence[str]


def look(question: Question, *, num_gpus: float) -> Facts:
    """What this machine has. Runs on every node; `num_gpus` is what Ray grants of it."""
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
        return {"error": next(iter(str(error).splitlines()), type(error).__name__)}


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _gpus() -> list[str]:
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    if shutil.which(query[0]) is None:
        return []
    answer = subprocess.run(query, capture_output=True, text=True, check=False, timeout=60)
    return (
        [" ".join(line.split(", ")) for line in answer.stdout.splitlines()]
        if answer.returncode == 0
        else []
    )


def _cuda() -> str:
    """ "ok" where torch computes on a GPU, else why not. In a process of its own: a context would
    hold GPU memory.
    """
    code = "import torch; torch.zeros(8, device='cuda').sum().item()"
    environment = {
        name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"
    }
    answer = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    return (
        "ok"
        if answer.returncode == 0
        else (answer.stderr.strip().splitlines() or ["no message"])[-1]
    )


def _store(place: str, token: str) -> Facts:
    from sweeps.store.store import Store

    store = Store(place)
    if store.files.read(token) is None:
        raise OSError(f"{store.url} is not the store that the driver sees")
    store.check_writable()
    # of an object store, where its artifacts are kept on this machine
    free = shutil.disk_usage(store.root).free
    return {"free": free, "said": f"writable, {free / 2**30:.0f} GB free"}


def _tracking(uri: str) -> Facts:
    if not uri.startswith("http"):
        return {}  # a database file: the driver alone writes to it
    from mlflow import MlflowClient

    MlflowClient(uri).search_experiments(max_results=1)
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
            f"the data are a user's, but nothing says where it lies: give --data-root {data.example}"
        )
    expected, found = (
        data.digest,
        data.model_copy(update={"digest": ""}).resolved(Path(question.data_root)).digest,
    )
    if expected not in ("", found):
        raise ValueError(
            f"{question.data_root} has the digest {found[:12]}, on the driver it has {expected[:12]}"
        )
    return {"said": f"digest {found[:12]}"}


def _weights(question: Question) -> Facts:
    if not question.digests:
        return {}
    from occse.stages.trained import SHA256, locate

    for digest in question.digests:
        locate(SHA256 + digest, Path(question.weights) if question.weights else None)
    return {"said": f"{len(question.digests)} files"}
