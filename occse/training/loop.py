"""The one training loop.

Every random number is a function of seed and step, so a resumed run is the same run.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.utils.data import DataLoader, Dataset

from occse.networks.checkpoint import place
from occse.networks.names import Precision
from occse.networks.precision import tuned_convolutions
from occse.training.divergence import (
    Diverged,
    check_loss,
    check_outputs,
    check_weights,
    largest_weight,
)
from occse.training.losses import Losses, defers
from occse.training.optimizer import Optimization, build_optimizer, set_lr, set_training
from occse.training.parallel import Spread, any_process, gather, rank, ranks, wait_for_all

CHECKPOINT = "checkpoint.pt"
# Writing a large model takes long, so at most a twentieth of the time goes into checkpoints.
CHECKPOINT_SHARE = 20

# Streams of random numbers, told apart by the number behind the seed.
# The order of the images.
ORDER_STREAM = 0
# The draws of the loss, such as the class to erase.
STEP_STREAM = 1
# Dropout, which draws from torch's global generator.
DROPOUT_STREAM = 2
# The random view of each image.
VIEW_STREAM = 3


@runtime_checkable
class Samples(Protocol):
    """Training data: a random view of each image, and its targets."""

    def __len__(self) -> int: ...

    def sample(self, index: int, generator: Generator) -> tuple[Tensor, ...]:
        """Return a view of image `index`, then its targets.

        All randomness comes from `generator`.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Step:
    """Position in the training.

    Attributes:
        number: number of the step, from 0.
        epoch: its epoch, from 0.
        generator: source of all that the loss draws in this step.
        on_host: the targets of the whole batch on the CPU, so that a loss which decides by them
            need not wait for the device.
        spread: the way of a batch through a network.
    """

    number: int
    epoch: int
    generator: Generator
    on_host: tuple[Tensor, ...]
    spread: Spread


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides the weights beside the model, the samples and the loss.

    Attributes:
        optimization: how the weights move.
        epochs: passes over the images.
        batch_size: images of a step, over all processes.
        seed: the source of all random numbers.
        precision: the precision that the network computes in.
        compile: compile the network.
    """

    optimization: Optimization
    epochs: int
    batch_size: int
    seed: int
    precision: Precision = "float32"
    compile: bool = False


@dataclass(frozen=True, kw_only=True)
class Session:
    """Folder, device and callbacks of a training; none of them changes the weights.

    Attributes:
        scratch: folder of the checkpoint.
        device: torch's name of the device.
        workers: number of processes that load images; 0 for none.
        accumulate: number of parts in which a batch goes through the network.
        stopping: called after every step; once it returns true, the training writes a checkpoint
            and ends.
        report: called with the record of each epoch when it ends; a resumed run repeats the epochs
            after its checkpoint.
        checkpoint_every_s: seconds between checkpoints, more for a model that is slow to write.
    """

    scratch: Path
    device: str = "cpu"
    workers: int = 0
    accumulate: int = 1
    stopping: Callable[[], bool] = lambda: False
    report: Callable[[Mapping[str, float]], None] = lambda record: None
    checkpoint_every_s: float = 10.0


Loss = Callable[[tuple[Tensor, ...], Step], dict[str, Tensor]]


class Stopped(Exception):  # noqa: N818 - nothing went wrong
    """The training was asked to stop; the next run goes on from its checkpoint."""


@tuned_convolutions()
def train(
    model: nn.Module, samples: Samples, loss: Loss, *, recipe: Recipe, session: Session
) -> list[dict[str, float]]:
    """Train `model` and return one record of means per epoch.

    `loss` maps a batch to named parts; the one called "loss" is minimized. It sends the images
    through the model by `step.spread`: in a batch that processes share, the images are those of
    this process, but the targets and the outputs of `step.spread` are the whole batch's.
    Parameters below `backbone.` move at `lr`, all others are the head.

    A checkpoint in `session.scratch` holds model, optimizer, step and records; a run that finds one
    goes on from it and ends with the same weights, bit for bit on the CPU.

    Raises:
        Stopped: `session.stopping` returned true; the checkpoint holds the last step.
        ValueError: there are fewer images than one batch.
        FloatingPointError: a loss is not finite; the message has the step and the parts. On the CPU
            the weights were not touched; on a GPU they may have moved once more, and no checkpoint
            holds them.
        Diverged: the loss, the weights or the outputs show that the training diverged; the
            checkpoint is removed.
    """
    steps_per_epoch = len(samples) // recipe.batch_size
    if steps_per_epoch == 0:
        raise ValueError(
            f"expected at least one batch of {recipe.batch_size} training images, "
            f"got {len(samples)}; lower batch_size"
        )
    # Before the optimizer is made: it must hold the parameters where they are trained.
    place(model, session.device)
    if recipe.compile:
        model.compile()
    optimizer = build_optimizer(model, recipe.optimization)
    progress = _Progress(model, optimizer, session)
    num_steps = recipe.epochs * steps_per_epoch
    set_training(model, recipe.optimization)
    spread = Spread(
        model,
        batch_size=recipe.batch_size,
        parts=session.accumulate,
        precision=recipe.precision,
    )
    batches = _Batches(len(samples), recipe, spread.rows, first=progress.step, last=num_steps)
    for batch in _loader(samples, batches, recipe=recipe, session=session):
        # Only images are divided among processes; the loss looks at the targets of the whole batch.
        images, *targets = (_to(tensor, session.device) for tensor in batch)
        targets = [gather(target) for target in targets]
        step = Step(
            number=progress.step,
            epoch=progress.step // steps_per_epoch,
            generator=seeded(recipe.seed, STEP_STREAM, progress.step),
            # The loader's own tensors are there at once; those of other processes are not.
            on_host=tuple(batch[1:] if ranks() == 1 else (each.cpu() for each in targets)),
            spread=spread,
        )
        # Anew in each step, so that a resumed run drops what an uninterrupted one drops; by rank,
        # so that processes do not drop the same units in different images.
        torch.manual_seed(_mix(recipe.seed, DROPOUT_STREAM, progress.step, rank()))
        # Poly decay, lr * (1 - step / steps)^power, as in DeepLab and in psa's optimizer.
        remaining = 1 - progress.step / (num_steps + recipe.optimization.poly_extra)
        set_lr(optimizer, remaining**recipe.optimization.poly_power)
        parts = loss((images, *targets), step)
        # On the CPU the values are there at once, so a loss that is not finite never moves the
        # weights.
        progress.add_loss(parts)
        optimizer.zero_grad(set_to_none=True)
        parts["loss"].backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        progress.advance(steps_per_epoch)
        # All processes must leave at one step: one that went on would wait for the others'
        # gradients.
        if progress.step < num_steps and any_process(session.stopping(), device=session.device):
            progress.write()
            # The first process to leave ends all of them, so none leaves before the checkpoint.
            wait_for_all()
            raise Stopped(
                f"stopped on request after step {progress.step} of {num_steps}; "
                "the next run goes on from its checkpoint"
            )
    progress.check_end(spread.outputs)
    model.eval()
    return progress.records


def _loader(
    samples: Samples, batches: "_Batches", *, recipe: Recipe, session: Session
) -> DataLoader[tuple[Tensor, ...]]:
    return DataLoader(
        _Views(samples, recipe.seed),
        batch_sampler=batches,
        num_workers=session.workers,
        # Only from pinned memory can a copy to a GPU run beside the GPU's work (`non_blocking`
        # below).
        pin_memory=session.device != "cpu",
    )


class _Progress:
    """State that a checkpoint holds. The first process writes it, all processes read it."""

    def __init__(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, session: Session
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.losses = Losses(deferred=defers(session.device))
        self.path = session.scratch / CHECKPOINT
        self.every_s = session.checkpoint_every_s
        self.report = session.report
        self.step = 0
        self.sums: dict[str, float] = {}
        self.records: list[dict[str, float]] = []
        self.first_loss = math.nan
        self.largest_at_start = largest_weight(model)
        if self.path.exists():
            self._restore()
        self.written = time.monotonic()

    def _restore(self) -> None:
        # On the CPU first: loaded on the GPU, the state would be there twice, and may not fit.
        state = torch.load(self.path, map_location="cpu", weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]
        self.sums = state["sums"]
        self.records = state["records"]
        self.first_loss = state["first_loss"]
        self.largest_at_start = state["largest_at_start"]

    def add_loss(self, parts: dict[str, Tensor]) -> None:
        """Take the parts of this step's loss, before the weights move.

        Raises:
            FloatingPointError: a part is not finite, of this step or, on a GPU, of the one before.
        """
        self.losses.push(self.step, parts)
        self._add(self.losses.take(keep=1))

    def _add(self, steps: Iterable[tuple[int, dict[str, float]]]) -> None:
        for step, values in steps:
            # Not the mean of the first epoch: where the training diverges within it, that is huge.
            if step == 0:
                self.first_loss = values["loss"]
            for name, value in values.items():
                self.sums[name] = self.sums.get(name, 0.0) + value

    def advance(self, steps_per_epoch: int) -> None:
        """Count the step; end the epoch and write the checkpoint where they are due."""
        self.step += 1
        if self.step % steps_per_epoch == 0:
            self._add(self.losses.take(keep=0))
            # Once an epoch: it waits for the device, so it is too slow for every step.
            self._check(check_weights, self.model, largest_at_start=self.largest_at_start)
            means = {name: value / steps_per_epoch for name, value in self.sums.items()}
            self.records.append({"step": float(self.step // steps_per_epoch), **means})
            self.sums = {}
            self.report(self.records[-1])
        if time.monotonic() - self.written >= self.every_s:
            self.write()

    def check_end(self, outputs: Tensor | None) -> None:
        """Check the loss and the outputs of the finished training.

        Raises:
            Diverged: they show that the training diverged.
        """
        self._check(check_loss, first=self.first_loss, last=self.records[-1]["loss"])
        if outputs is not None:
            self._check(check_outputs, outputs)

    def _check(self, check: Callable[..., None], *things: object, **named: object) -> None:
        try:
            check(*things, **named)
        except Diverged:
            # No later attempt may go on from a network that diverged.
            if rank() == 0:
                self.path.unlink(missing_ok=True)
            raise

    def write(self) -> None:
        """Write the checkpoint, unless a loss before it was not finite."""
        self._add(self.losses.take(keep=0))
        # All processes hold the same weights, and two that write one file would damage it.
        if rank():
            return
        start = time.monotonic()
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "sums": self.sums,
            "records": self.records,
            "first_loss": self.first_loss,
            "largest_at_start": self.largest_at_start,
        }
        # A crash while writing must not damage the last checkpoint: write aside, then rename.
        aside = self.path.with_suffix(".tmp")
        try:
            torch.save(state, aside)
        except RuntimeError as error:
            # torch hides the system's error, such as a full disk, in a text of its own
            raise OSError(f"{aside} cannot be written: {error}") from error
        aside.replace(self.path)
        self.written = time.monotonic()
        self.every_s = max(self.every_s, CHECKPOINT_SHARE * (self.written - start))


class _Batches:
    """Keys (step, position in the batch, image) of the `rows` of every batch.

    Their order is a function of the seed.
    """

    def __init__(
        self, num_images: int, recipe: Recipe, rows: slice, *, first: int, last: int
    ) -> None:
        self.num_images = num_images
        self.recipe = recipe
        self.rows = rows
        self.first = first
        self.last = last

    def __len__(self) -> int:
        return self.last - self.first

    def __iter__(self) -> Iterator[list[tuple[int, int, int]]]:
        size = self.recipe.batch_size
        steps_per_epoch = self.num_images // size
        order: list[int] = []
        for step in range(self.first, self.last):
            epoch, index = divmod(step, steps_per_epoch)
            # A resumed run may begin within an epoch.
            if not order or index == 0:
                generator = seeded(self.recipe.seed, ORDER_STREAM, epoch)
                order = torch.randperm(self.num_images, generator=generator).tolist()
            images = order[index * size : (index + 1) * size]
            yield [(step, position, image) for position, image in enumerate(images)][self.rows]


class _Views(Dataset[tuple[Tensor, ...]]):
    """`Samples` as the loader asks for them."""

    def __init__(self, samples: Samples, seed: int) -> None:
        self.samples = samples
        self.seed = seed

    def __getitem__(self, key: tuple[int, int, int]) -> tuple[Tensor, ...]:
        step, position, image = key
        return self.samples.sample(image, seeded(self.seed, VIEW_STREAM, step, position))


def seeded(*numbers: int) -> Generator:
    """Return a CPU generator whose stream is a function of `numbers`."""
    return Generator().manual_seed(_mix(*numbers))


def _mix(*numbers: int) -> int:
    # torch takes signed seeds, so the highest bit is dropped.
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _to(tensor: Tensor, device: str) -> Tensor:
    # Images have four dimensions, and convolutions are fastest with channels last.
    layout = torch.channels_last if tensor.dim() == 4 else torch.preserve_format
    return tensor.to(device=device, memory_format=layout, non_blocking=True)
