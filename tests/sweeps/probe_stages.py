"""A stage that tells when it ran, reports a curve, and sleeps or fails on demand."""

import hashlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from occse.pipeline import STAGES, Node, Pipeline
from occse.stage import Context, Stage, fingerprint
from sweeps.spec.trials import Trial

STEP_S = 0.1
# The test that would make the file may have failed, and the next ones should run all the same.
LONGEST_WAIT_S = 400.0
CURVE = ({"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0})


def wait_for(path: Path) -> None:
    """Wait until somebody has made a file, for `LONGEST_WAIT_S` at most."""
    deadline = time.monotonic() + LONGEST_WAIT_S
    while not path.exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"nobody made {path.name} within {LONGEST_WAIT_S:.0f} s")
        time.sleep(STEP_S)


class Probe(Stage):
    label: str
    upstream: tuple[str, ...] = ()
    num_steps: int = 0
    fails: bool = False
    loses_process: bool = False

    def needs(self) -> tuple[str, ...]:
        return self.upstream

    def run(self, ctx: Context) -> dict[str, float]:
        name_gpus()
        store = ctx.scratch.parent.parent
        checkpoint = ctx.scratch / "step"
        first = int(checkpoint.read_text() or 0) if checkpoint.exists() else 0
        with (store / "executions.txt").open("a") as log:
            finished = (
                ctx.output.parent / ctx.scratch.name.split(".")[0] / "manifest.json"
            ).exists()
            log.write(f"{self.label} {first}{' finished' if finished else ''}\n")
        if self.fails:
            raise ValueError(f"{self.label} was told to fail")
        if self.loses_process and len(executions(store)) == 1:
            raise ChildProcessError("a process of the first attempt died")
        for point in CURVE:
            ctx.caller.report(point)
        for step in range(first, self.num_steps):
            time.sleep(STEP_S)
            # whole whenever the process is killed
            aside = checkpoint.with_suffix(".tmp")
            aside.write_text(str(step + 1))
            aside.replace(checkpoint)
        (ctx.output / "curves.json").write_text(json.dumps(CURVE))
        return {"miou": 0.5}


class Link(Probe):
    """A probe whose metric is a digest of its label and of every artifact upstream; it may wait for
    a file.
    """

    waits: str = ""

    def run(self, ctx: Context) -> dict[str, float]:
        # at once: what is damaged while a stage runs is not noticed by it
        digest = hashlib.sha256(self.label.encode())
        for field in sorted(ctx.inputs):
            for data in undamaged(ctx.inputs[field]):
                digest.update(data)
        super().run(ctx)
        if self.waits:
            wait_for(ctx.scratch.parent.parent / self.waits)
        (ctx.output / "digest.txt").write_text(digest.hexdigest())
        return {"miou": int(digest.hexdigest()[:8], 16) / 16**8}


class Scored(Probe):
    """A probe that scores what it is told to."""

    score: float = 0.5

    def run(self, ctx: Context) -> dict[str, float]:
        return super().run(ctx) | {"miou": self.score}


class Hungry(Probe):
    """A training that finds room on the GPU only where its batch comes in parts."""

    shares_batches: ClassVar[bool] = True
    parts: int = 2

    def run(self, ctx: Context) -> dict[str, float]:
        metrics = super().run(ctx)
        if ctx.machine.accumulate < self.parts:
            import torch

            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return metrics


class Greedy(Probe):
    """A probe that takes host memory until it has so many megabytes, 400 at a time."""

    megabytes: int = 12_000

    def run(self, ctx: Context) -> dict[str, float]:
        metrics = super().run(ctx)
        held = []
        for _ in range(self.megabytes // 400):
            held.append(os.urandom(1) * (400 << 20))
            time.sleep(STEP_S)
        return metrics


class Bulky(Probe):
    """A probe whose artifact has eight megabytes."""

    def run(self, ctx: Context) -> dict[str, float]:
        metrics = super().run(ctx)
        (ctx.output / "bulk").write_bytes(bytes(8 << 20))
        return metrics


STAGES |= {stage.__name__: stage for stage in (Probe, Link, Scored, Hungry, Greedy, Bulky)}


def name_gpus() -> None:
    """Give the GPUs of the tests' nodes, which are only counted, the name that manifests ask for.

    A stage calls it: the driver of a sweep of probes imports no torch, as that of real stages.
    """
    import torch

    if not torch.cuda.is_available():
        torch.cuda.get_device_name = lambda device=None: "none"


def undamaged(artifact: Path) -> Iterator[bytes]:
    """Yield the content of every file of an artifact.

    Raises:
        OSError: a file went or changed since the platform looked at it, an instant ago. Most real
            stages would fail, too; a probe that went on would give another number.
    """
    for name, (_, sha256) in sorted(json.loads((artifact / "files.json").read_bytes()).items()):
        data = (artifact / name).read_bytes()
        if hashlib.sha256(data).hexdigest() != sha256:
            raise OSError(f"{artifact / name} changed while it was read")
        yield data


def executions(store: Path) -> list[str]:
    """Label and first step of every attempt so far."""
    log = store / "executions.txt"
    return log.read_text().splitlines() if log.exists() else []


def make_trial(order: int, **probes: Probe) -> Trial:
    """A trial of probes by field, upstream first."""
    nodes: dict[str, Node] = {}
    for field, stage in probes.items():
        inputs = {need: nodes[need].fingerprint for need in stage.needs()}
        nodes[field] = Node(
            field=field, stage=stage, inputs=inputs, fingerprint=fingerprint(stage, inputs)
        )
    variant = f"variant {order}"
    return Trial(
        variant=variant,
        order=order,
        baseline=not order,
        seed=0,
        knobs={},
        pipeline=Pipeline(),
        nodes=nodes,
    )
