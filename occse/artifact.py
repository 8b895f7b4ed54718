"""An artifact on disk: run one stage, write aside, rename once. Presence means completeness."""

import contextlib
import errno
import fcntl
import os
import platform
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from occse.manifest import MANIFEST, Manifest, artifact_folder, load_manifest
from occse.pipeline import Node
from occse.stage import Context

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
PACKAGES = ("occse", "torch", "torchvision", "numpy", "pillow", "pydensecrf2")


def execute(
    node: Node,
    *,
    root: Path,
    device: str = "cpu",
    workers: int = 0,
    processes: int = 1,
    accumulate: int = 1,
    data_root: Path | None = None,
    weights: Path | None = None,
    git: Mapping[str, str] | None = None,
    stopping: Callable[[], bool] = lambda: False,
    report: Callable[[Mapping[str, float]], None] = lambda record: None,
) -> Manifest:
    """Run the stage of `node` below `root` unless its artifact is there, and return the manifest.

    Only a stage that trains makes use of `processes` and `accumulate`.

    Two attempts may run at once (a node that was given up may still be alive): each writes into a folder of its own and
    the first to rename wins.

    Raises:
        ValueError: what the stage says of its input; or an artifact in the store does not match.
        OSError: the store cannot be written.
        Stopped: `stopping` said so, and the stage can go on from a checkpoint.
    """
    if (found := load_manifest(root, node)) is not None:
        return found
    final = artifact_folder(root, node)
    final.parent.mkdir(parents=True, exist_ok=True)
    output = final.with_name(f".{node.fingerprint}.{uuid.uuid4().hex[:8]}")
    output.mkdir()
    try:
        with _scratch(root / "scratch" / node.fingerprint) as scratch:
            context = Context(
                inputs={field: _input_folder(root, field, fingerprint) for field, fingerprint in node.inputs.items()},
                output=output,
                scratch=scratch,
                device=device,
                workers=workers,
                processes=processes if node.stage.shares_batches else 1,
                accumulate=accumulate if node.stage.shares_batches else 1,
                data_root=data_root,
                weights=weights,
                stopping=stopping,
                report=report,
            )
            start = time.monotonic()
            metrics = node.stage.run(context)
            manifest = _describe(node, metrics, context, time.monotonic() - start, git)
            (output / MANIFEST).write_text(manifest.model_dump_json(indent=1) + "\n")
            with contextlib.suppress(OSError):  # another attempt published first; its artifact is as good
                output.rename(final)
            shutil.rmtree(scratch, ignore_errors=True)
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise OSError(
            f"the store {root} takes no more ({error.strerror}): make room and run the same command again; "
            "what is finished stays"
        ) from error
    finally:
        shutil.rmtree(output, ignore_errors=True)
    published = load_manifest(root, node)
    if published is None:
        raise OSError(f"{final} could not be written; is the store full or read-only?")
    return published


def _input_folder(root: Path, field: str, fingerprint: str) -> Path:
    found = next(root.glob(f"*/{fingerprint}/{MANIFEST}"), None)
    if found is None:
        raise ValueError(f"the artifact {fingerprint} of {field!r} is not in the store {root}")
    return found.parent


@contextlib.contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """Lock the stage's scratch folder, or take a private one while another attempt holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder / ".lock", os.O_CREAT | os.O_RDWR)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            folder = folder.with_name(f"{folder.name}.{uuid.uuid4().hex[:8]}")
            folder.mkdir()
        yield folder
    finally:
        os.close(lock)


def _describe(
    node: Node, metrics: dict[str, float], context: Context, seconds: float, git: Mapping[str, str] | None
) -> Manifest:
    on_gpu = context.device.startswith("cuda")
    shares = {"processes": context.processes, "accumulate": context.accumulate}
    return Manifest(
        stage=node.kind,
        version=node.stage.version,
        fingerprint=node.fingerprint,
        config=node.stage.config(),
        inputs=dict(node.inputs),
        metrics=metrics,
        seconds=seconds,
        bytes=sum(path.stat().st_size for path in context.output.rglob("*") if path.is_file()),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        host=platform.node(),
        device=torch.cuda.get_device_name() if on_gpu else platform.processor() or "cpu",
        machine={name: number for name, number in shares.items() if number > 1},
        git=dict(git if git is not None else git_state()),
        packages=package_versions(),
    )


@cache
def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages that can change a number."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            versions[package] = version(package)
    return versions


@cache
def git_state() -> dict[str, str]:
    """The commit of the code and its uncommitted difference, empty where the code is no git checkout."""

    def git(*arguments: str) -> str:
        folder = Path(__file__).parent
        answer = subprocess.run(("git", *arguments), cwd=folder, capture_output=True, text=True, check=False)
        return answer.stdout.strip() if answer.returncode == 0 else ""

    return {"sha": git("rev-parse", "HEAD"), "diff": git("diff", "HEAD", "--", ".")[:100_000]}
