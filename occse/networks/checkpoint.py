"""Weights in safetensors files that carry their architecture.

A stage that reads a network learns its architecture from the file, so no stage has to repeat the
choice of another.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from occse.data.reading import parse_json

# Class names stand beside the arguments that build the network.
CLASSES = "classes"
Model = TypeVar("Model", bound=nn.Module)


def save_weights(
    model: nn.Module, path: Path, *, architecture: Mapping[str, Any], classes: Sequence[str] = ()
) -> None:
    """Write the weights of `model` with all that another program needs to use them.

    Args:
        model: the network.
        path: the file to write.
        architecture: the arguments that build the network again.
        classes: names of the foreground classes, in the order of the outputs.

    Raises:
        OSError: the disk is full, or refuses the file for another reason.
    """
    tensors = {
        name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()
    }
    # One entry: safetensors writes several in an order that changes from file to file.
    description = json.dumps({**architecture, CLASSES: [*classes]})
    try:
        save_file(tensors, path, metadata={"architecture": description})
    except SafetensorError as error:
        # the library hides the system's error in a text of its own
        raise OSError(f"{path} cannot be written: {error}") from error


def read_metadata(path: Path) -> dict[str, Any]:
    """Return the architecture, and the `classes` under that key, of a file of `save_weights`.

    Files that were written before classes were kept have none.

    Raises:
        ValueError: the file is missing or damaged, or `save_weights` did not write it.
    """
    try:
        with safe_open(path, framework="pt") as file:
            architecture: dict[str, Any] = parse_json(file.metadata()["architecture"])
            return architecture | {CLASSES: tuple(architecture.get(CLASSES, ()))}
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not a network of a stage: {error}") from None


def load_weights(path: Path, build: Callable[..., Model], *, device: str) -> Model:
    """Build the model that the file describes and fill in its weights.

    The model is returned in evaluation mode, on `device`.

    Raises:
        ValueError: the file is missing or damaged, or describes no model that `build` can make.
    """
    try:
        with safe_open(path, framework="pt") as file:
            architecture = parse_json(file.metadata()["architecture"])
            architecture.pop(CLASSES, None)
            model = build(**architecture)
            names = file.keys()
            model.load_state_dict({name: file.get_tensor(name) for name in names})
    except (OSError, ValueError, SafetensorError, KeyError, TypeError, RuntimeError) as error:
        kind = getattr(build, "__name__", build)
        raise ValueError(f"{path} holds no weights of {kind}: {error}") from None
    return place(model, device).eval()


def place(model: Model, device: str) -> Model:
    """Move the model to `device`, into the memory layout in which convolutions are fastest."""
    return model.to(device).to(memory_format=torch.channels_last)
