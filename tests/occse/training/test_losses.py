"""Losses that are looked at one step later, as on a GPU: equal records, no bad checkpoint."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from processes import child_environment
from test_loop import Network, Noise, assert_same, optimization, run
from torch import Generator, Tensor
from torch.nn import functional

from occse.networks.classifier import Classifier, logits
from occse.training import loop
from occse.training.loop import CHECKPOINT, Recipe, Session, Step, train
from occse.training.losses import Losses, defers


@pytest.fixture
def deferred(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "defers", lambda device: True)


def folder(parent: Path, name: str) -> Path:
    (parent / name).mkdir()
    return parent / name


def test_only_the_cpu_s_losses_are_looked_at_at_once() -> None:
    assert not defers("cpu")
    assert defers("cuda")


def test_losses_come_out_in_their_order_one_step_late() -> None:
    losses = Losses(deferred=True)
    losses.push(0, {"loss": torch.tensor(1.0), "part": torch.tensor(0.1)})
    assert list(losses.take(keep=1)) == []
    losses.push(1, {"loss": torch.tensor(2.0)})
    ((step, values),) = losses.take(keep=1)
    assert (step, values) == (0, {"loss": 1.0, "part": torch.tensor(0.1).item()})
    assert list(losses.take(keep=0)) == [(1, {"loss": 2.0})]


@pytest.mark.parametrize("checkpoint_every_s", [0.0, 1e9])
def test_late_losses_change_neither_weights_nor_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checkpoint_every_s: float
) -> None:
    at_once, records = run(folder(tmp_path, "once"), checkpoint_every_s=checkpoint_every_s)
    monkeypatch.setattr(loop, "defers", lambda device: True)
    late, late_records = run(folder(tmp_path, "late"), checkpoint_every_s=checkpoint_every_s)
    assert_same(at_once, late)
    assert records == late_records


@pytest.mark.usefixtures("deferred")
@pytest.mark.parametrize("bad", [3, 7])
def test_a_bad_loss_is_told_with_its_step_and_no_checkpoint_holds_what_followed(
    tmp_path: Path, bad: int
) -> None:
    model = Network()

    def loss(batch: tuple[Tensor, ...], step: Step) -> dict[str, Tensor]:
        scores = model(batch[0])
        factor = float("nan") if step.number == bad else 1.0
        return {"loss": scores.square().mean() * factor, "part": torch.tensor(2.0)}

    with pytest.raises(FloatingPointError, match=rf"step {bad}: loss nan, part 2"):
        train(
            model,
            Noise(),
            loss,
            recipe=Recipe(optimization=optimization(), epochs=3, batch_size=6, seed=0),
            session=Session(scratch=tmp_path, checkpoint_every_s=0.0),
        )
    state = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    assert state["step"] <= bad
    assert all(value.isfinite().all() for value in state["model"].values())


class Labelled(Noise):
    def sample(self, index: int, generator: Generator) -> tuple[Tensor, Tensor]:
        labels = torch.zeros(4)
        labels[[index % 4, (index + 1) % 4]] = 1
        return torch.randn(3, 32, 32, generator=generator), labels


COMPILED = """
import functools, pathlib, sys, test_losses, torch
torch.set_num_threads(1)
# The traced graph runs as it is: generating C++ takes minutes, and is torch's to test.
traced = functools.partialmethod(torch.nn.Module.compile, backend="eager")
torch.nn.Module.compile = traced
folder = pathlib.Path(sys.argv[1])
plain = test_losses.trained(folder / "plain", compile_=False)
compiled = test_losses.trained(folder / "compiled", compile_=True)
torch.testing.assert_close(compiled, plain, rtol=0, atol=1e-3)
print("near")
"""


def trained(scratch: Path, *, compile_: bool) -> Tensor:
    """All weights of a short training of a classifier."""
    scratch.mkdir()
    torch.manual_seed(0)
    model = Classifier("tiny", 4)

    def loss(batch: tuple[Tensor, ...], step: Step) -> dict[str, Tensor]:
        images, labels = batch
        scores = logits(step.spread(model, images))
        return {"loss": functional.binary_cross_entropy_with_logits(scores, labels)}

    options = optimization(lr=1e-4)
    recipe = Recipe(optimization=options, epochs=1, batch_size=12, seed=0, compile=compile_)
    train(model, Labelled(), loss, recipe=recipe, session=Session(scratch=scratch))
    assert set(model.state_dict()) == set(Classifier("tiny", 4).state_dict())
    return torch.cat([value.flatten().double() for value in model.parameters()])


def test_a_compiled_training_ends_near_the_plain_one(tmp_path: Path) -> None:
    # In a process of its own: the type checks of the tests cannot be traced.
    answer = subprocess.run(
        [sys.executable, "-c", COMPILED, str(tmp_path)],
        cwd=Path(__file__).parent,
        env=child_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.stdout == "near\n", answer.stderr
