"""Batches that several processes share, or that go through a network part by part.

The losses of the method look at the batch as a whole: at its largest activation, at the number of
its valid pixels or pairs. So no loss is ever split. Each process sends its own images through the
network, and the outputs are brought together: every process computes the same loss of the whole
batch, and the gradient of each output goes back to its origin. One process and one part is the
ordinary case and costs nothing.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.autograd.function import once_differentiable
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from occse.networks.names import Precision
from occse.networks.precision import autocast


def rank() -> int:
    """Return the number of this process among those that share the batch; 0 for a single one."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def ranks() -> int:
    """Return the number of processes that share each batch."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


class Spread:
    """Way of a batch of `batch_size` images through a network.

    Each process takes its share of the images, in `parts` parts.

    Args:
        model: the network that is trained, in training mode; its gradients become those of the
            whole batch, and its batch norms, where they are trained, normalize over the images of
            all processes.
        parts: with several, activations are computed again for the gradient, so that only one
            part's are in memory. Batch norm then normalizes over a part: the one thing that differs
            from the whole batch by more than the order of sums, beside dropout, which draws anew
            for every process and part.

    Attributes:
        outputs: the last outputs of `model`, without their gradient; None before the first ones.

    Raises:
        ValueError: the batch does not divide among the processes.
    """

    def __init__(
        self, model: nn.Module, *, batch_size: int, parts: int, precision: Precision
    ) -> None:
        if batch_size % ranks():
            raise ValueError(
                f"a batch of {batch_size} images does not divide among {ranks()} processes"
            )
        share = batch_size // ranks()
        self.rows = slice(rank() * share, (rank() + 1) * share)
        self.parts = parts
        self.precision = precision
        self.model = model
        self.outputs: Tensor | None = None
        self._trained: nn.Module = _Share(model, parts, precision)
        if ranks() > 1:
            _normalize_over_all_processes(model)
            # Buckets that are views of the gradients save a copy of all of them, 0.4 GB for
            # ResNet38.
            self._trained = DistributedDataParallel(self._trained, gradient_as_bucket_view=True)

    def __call__(self, network: nn.Module, images: Tensor) -> Tensor:
        """Return the outputs of `network` for the whole batch, from this process's `images`.

        They are float32 whatever the precision; float64 where the weights are.
        """
        if network is self.model:
            # By way of the wrapper: it hooks the backward pass, in which it averages the gradients.
            outputs = gather(self._trained(images))
            self.outputs = outputs.detach()
            return outputs
        return gather(_Share(network, self.parts, self.precision)(images))

    def own(self, batch: Tensor) -> Tensor:
        """Return this process's rows of a tensor of the whole batch."""
        return batch[self.rows]


class _Share(nn.Module):
    """A network over the images of this process, part by part."""

    def __init__(self, network: nn.Module, parts: int, precision: Precision) -> None:
        super().__init__()
        self.network = network
        self.parts = parts
        self.precision = precision

    def forward(self, images: Tensor) -> Tensor:
        images = images.to(next(self.network.parameters()).dtype)
        with autocast(images.device, self.precision):
            if self.parts == 1:
                outputs: Tensor = self.network(images)
            else:
                outputs = torch.cat([self._part(part) for part in images.chunk(self.parts)])
        return _at_least_float32(outputs)

    def _part(self, images: Tensor) -> Tensor:
        def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
            # One context for the first forward pass, one for the pass that is repeated for the
            # gradient.
            return nullcontext(), _keeping_statistics(self.network)

        output: Tensor = checkpoint(self.network, images, use_reentrant=False, context_fn=contexts)
        return output


def _at_least_float32(values: Tensor) -> Tensor:
    # Sums over a batch lose too much in bfloat16. Float64 stays, so that trainings which differ by
    # the order of their sums only can be compared.
    return values.to(torch.promote_types(values.dtype, torch.float32))


@contextmanager
def _keeping_statistics(network: nn.Module) -> Iterator[None]:
    """Keep the statistics of batch norm while activations are computed for the second time.

    The first time has moved them already.
    """
    moving = [
        (module, module.momentum, module.num_batches_tracked)
        for module in _batch_norms(network)
        if module.training
    ]
    for module, _, _ in moving:
        # A momentum of 0 moves nothing; the counter would be increased even so, thus it is taken
        # away.
        module.momentum = 0.0
        module.num_batches_tracked = None
    try:
        yield
    finally:
        for module, momentum, count in moving:
            module.momentum = momentum
            module.num_batches_tracked = count


def gather(own: Tensor) -> Tensor:
    """Return the rows of all processes, in their order."""
    if ranks() == 1:
        return own
    rows: Tensor = _Gather.apply(own)
    return rows


class _Gather(torch.autograd.Function):
    """Rows of all processes, whose gradient is the sum over the losses of all processes.

    All those losses are one and the same, so the sum is `ranks()` times the gradient of one of
    them. DistributedDataParallel then takes the mean over the processes, which makes it right.
    """

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:  # noqa: ANN401
        ctx.rows = slice(rank() * len(own), (rank() + 1) * len(own))
        whole = own.new_empty(ranks() * len(own), *own.shape[1:])
        # The chunks are views of `whole`, so it is filled in place.
        distributed.all_gather(list(whole.chunk(ranks())), own.contiguous())
        return whole

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # noqa: ANN401
        total = grad.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total[ctx.rows]


class _SharedBatchNorm(nn.BatchNorm2d):
    """Batch norm over the images of all processes, which have equally many.

    torch's SyncBatchNorm does the same on GPUs only, and could not be compared with a single
    process on the CPU.
    """

    def forward(self, images: Tensor) -> Tensor:
        if not self.training:
            return super().forward(images)
        values = _at_least_float32(images)
        variances, means = (
            gather(own[None]) for own in torch.var_mean(values, (0, 2, 3), correction=0)
        )
        mean = means.mean(0)
        # Law of total variance, for shares of one size: mean of the variances plus variance of the
        # means. E[x^2] - E[x]^2 would lose its digits where the mean is large.
        variance = variances.mean(0) + (means - mean).square().mean(0)
        self._move(
            mean.detach(), variance.detach(), count=ranks() * images.numel() // images.shape[1]
        )
        scale = self.weight * torch.rsqrt(variance + self.eps)
        shift = self.bias - mean * scale
        return (values * scale.view(-1, 1, 1) + shift.view(-1, 1, 1)).to(images.dtype)

    def _move(self, mean: Tensor, variance: Tensor, *, count: int) -> None:
        assert self.momentum is not None
        assert self.running_mean is not None
        assert self.running_var is not None
        self.running_mean.lerp_(mean, self.momentum)
        # Normalization takes the biased variance, the running statistics the unbiased one, as in
        # torch.
        self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked += 1


def _normalize_over_all_processes(model: nn.Module) -> None:
    for module in _batch_norms(model):
        if module.training:
            # The optimizer holds the weights already, so they stay in place and the class changes.
            module.__class__ = _SharedBatchNorm


def _batch_norms(network: nn.Module) -> Iterator[nn.BatchNorm2d]:
    return (module for module in network.modules() if isinstance(module, nn.BatchNorm2d))


def any_process(flag: bool, *, device: str) -> bool:
    """Return true in all processes if `flag` is true in one of them."""
    if ranks() == 1:
        return flag
    votes = torch.tensor(float(flag), device=device)
    distributed.all_reduce(votes)
    return votes.item() > 0


def wait_for_all() -> None:
    """Return when all processes have come here."""
    if ranks() > 1:
        distributed.barrier()
