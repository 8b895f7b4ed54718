"""The one training loop. Every random number is a function of seed and step, so a resumed run is
the same run.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.utils.data import DataLoader, Dataset

from occse.networks.checkpoint import place
from occse.networks.precision import Precision
from occse.training.optimizer import Optimization, build_optimizer, set_lr, set_training
from occse.training.parallel import Spread, any_process, gather, rank, wait_for_all

CHECKPOINT = "checkpoint.pt"


@runtime_checkable
class Samples(Protocol):
    """Training data: a random view of each image, and what the network should make of it."""

    def __len__(self) -> int: ...

    def sample(self, index: int, generator: Generator) -> tuple[Tensor, ...]:
        """A view of image `index`, then its targets; all randomness comes from `generator`."""
        ...


@dataclass(frozen=True, kw_only=True)
class Step:
    """Where the training stands: the step, its epoch, the randomness of this step, and the way
    through a network.
    """

    number: int
    epoch: int
    generator: Generator
    spread: Spread


Loss = Callable[[tuple[Tensor, ...], Step], dict[str, Tensor]]


class Stopped(Exception):  # noqa: N818 - nothing went wrong
    """The training was asked to stop and left a checkpoint: the next run goes on from there."""


def train(
    model: nn.Module,
    samples: Samples,
    loss: Loss,
    *,
    optimization: Optimization,
    epochs: int,
    batch_size: int,
    seed: int,
    scratch: Path,
    device: str = "cpu",
    workers: int = 0,
    accumulate: int = 1,
    precision: Precision = "float32",
    report: Callable[[Mapping[str, float]], None] = lambda record: None,
    checkpoint_every_s: float = 10.0,
    stopping: Callable[[], bool] = lambda: False,
) -> list[dict[str, float]]:
    """Train `model` and return one record of means per epoch.

    `loss` maps a batch to named parts; the one called "loss" is minimized. It sends the images
    through the model by `step.spread`: in a batch that processes share, the images are those of
    this process, but the targets and what comes out of `step.spread` are the whole batch's.
    Parameters below `backbone.` move at `lr`, all others are the head.

    A checkpoint in `scratch` holds model, optimizer, step and records; a run that finds one goes on
    from it and ends with the same weights, bit for bit on the CPU. `report` gets each record when
    its epoch ends; a resumed run repeats those since its checkpoint.

    Raises:
        Stopped: `stopping`, which is asked after every step, said so; the checkpoint holds that
        step. ValueError: fewer images than one batch. FloatingPointError: a loss is not finite; the
        message has the step and the parts, the weights were not touched.
    """
    per_epoch = len(samples) // batch_size
    if per_epoch == 0:
        raise ValueError(f"{len(samples)} training images do not fill one batch of {batch_size}")
    place(model, device)
    optimizer = build_optimizer(model, optimization)
    run = _Run(model, optimizer, scratch / CHECKPOINT, checkpoint_every_s, report)
    total = epochs * per_epoch
    set_training(model, optimization)
    spread = Spread(model, batch_size=batch_size, parts=accumulate, precision=precision)
    batches = _Batches(len(samples), batch_size, spread.rows, first=run.step, last=total, seed=seed)
    loader: DataLoader[tuple[Tensor, ...]] = DataLoader(
        _Views(samples, seed),
        batch_sampler=batches,
        num_workers=workers,
        pin_memory=device != "cpu",
    )
    for batch in loader:
        step = Step(
            number=run.step,
            epoch=run.step // per_epoch,
            generator=seeded(seed, 1, run.step),
            spread=spread,
        )
        # dropout draws from the global generator
        torch.manual_seed(_mix(seed, 2, run.step, rank()))
        set_lr(optimizer, (1 - run.step / total) ** optimization.poly_power)
        images, *targets = (_to(each, device) for each in batch)
        parts = loss((images, *map(gather, targets)), step)
        _update(optimizer, parts, step=run.step)
        run.advance({name: value.item() for name, value in parts.items()}, per_epoch)
        if run.step < total and any_process(stopping(), device=device):
            run.write()
            wait_for_all()  # the first to leave ends them all
            raise Stopped(
                f"stopped on request after step {run.step} of {total}; it goes on from there"
            )
    model.eval()
    return run.records


class _Run:
    """The state that a checkpoint holds, and when to write it: the first process does, all read it."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        path: Path,
        every_s: float,
        report: Callable[[Mapping[str, float]], None],
    ) -> None:
        self.model, self.optimizer, self.path, self.every_s, self.report = (
            model,
            optimizer,
            path,
            every_s,
            report,
        )
        self.step = 0
        self.sums: dict[str, float] = {}
        self.records: list[dict[str, float]] = []
        if path.exists():
            self._restore()
        self.written = time.monotonic()

    def _restore(self) -> None:
        state = torch.load(self.path, map_location="cpu", weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.sums, self.records = state["step"], state["sums"], state["records"]

    def advance(self, parts: dict[str, float], per_epoch: int) -> None:
        self.step += 1
        for name, value in parts.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        if self.step % per_epoch == 0:
            means = {name: value / per_epoch for name, value in self.sums.items()}
            self.records.append({"step": float(self.step // per_epoch), **means})
            self.sums = {}
            self.report(self.records[-1])
        if time.monotonic() - self.written >= self.every_s:
            self.write()

    def write(self) -> None:
        if rank():
            return
        start = time.monotonic()
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "sums": self.sums,
            "records": self.records,
        }
        aside = self.path.with_suffix(".tmp")
        torch.save(state, aside)
        aside.replace(self.path)
        self.written = time.monotonic()
        # A large model takes long to write: never spend more than a twentieth of the time on it.
        self.every_s = max(self.every_s, 20 * (self.written - start))


class _Batches:
    """The keys (step, place in the batch, image) of the `rows` of every batch, in the order that
    the seed gives.
    """

    def __init__(
        self, images: int, batch_size: int, rows: slice, *, first: int, last: int, seed: int
    ) -> None:
        self.images, self.batch_size, self.rows = images, batch_size, rows
        self.first, self.last, self.seed = first, last, seed

    def __len__(self) -> int:
        return self.last - self.first

    def __iter__(self) -> Iterator[list[tuple[int, int, int]]]:
        per_epoch = self.images // self.batch_size
        order: list[int] = []
        for step in range(self.first, self.last):
            epoch, place = divmod(step, per_epoch)
            if not order or place == 0:
                order = torch.randperm(self.images, generator=seeded(self.seed, 0, epoch)).tolist()
            chosen = order[place * self.batch_size : (place + 1) * self.batch_size]
            yield [(step, position, image) for position, image in enumerate(chosen)][self.rows]


class _Views(Dataset[tuple[Tensor, ...]]):
    """`Samples` as the loader asks for them."""

    def __init__(self, samples: Samples, seed: int) -> None:
        self.samples, self.seed = samples, seed

    def __getitem__(self, key: tuple[int, int, int]) -> tuple[Tensor, ...]:
        step, position, image = key
        return self.samples.sample(image, seeded(self.seed, 3, step, position))


def seeded(*numbers: int) -> Generator:
    """A CPU generator whose stream is a function of `numbers`."""
    return Generator().manual_seed(_mix(*numbers))


def _mix(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _to(tensor: Tensor, device: str) -> Tensor:
    layout = torch.channels_last if tensor.dim() == 4 else torch.preserve_format
    return tensor.to(device=device, memory_format=layout, non_blocking=True)


def _update(optimizer: torch.optim.Optimizer, parts: dict[str, Tensor], *, step: int) -> None:
    if not all(math.isfinite(value.item()) for value in parts.values()):
        listed = ", ".join(f"{name} {value.item():g}" for name, value in parts.items())
        raise FloatingPointError(
            f"the loss is not finite at step {step}: {listed}; try a smaller learning rate"
        )
    optimizer.zero_grad(set_to_none=True)
    parts["loss"].backward()  # type: ignore[no-untyped-call]
    optimizer.step()
