"""Optimizer of a training: the weights that move, their rates and the rule."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from occse.networks.backbones import Backbone


@dataclass(frozen=True, kw_only=True)
class Optimization:
    """Rule by which the weights move.

    At each step the rates are multiplied by (1 - step / (steps + poly_extra)) ^ poly_power.
    `bias_lr` and `head_lr` multiply `lr`; biases do not decay. `freeze_bn` keeps weights and
    statistics of every batch norm, `freeze_stem` those of the backbone's first layers.
    """

    optimizer: str
    lr: float
    momentum: float
    weight_decay: float
    poly_power: float
    poly_extra: int = 0
    bias_lr: float
    head_lr: float
    freeze_bn: bool
    freeze_stem: bool


def set_training(model: nn.Module, options: Optimization) -> None:
    """Set the model to training mode, but for the frozen modules."""
    model.train()
    for module in _frozen(model, options):
        # `train` sets the whole model: without this, frozen batch norms would go on moving their
        # means.
        module.eval()


def _frozen(model: nn.Module, options: Optimization) -> Iterator[nn.Module]:
    for module in model.modules():
        if options.freeze_bn and isinstance(module, nn.BatchNorm2d):
            yield module
        if options.freeze_stem and isinstance(module, Backbone):
            yield from module.stem_layers()


def build_optimizer(model: nn.Module, options: Optimization) -> torch.optim.Optimizer:
    """Return an optimizer of up to four groups: weights and biases, of backbone and head.

    Frozen parameters take no gradients and are in no group.
    """
    for module in _frozen(model, options):
        module.requires_grad_(False)
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            is_head = not name.startswith("backbone.")
            groups.setdefault((is_head, name.endswith(".bias")), []).append(parameter)
    settings: list[dict[str, Any]] = []
    for (is_head, is_bias), parameters in groups.items():
        lr = options.lr * (options.head_lr if is_head else 1) * (options.bias_lr if is_bias else 1)
        # The groups of psa and OC-CSE: biases move at a rate of their own and do not decay.
        decay = 0.0 if is_bias else options.weight_decay
        settings.append({"params": parameters, "lr": lr, "initial_lr": lr, "weight_decay": decay})
    if options.optimizer == "adamw":
        return torch.optim.AdamW(settings, fused=True)
    return torch.optim.SGD(settings, momentum=options.momentum, fused=True)


def set_lr(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set every group's learning rate to `factor` times its first one."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor
