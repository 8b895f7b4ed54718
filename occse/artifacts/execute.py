"""Run one stage, write its artifact aside, rename once. Presence means completeness."""

import contextlib
import errno
import fcntl
import os
import platform
import shutil
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from occse.artifacts.checksums import intact, seal
from occse.artifacts.manifest import MANIFEST, Manifest, artifact_folder, load_manifest
from occse.artifacts.provenance import git_state, machine_state, package_versions
from occse.artifacts.secrets import masked_command
from occse.artifacts.source import source_of
from occse.pipeline import Node
from occse.stage import Caller, Context, Machine

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Code and command that a manifest names as the origin of its artifact.

    Attributes:
        git: commit and uncommitted difference of the code.
        command: the user's command line.
    """

    git: Mapping[str, str]
    command: str

    @classmethod
    def of_this_process(cls) -> "Origin":
        """Return the code and the command line of this process."""
        return cls(git=git_state(), command=masked_command(sys.argv))


class MissingInput(ValueError):  # noqa: N818 - no fault of the stage: its input is made again
    """The artifact of the input `field` is not in the store, or it was damaged and is set aside."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def find(root: Path, node: Node) -> Manifest | None:
    """Return the manifest of the artifact of `node`, or None where there is none.

    A damaged artifact is set aside, with a warning.

    Raises:
        ValueError: another version of this program wrote it, or it belongs to another
            configuration.
    """
    manifest = load_manifest(root, node)
    return manifest if intact(root, node.kind, node.fingerprint) else None


def execute(
    node: Node,
    *,
    root: Path,
    machine: Machine = Machine(),  # noqa: B008 - frozen
    caller: Caller = Caller(),  # noqa: B008 - frozen
    origin: Origin | None = None,
) -> Manifest:
    """Run the stage of `node` below `root` unless its artifact is there, and return the manifest.

    Two attempts may run at once (a node that was given up may still be alive): each writes into a
    folder of its own and the first to rename wins.

    Args:
        node: the artifact to make.
        root: the store's folder.
        machine: the part of this machine that the stage may use. Only a stage that trains makes use
            of `processes` and `accumulate`.
        caller: asked if the stage should stop, and told of its progress.
        origin: noted in the manifest; by default that of this process.

    Raises:
        MissingInput: an input is not in the store, or no longer.
        ValueError: the stage refuses its input; or an artifact in the store does not match.
        OSError: the store cannot be written.
        Stopped: `caller` asked for it, and the stage can go on from a checkpoint.
    """
    manifest = find(root, node)
    if manifest is not None:
        return manifest
    # Other stages have no batch to share: their processes would all do the same work.
    if not node.stage.shares_batches:
        machine = replace(machine, processes=1, accumulate=1)
    final = artifact_folder(root, node)
    with (
        _room(root),
        _scratch(root / "scratch" / node.fingerprint) as scratch,
        _aside(final, scratch) as output,
    ):
        inputs = {
            field: _input_folder(root, field, fingerprint)
            for field, fingerprint in node.inputs.items()
        }
        context = Context(
            inputs=inputs, output=output, scratch=scratch, machine=machine, caller=caller
        )
        start = time.monotonic()
        metrics = _run(node, context)
        manifest = _describe(
            node,
            context,
            metrics=metrics,
            seconds=time.monotonic() - start,
            origin=origin or Origin.of_this_process(),
        )
        (output / MANIFEST).write_text(manifest.model_dump_json(indent=1) + "\n")
        # The rename fails where another attempt published first; its artifact is as good.
        with contextlib.suppress(OSError):
            output.rename(final)
        shutil.rmtree(scratch, ignore_errors=True)
    # Whichever attempt was first: the caller must use the artifact that everybody else will read.
    published = load_manifest(root, node)
    if published is None:
        raise OSError(f"{final} could not be written; is the store full or read-only?")
    return published


def _run(node: Node, context: Context) -> dict[str, float]:
    if context.machine.processes == 1:
        return node.stage.run(context)
    # Imported here: it needs torch, and most of this module's readers do not.
    from occse.artifacts.processes import run_in_processes

    return run_in_processes(node.stage, context)


@contextlib.contextmanager
def _room(root: Path) -> Iterator[None]:
    """Say of a full or read-only store that it is one."""
    try:
        yield
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise OSError(
            f"the store {root} takes no more ({error.strerror}): make room and run the same "
            "command again; what is finished stays"
        ) from error


@contextlib.contextmanager
def _aside(final: Path, scratch: Path) -> Iterator[Path]:
    """Make a hidden folder beside `final` that is gone afterwards, unless it was renamed."""
    # With a private scratch folder another attempt is alive, and its output is no leftover.
    if not scratch.suffix:
        _remove_leftovers(final, scratch)
    output = final.with_name(f".{final.name}{scratch.suffix or _unique()}")
    # Beside the final folder, thus on the same file system: a rename across two would be a copy,
    # which a reader could see half done.
    output.mkdir(parents=True)
    try:
        yield output
    finally:
        shutil.rmtree(output, ignore_errors=True)


def _remove_leftovers(final: Path, scratch: Path) -> None:
    """Remove the folders that killed attempts left.

    The caller holds `scratch`, so only attempts with a private scratch folder may still be alive.
    """
    private_suffixes = {path.suffix for path in scratch.parent.glob(f"{final.name}.*")}
    output_suffixes = {path.suffix for path in final.parent.glob(f".{final.name}.*")}
    for suffix in private_suffixes | output_suffixes:
        private = scratch.with_name(f"{final.name}{suffix}")
        with contextlib.ExitStack() as stack:
            # A living attempt holds the lock of its private folder; its output must stay.
            if suffix not in private_suffixes or _hold(private, stack):
                shutil.rmtree(final.with_name(f".{final.name}{suffix}"), ignore_errors=True)
                shutil.rmtree(private, ignore_errors=True)


def _input_folder(root: Path, field: str, fingerprint: str) -> Path:
    # A stage knows its inputs by field and fingerprint; the class of the stage is found here.
    for manifest in root.glob(f"*/{fingerprint}/{MANIFEST}"):
        if intact(root, manifest.parent.parent.name, fingerprint):
            return manifest.parent
    raise MissingInput(field, f"the artifact {fingerprint} of {field!r} is not in the store {root}")


@contextlib.contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """Lock the stage's scratch folder, or take a private one while another attempt holds it.

    Two attempts that shared a checkpoint would damage it.
    """
    with contextlib.ExitStack() as stack:
        if not _hold(folder, stack):
            folder = folder.with_name(folder.name + _unique())
            _hold(folder, stack)
        yield folder


def _hold(folder: Path, stack: contextlib.ExitStack) -> bool:
    """Lock `folder` until `stack` ends or the process dies; make it where it is missing.

    Returns:
        False if another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder / ".lock", os.O_CREAT | os.O_RDWR)
    stack.callback(os.close, lock)
    try:
        # The kernel frees the lock of a killed process, so no lock file outlives its owner.
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
    origin: Origin,
) -> Manifest:
    machine = machine_state(context.machine.device)
    shares = {
        "processes": context.machine.processes,
        "accumulate": context.machine.accumulate,
    }
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
        git=dict(origin.git),
        packages=package_versions(),
        command=origin.command,
        source=source_of(type(node.stage)),
    )
