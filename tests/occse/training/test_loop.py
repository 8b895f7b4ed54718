"""The training loop: exact resume, data order, learning rates, and a loss that is not a number."""

import copy
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
import torch
from processes import child_environment
from torch import Generator, Tensor, nn
from torch.nn import functional
from waiting import PATIENCE_S, wait_until

from occse.networks.classifier import Classifier, logits
from occse.networks.names import BackboneName
from occse.training import loop
from occse.training.loop import CHECKPOINT, Recipe, Session, Step, Stopped, train
from occse.training.optimizer import Optimization, build_optimizer, set_lr


class Noise:
    """Views of an image that exist nowhere: all of a view comes from its generator."""

    def __len__(self) -> int:
        return 24

    def sample(self, index: int, generator: Generator) -> tuple[Tensor, Tensor]:
        return torch.randn(3, 8, 8, generator=generator) + index / 24, torch.tensor(index % 4)


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.5)
        )
        self.head = nn.Conv2d(8, 4, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.backbone(images)).mean((2, 3))


def optimization(**changes: object) -> Optimization:
    values = {
        "optimizer": "adamw",
        "lr": 0.01,
        "momentum": 0.0,
        "weight_decay": 1e-2,
        "poly_power": 0.9,
    }
    values |= {"bias_lr": 2.0, "head_lr": 10.0, "freeze_bn": False, "freeze_stem": False}
    return Optimization(**(values | changes))


def run(
    scratch: Path,
    *,
    seed: int = 7,
    pause_s: float = 0.0,
    hold_at: int | None = None,
    workers: int = 0,
    checkpoint_every_s: float = 0.0,
    stopping: Callable[[], bool] = lambda: False,
    report: Callable = print,
    **changes: object,
) -> tuple[Network, list]:
    torch.manual_seed(3)
    model = Network()

    def loss(batch: tuple[Tensor, ...], step: Step) -> dict[str, Tensor]:
        time.sleep(pause_s)
        if step.number == hold_at:
            (scratch / "holds").touch()
            time.sleep(PATIENCE_S)
        images, labels = batch
        draw = torch.rand((), generator=step.generator)
        return {
            "loss": functional.cross_entropy(model(images), labels) * (0.5 + draw),
            "draw": draw,
        }

    records = train(
        model,
        Noise(),
        loss,
        recipe=Recipe(optimization=optimization(**changes), epochs=4, batch_size=5, seed=seed),
        session=Session(
            scratch=scratch,
            workers=workers,
            checkpoint_every_s=checkpoint_every_s,
            stopping=stopping,
            report=report,
        ),
    )
    return model, records


def assert_same(first: nn.Module, second: nn.Module) -> None:
    for (name, ours), theirs in zip(
        first.state_dict().items(), second.state_dict().values(), strict=True
    ):
        assert torch.equal(ours, theirs), name


@pytest.mark.parametrize(
    ("optimizer", "freeze_bn"), [("adamw", False), ("sgd", False), ("adamw", True)]
)
def test_killed_run_goes_on_from_its_checkpoint_to_the_same_weights(
    tmp_path: Path, optimizer: str, freeze_bn: bool
) -> None:
    options = {"optimizer": optimizer, "momentum": 0.9, "freeze_bn": freeze_bn}
    whole, records = run(tmp_path_folder(tmp_path, "whole"), **options)
    scratch = tmp_path_folder(tmp_path, "killed")
    # Bit for bit holds for one number of threads: the child takes the one that conftest has set.
    code = "import pathlib, sys, torch, test_loop; "
    code += f"torch.set_num_threads({torch.get_num_threads()}); "
    code += f"test_loop.run(pathlib.Path(sys.argv[1]), pause_s=0.05, hold_at=12, **{options!r})"
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(scratch)],
        cwd=Path(__file__).parent,
        env=child_environment(),
    )
    checkpoint = scratch / CHECKPOINT
    wait_until((scratch / "holds").exists, what="step 12", process=child)
    child.kill()
    child.wait()
    reached = torch.load(checkpoint, weights_only=True)["step"]
    assert 1 <= reached <= 12, "the child was not killed between its first and its last step"
    resumed, resumed_records = run(scratch, **options)
    assert_same(whole, resumed)
    assert records == resumed_records


def test_stopped_run_leaves_the_step_that_it_reached_and_goes_on_to_the_same_weights(
    tmp_path: Path,
) -> None:
    whole, records = run(tmp_path_folder(tmp_path, "whole"))
    scratch = tmp_path_folder(tmp_path, "stopped")
    asked = iter([False] * 6 + [True])
    with pytest.raises(Stopped, match="after step 7 of 16"):
        run(scratch, stopping=lambda: next(asked), checkpoint_every_s=1e9)
    assert torch.load(scratch / CHECKPOINT, weights_only=True)["step"] == 7
    resumed, resumed_records = run(scratch, checkpoint_every_s=1e9)
    assert_same(whole, resumed)
    assert records == resumed_records


def test_every_epoch_is_reported_when_it_ends_and_not_again_after_its_checkpoint(
    tmp_path: Path,
) -> None:
    heard: list[dict[str, float]] = []
    _, records = run(tmp_path, report=lambda record: heard.append(dict(record)))
    assert heard == records
    assert [record["step"] for record in heard] == [1, 2, 3, 4]
    kept = torch.load(tmp_path / CHECKPOINT, weights_only=True)["records"]
    run(tmp_path, report=heard.append)
    assert kept + heard[4:] == records


def tmp_path_folder(parent: Path, name: str) -> Path:
    folder = parent / name
    folder.mkdir()
    return folder


def test_loader_processes_do_not_change_the_weights(tmp_path: Path) -> None:
    alone, _ = run(tmp_path_folder(tmp_path, "alone"))
    helped, _ = run(tmp_path_folder(tmp_path, "helped"), workers=2)
    assert_same(alone, helped)


def test_training_depends_on_its_seed_and_not_on_the_caller_s_random_state(tmp_path: Path) -> None:
    first, _ = run(tmp_path_folder(tmp_path, "first"), seed=7)
    torch.rand(100)
    again, _ = run(tmp_path_folder(tmp_path, "again"), seed=7)
    assert_same(first, again)
    other, _ = run(tmp_path_folder(tmp_path, "other"), seed=8)
    with pytest.raises(AssertionError, match="backbone"):
        assert_same(first, other)


def test_training_depends_on_its_learning_rate(tmp_path: Path) -> None:
    first, _ = run(tmp_path_folder(tmp_path, "first"), lr=0.01)
    other, _ = run(tmp_path_folder(tmp_path, "other"), lr=0.02)
    with pytest.raises(AssertionError, match="backbone"):
        assert_same(first, other)


def test_every_image_is_seen_once_per_epoch_but_for_the_dropped_rest(tmp_path: Path) -> None:
    seen: list[int] = []

    class Counting(Noise):
        def sample(self, index: int, generator: Generator) -> tuple[Tensor, Tensor]:
            seen.append(index)
            return super().sample(index, generator)

    model = Network()
    train(
        model,
        Counting(),
        lambda batch, _: {"loss": functional.cross_entropy(model(batch[0]), batch[1])},
        recipe=Recipe(optimization=optimization(), epochs=2, batch_size=5, seed=0),
        session=Session(scratch=tmp_path),
    )
    epochs = seen[:20], seen[20:]
    assert all(len(set(epoch)) == 20 for epoch in epochs)
    assert epochs[0] != epochs[1]


def test_groups_have_their_rates_and_biases_do_not_decay() -> None:
    optimizer = build_optimizer(Network(), optimization(lr=0.1, weight_decay=0.5))
    rates = {
        (round(group["lr"], 6), group["weight_decay"]): len(group["params"])
        for group in optimizer.param_groups
    }
    assert rates == {(0.1, 0.5): 2, (0.2, 0.0): 1, (1.0, 0.5): 1, (2.0, 0.0): 1}
    set_lr(optimizer, 0.25)
    assert sorted(round(group["lr"], 6) for group in optimizer.param_groups) == [
        0.025,
        0.05,
        0.25,
        0.5,
    ]


def test_frozen_batch_norm_keeps_weights_and_statistics(tmp_path: Path) -> None:
    torch.manual_seed(3)
    before = Network()
    after, _ = run(tmp_path, freeze_bn=True)
    assert_same(before.backbone[1], after.backbone[1])
    assert not torch.equal(before.backbone[0].weight, after.backbone[0].weight)


def test_frozen_stem_keeps_weights_and_statistics_and_is_in_no_group(tmp_path: Path) -> None:
    torch.manual_seed(3)
    model = Classifier("tiny", 4)
    before = copy.deepcopy(model)
    options = optimization(freeze_stem=True)

    def loss(batch: tuple[Tensor, ...], _: Step) -> dict[str, Tensor]:
        images, labels = batch
        return {"loss": functional.cross_entropy(logits(model(images)), labels)}

    train(
        model,
        Noise(),
        loss,
        recipe=Recipe(optimization=options, epochs=1, batch_size=8, seed=0),
        session=Session(scratch=tmp_path),
    )
    assert_same(before.backbone.stem, model.backbone.stem)
    moved = {
        name
        for name, value in model.state_dict().items()
        if not torch.equal(value, before.state_dict()[name])
    }
    assert moved == {name for name in model.state_dict() if not name.startswith("backbone.stem.")}
    stem = list(model.backbone.stem.parameters())
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in stem)
    groups = build_optimizer(model, options).param_groups
    assert {id(parameter) for parameter in stem}.isdisjoint(
        id(each) for group in groups for each in group["params"]
    )


@pytest.mark.parametrize("name", get_args(BackboneName))
def test_every_backbone_names_first_layers_that_can_be_frozen(name: str) -> None:
    with torch.device("meta"):
        model = Classifier(name, 4)
    build_optimizer(model, optimization(freeze_stem=True, freeze_bn=True))
    trained = [each for each, parameter in model.named_parameters() if parameter.requires_grad]
    stem = [
        parameter for module in model.backbone.stem_layers() for parameter in module.parameters()
    ]
    assert next(iter(model.backbone.parameters())) is stem[0], (
        "the stem starts with the first layer"
    )
    assert not any(parameter.requires_grad for parameter in stem)
    assert "head.weight" in trained
    assert len(trained) > 1, "the rest of the backbone is trained"


def test_non_finite_loss_stops_before_the_weights_move(tmp_path: Path) -> None:
    model = Network()
    before = {name: value.clone() for name, value in model.state_dict().items()}

    def loss(batch: tuple[Tensor, ...], _: Step) -> dict[str, Tensor]:
        return {"loss": model.head.weight.sum() * float("nan"), "part": torch.tensor(2.0)}

    with pytest.raises(FloatingPointError, match=r"step 0: loss nan, part 2"):
        train(
            model,
            Noise(),
            loss,
            recipe=Recipe(optimization=optimization(), epochs=1, batch_size=5, seed=0),
            session=Session(scratch=tmp_path),
        )
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_convolutions_are_tuned_for_their_size_during_a_training_only(tmp_path: Path) -> None:
    seen: list[bool] = []
    run(tmp_path, report=lambda record: seen.append(torch.backends.cudnn.benchmark))
    assert seen == [True] * 4
    assert not torch.backends.cudnn.benchmark


def test_fewer_images_than_a_batch_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match="expected at least one batch of 100 training images, got 24"
    ):
        train(
            Network(),
            Noise(),
            lambda *_: {},
            recipe=Recipe(optimization=optimization(), epochs=1, batch_size=100, seed=0),
            session=Session(scratch=tmp_path),
        )


def test_poly_extra_adds_steps_to_the_end_of_the_schedule(tmp_path: Path) -> None:
    """SEAM's rate is lr * (1 - step / (steps + 1)) ^ 0.9, so the last step moves by more."""
    plain, _ = run(tmp_path_folder(tmp_path, "plain"))
    extra, _ = run(tmp_path_folder(tmp_path, "extra"), poly_extra=1)
    with pytest.raises(AssertionError, match="backbone"):
        assert_same(plain, extra)
    rates: list[float] = []
    original = loop.set_lr

    def record(optimizer: torch.optim.Optimizer, factor: float) -> None:
        rates.append(factor)
        original(optimizer, factor)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "set_lr", record)
        run(tmp_path_folder(tmp_path, "recorded"), poly_extra=1)
    assert rates == pytest.approx([(1 - step / 17) ** 0.9 for step in range(16)])
