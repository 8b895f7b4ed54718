"""Processes that share a training: the end of one ends all, and the same call goes on."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from processes import child_environment
from test_loop import Network, Noise, optimization
from torch import Tensor
from torch.nn import functional
from waiting import wait_until

from occse.artifacts.execute import artifact_folder, execute
from occse.artifacts.processes import run_in_processes
from occse.pipeline import Node
from occse.stage import Caller, Context, Machine, Stage, fingerprint
from occse.training.loop import CHECKPOINT, Recipe, Session, Step, Stopped, train
from occse.training.parallel import rank

STEPS = 16
PAIR = Machine(processes=2)
DIES_AT = "DIES_AT"


class Paced(Stage):
    """A training with batch norm and dropout, whose second process dies at a step that the
    environment names.
    """

    shares_batches = True
    batch_size: int = 6
    pause_s: float = 0.05

    def run(self, ctx: Context) -> dict[str, float]:
        (ctx.scratch / f"pid{rank()}").write_text(str(os.getpid()))
        torch.manual_seed(0)
        model = Network()

        def loss(batch: tuple[Tensor, ...], step: Step) -> dict[str, Tensor]:
            time.sleep(self.pause_s)
            if rank() == 1 and step.number == int(os.environ.get(DIES_AT, -1)):
                os.kill(os.getpid(), signal.SIGKILL)
            images, labels = batch
            return {"loss": functional.cross_entropy(step.spread(model, images), labels)}

        records = train(
            model,
            Noise(),
            loss,
            recipe=Recipe(
                optimization=optimization(), epochs=4, batch_size=self.batch_size, seed=1
            ),
            session=Session(
                scratch=ctx.scratch,
                checkpoint_every_s=0.0,
                stopping=ctx.caller.stopping,
                report=ctx.caller.report,
            ),
        )
        torch.save(model.state_dict(), ctx.output / "model.pt")
        return {"loss": records[-1]["loss"]}


def node_of(stage: Stage) -> Node:
    return Node(field="oc", stage=stage, inputs={}, fingerprint=fingerprint(stage, {}))


def test_stopped_and_killed_processes_go_on_to_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, whole, often = node_of(Paced()), tmp_path / "whole", tmp_path / "often"
    expected: list[Mapping[str, float]] = []
    manifest = execute(node, root=whole, machine=PAIR, caller=Caller(report=expected.append))
    assert manifest.machine["processes"] == 2
    assert [record["step"] for record in expected] == [1, 2, 3, 4], "one process reports"

    seen: list[Mapping[str, float]] = []
    with pytest.raises(Stopped, match=f"of {STEPS}"):
        execute(
            node,
            root=often,
            machine=PAIR,
            caller=Caller(report=seen.append, stopping=lambda: bool(seen)),
        )
    checkpoint = often / "scratch" / node.fingerprint / CHECKPOINT
    stopped = torch.load(checkpoint, weights_only=True)["step"]
    assert 4 <= stopped < 13

    monkeypatch.setenv(DIES_AT, "13")
    with pytest.raises(ChildProcessError, match="process 2 of"):
        execute(node, root=often, machine=PAIR, caller=Caller(report=seen.append))
    assert stopped < torch.load(checkpoint, weights_only=True)["step"] <= 13, (
        "it went on from where it stopped"
    )
    assert all(ended(path) for path in checkpoint.parent.glob("pid*"))

    monkeypatch.delenv(DIES_AT)
    assert (
        execute(node, root=often, machine=PAIR, caller=Caller(report=seen.append)).metrics
        == manifest.metrics
    )
    assert {record["step"]: record for record in seen} == {
        record["step"]: record for record in expected
    }
    ours, theirs = (torch.load(artifact_folder(root, node) / "model.pt") for root in (often, whole))
    for name, weights in theirs.items():
        assert torch.equal(ours[name], weights), name


def test_processes_end_with_the_one_that_started_them(tmp_path: Path) -> None:
    code = "import pathlib, sys, test_processes as t; from occse.artifacts.execute import execute; "
    code += (
        "execute(t.node_of(t.Paced(pause_s=60)), root=pathlib.Path(sys.argv[1]), machine=t.PAIR)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=Path(__file__).parent,
        env=child_environment(),
    )

    def started() -> list[Path]:
        return [path for path in tmp_path.glob("scratch/*/pid*") if path.read_text()]

    wait_until(lambda: len(started()) == 2, what="two processes", process=parent)
    parent.kill()
    parent.wait()
    wait_until(lambda: all(ended(path) for path in started()), what="the end of both processes")


def ended(pid: Path) -> bool:
    """Tell if the process is gone, or dead and not yet buried."""
    try:
        return not Path("/proc", pid.read_text(), "cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_what_the_stage_raises_is_raised_with_the_place(tmp_path: Path) -> None:
    stage = Paced(batch_size=5)
    with pytest.raises(
        ValueError, match="a batch of 5 images does not divide among 2 processes"
    ) as caught:
        run_in_processes(stage, Context(output=tmp_path, scratch=tmp_path, machine=PAIR))
    (note,) = caught.value.__notes__
    assert "in process" in note
    assert "test_processes.py" in note


def test_more_processes_than_gpus_are_refused(tmp_path: Path) -> None:
    processes = torch.cuda.device_count() + 2
    with pytest.raises(ValueError, match=f"{processes} processes need {processes} GPUs"):
        run_in_processes(
            Paced(),
            Context(
                output=tmp_path,
                scratch=tmp_path,
                machine=Machine(device="cuda", processes=processes),
            ),
        )
