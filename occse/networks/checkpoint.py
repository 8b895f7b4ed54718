"""Weights in safetensors files that carry their architecture.

A stage that reads a network learns its architecture from the file, so no stage has to repeat the
choice of another.
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
    """Write the weights of `model`, and `architecture`: the arguments that build it again."""
    tensors = {
        name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()
    }
    save_file(tensors, path, metadata={"architecture": json.dumps(architecture)})


def load_weights(path: Path, build: Callable[..., Model], *, device: str) -> Model:
    """Build the model that the file describes and fill in its weights.

    The model is returned in evaluation mode, on `device`.

    Raises:
        ValueError: the file is missing or damaged, or describes no model that `build` can make.
    """
    try:
        with safe_open(path, framework="pt") as file:
            architecture = json.loads(file.metadata()["architecture"])
            model = build(**architecture)
            names = file.keys()
            model.load_state_dict({name: file.get_tensor(name) for name in names})
    except (OSError, SafetensorError, KeyError, TypeError, RuntimeError) as error:
        kind = getattr(build, "__name__", build)
        raise ValueError(f"{path} holds no weights of {kind}: {error}") from None
    return place(model, device).eval()


def place(model: Model, device: str) -> Model:
    """Move the model to `device`, into the memory layout in which convolutions are fastest."""
    return model.to(device).to(memory_format=torch.channels_last)
