"""Weights in safetensors files that carry their architecture: a reader never restates an upstream
choice.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

Model = TypeVar("Model", bound=nn.Module)


def save_weights(model: nn.Module, path: Path, *, architecture: Mapping[str, Any]) -> None:
    """Write the weights of `model` and the arguments that build it."""
    tensors = {
        name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()
    }
    save_file(tensors, path, metadata={"architecture": json.dumps(architecture)})


def load_weights(path: Path, build: Callable[..., Model], *, device: str) -> Model:
    """Build the model that the file describes and fill it, in evaluation mode on `device`.

    Raises:
        ValueError: the file is missing or damaged, or does not describe a model that `build` makes.
    """
    try:
        with safe_open(path, framework="pt") as file:
            architecture = json.loads(file.metadata()["architecture"])
            model = build(**architecture)
            model.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, TypeError, RuntimeError) as error:
        raise ValueError(
            f"{path} holds no weights of {getattr(build, '__name__', build)}: {error}"
        ) from None
    return place(model, device).eval()


def place(model: Model, device: str) -> Model:
    """The model on `device`, in the memory layout that convolutions are fastest in."""
    return model.to(device).to(memory_format=torch.channels_last)
