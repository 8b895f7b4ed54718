"""An artifact on disk: run one stage, write aside, rename once. Presence means completeness."""

import contextlib
import errno
import fcntl
import os
import platform
import shlex
import shutil
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from occse.artifacts.checksums import intact, seal
from occse.artifacts.manifest import MANIFEST, Manifest, artifact_folder, load_manifest
from occse.artifacts.processes import run_in_processes
from occse.artifacts.provenance import git_state, machine_state, package_versions
from occse.pipeline import Node
from occse.stage import Context

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


class MissingInput(ValueError):  # noqa: N818 - no fault of the stage: its input is made again
    """The artifact of the input `field` is not in the store, or it was damaged and is set aside."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def find(root: Path, node: Node) -> Manifest | None:
    """The manifest of the artifact of `node`, or None where there is none. A damaged one is set
    aside, with a warning.

    Raises:
        ValueError: another version of this program wrote it, or it belongs to another
        configuration.
    """
    found = load_manifest(root, node)
    return found if intact(root, node.kind, node.fingerprint) else None


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
    command: str | None = None,
    stopping: Callable[[], bool] = lambda: False,
    report: Callable[[Mapping[str, float]], None] = lambda record: None,
) -> Manifest:
    """Run the stage of `node` below `root` unless its artifact is there, and return the manifest.

    Only a stage that trains makes use of `processes` and `accumulate`. The manifest notes `git` and
    `command`, by default those of this process.

    Two attempts may run at once (a node that was given up may still be alive): each writes into a
    folder of its own and the first to rename wins.

    Raises:
        MissingInput: an input is not in the store, or no longer.
        ValueError: what the stage says of its input; or an artifact in the store does not match.
        OSError: the store cannot be written.
        Stopped: `stopping` said so, and the stage can go on from a checkpoint.
    """
    if (found := find(root, node)) is not None:
        return found
    final = artifact_folder(root, node)
    with (
        _room(root),
        _scratch(root / "scratch" / node.fingerprint) as scratch,
        _aside(final, scratch) as output,
    ):
        context = Context(
            inputs={
                field: _input_folder(root, field, fingerprint)
                for field, fingerprint in node.inputs.items()
            },
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
        metrics = run_in_processes(node.stage, context)
        manifest = _describe(
            node,
            context,
            metrics=metrics,
            seconds=time.monotonic() - start,
            git=git_state() if git is None else git,
            command=shlex.join(sys.argv) if command is None else command,
        )
        (output / MANIFEST).write_text(manifest.model_dump_json(indent=1) + "\n")
        # another attempt published first; its artifact is as good
        with contextlib.suppress(OSError):
            output.rename(final)
        shutil.rmtree(scratch, ignore_errors=True)
    published = load_manifest(root, node)
    if published is None:
        raise OSError(f"{final} could not be written; is the store full or read-only?")
    return published


@contextlib.contextmanager
def _room(root: Path) -> Iterator[None]:
    """Tell a full or read-only store as such."""
    try:
        yield
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise OSError(
            f"the store {root} takes no more ({error.strerror}): make room and run the same command again; "
            "what is finished stays"
        ) from error


@contextlib.contextmanager
def _aside(final: Path, scratch: Path) -> Iterator[Path]:
    """A hidden folder beside `final` that is gone afterwards, unless it was renamed."""
    if not scratch.suffix:
        _remove_leftovers(final, scratch)
    output = final.with_name(f".{final.name}{scratch.suffix or _unique()}")
    output.mkdir(parents=True)
    try:
        yield output
    finally:
        shutil.rmtree(output, ignore_errors=True)


def _remove_leftovers(final: Path, scratch: Path) -> None:
    """Remove what killed attempts left; the caller holds `scratch`, so that only those with a
    private one may live.
    """
    own = {path.suffix for path in scratch.parent.glob(f"{final.name}.*")}
    for suffix in own | {path.suffix for path in final.parent.glob(f".{final.name}.*")}:
        private = scratch.with_name(f"{final.name}{suffix}")
        with contextlib.ExitStack() as stack:
            if suffix not in own or _hold(private, stack):
                shutil.rmtree(final.with_name(f".{final.name}{suffix}"), ignore_errors=True)
                shutil.rmtree(private, ignore_errors=True)


def _input_folder(root: Path, field: str, fingerprint: str) -> Path:
    for manifest in root.glob(f"*/{fingerprint}/{MANIFEST}"):
        if intact(root, manifest.parent.parent.name, fingerprint):
            return manifest.parent
    raise MissingInput(field, f"the artifact {fingerprint} of {field!r} is not in the store {root}")


@contextlib.contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """Lock the stage's scratch folder, or take a private one while another attempt holds it."""
    with contextlib.ExitStack() as stack:
        if not _hold(folder, stack):
            folder = folder.with_name(folder.name + _unique())
            _hold(folder, stack)
        yield folder


def _hold(folder: Path, stack: contextlib.ExitStack) -> bool:
    """Lock `folder`, made where it is missing, until `stack` ends or the process dies; False if
    somebody else does.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder / ".lock", os.O_CREAT | os.O_RDWR)
    stack.callback(os.close, lock)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _unique() -> str:
    return f".{uuid.uuid4().hex[:8]}"


def _describe(
    node: Node,
    context: Context,
    *,
    metrics: Mapping[str, float],
    seconds: float,
    git: Mapping[str, str],
    command: str,
) -> Manifest:
    machine = machine_state(context.device)
    shares = {"processes": context.processes, "accumulate": context.accumulate}
    return Manifest(
        stage=node.kind,
        version=node.stage.version,
        fingerprint=node.fingerprint,
        config=node.stage.config(),
        inputs=dict(node.inputs),
        metrics=dict(metrics),
        seconds=seconds,
        bytes=sum(path.stat().st_size for path in context.output.rglob("*") if path.is_file()),
        files=seal(context.output),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        host=platform.node(),
        device=str(machine.get("gpu") or machine["cpu"]),
        machine=machine | {name: number for name, number in shares.items() if number > 1},
        git=dict(git),
        packages=package_versions(),
        command=command,
    )
