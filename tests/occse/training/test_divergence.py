"""A training that diverged is an error, and leaves no checkpoint to go on from."""

from pathlib import Path

import pytest
import torch
from test_loop import Network, Noise, optimization
from torch import Tensor, nn
from torch.nn import functional

from occse.training.divergence import (
    Diverged,
    check_loss,
    check_outputs,
    check_weights,
    largest_weight,
)
from occse.training.loop import CHECKPOINT, Recipe, Session, Step, train


def run(scratch: Path, model: nn.Module, *, factor: float = 1.0, **changes: object) -> None:
    def loss(batch: tuple[Tensor, ...], step: Step) -> dict[str, Tensor]:
        images, labels = batch
        return {"loss": factor * functional.cross_entropy(step.spread(model, images), labels)}

    train(
        model,
        Noise(),
        loss,
        recipe=Recipe(optimization=optimization(**changes), epochs=3, batch_size=6, seed=0),
        session=Session(scratch=scratch, checkpoint_every_s=0.0),
    )


def test_a_rate_that_is_far_too_high_is_named_with_the_knobs(tmp_path: Path) -> None:
    torch.manual_seed(0)
    changes = {"optimizer": "sgd", "lr": 1e5, "weight_decay": 0.0}
    with pytest.raises(Diverged, match=r"diverged: .* try a smaller lr, head_lr or bias_lr"):
        run(tmp_path, Network(), **changes)
    assert not (tmp_path / CHECKPOINT).exists()


def test_a_sound_training_passes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    run(tmp_path, Network())
    assert (tmp_path / CHECKPOINT).exists()


class Dead(Network):
    """A network whose last layer sees nothing: its answer is the bias."""

    def forward(self, images: Tensor) -> Tensor:
        return self.head(0 * self.backbone(images)).mean((2, 3))


def test_a_network_that_answers_everything_alike_is_an_error(tmp_path: Path) -> None:
    torch.manual_seed(0)
    with pytest.raises(Diverged, match="the same answer"):
        run(tmp_path, Dead())


@pytest.mark.parametrize(
    ("first", "last", "diverged"),
    [
        (0.7, 0.1, False),
        (0.01, 0.9, False),
        (0.7, 9.9, False),
        (0.7, 10.1, True),
        (3.0, 29.0, False),
        (3.0, 31.0, True),
        (0.7, 4.9e19, True),
    ],
)
def test_loss_far_above_its_start(first: float, last: float, diverged: bool) -> None:
    if diverged:
        with pytest.raises(Diverged, match="the loss was"):
            check_loss(first=first, last=last)
    else:
        check_loss(first=first, last=last)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e17])
def test_weights_that_explode_are_named(value: float) -> None:
    model = Network()
    start = largest_weight(model)
    check_weights(model, largest_at_start=start)
    with torch.no_grad():
        model.head.weight[0, 0] = value
    with pytest.raises(Diverged, match=r"weights of head\.weight reach"):
        check_weights(model, largest_at_start=start)


def test_frozen_weights_may_be_of_any_size() -> None:
    model = Network()
    with torch.no_grad():
        model.backbone[1].weight.fill_(1e9)
    model.backbone[1].requires_grad_(False)
    check_weights(model, largest_at_start=1.0)


@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 5, 5), (4, 5, 5), (1, 3, 5, 5)])
def test_outputs_are_compared_over_images_and_pixels(shape: tuple[int, ...]) -> None:
    varied = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    check_outputs(varied)
    channels = torch.arange(3.0).view(1, 3, *(1,) * (len(shape) - 2))
    constant = torch.zeros(shape) + (channels if len(shape) != 3 else 1.0)
    with pytest.raises(Diverged, match="the same answer"):
        check_outputs(constant)


def test_one_image_without_pixels_says_nothing() -> None:
    check_outputs(torch.ones(1, 3))
