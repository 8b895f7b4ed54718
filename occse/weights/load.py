"""Copy the tensors of a weight file into a network, by name and shape.

A file that does not fit is refused with both sides of every difference.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from occse.networks.backbones import build_backbone
from occse.weights.read import read_weights

# What the official code calls the layers that stand beside the backbone in our networks.
HEADS = {
    "fc8.weight": "head.weight",
    "f8_3.weight": "head.f8_3.weight",
    "f8_4.weight": "head.f8_4.weight",
    "f8_5.weight": "head.f8_5.weight",
    "f9.weight": "head.f9.weight",
}
BACKBONE = "backbone."
HEAD = "head."
# A counter that old PyTorch did not write and that our networks never read.
OPTIONAL = ".num_batches_tracked"
# The layers for ImageNet's classes in torchvision's networks; ours may keep a part of them, or
# nothing.
IMAGENET_HEADS = ("fc.", "classifier.")
# A file of another network differs in hundreds of names; the first ones tell which network it is.
MAX_LISTED = 20

Shape = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Agreement between the tensors of a file and those of a network.

    Attributes:
        names: name in the file by name in the network, where the shapes agree.
        reshaped: name in the file, its shape there and its shape in the network, by name in the
            network, where the shapes differ.
        missing: shape of the tensors that only the network has, by name.
        left_over: shape of the tensors that only the file has, by name.
        deeper: those of `left_over` in a part of the backbone that the network has too: the file is
            of a larger network.
    """

    names: Mapping[str, str]
    reshaped: Mapping[str, tuple[str, Shape, Shape]]
    missing: Mapping[str, Shape]
    left_over: Mapping[str, Shape]
    deeper: tuple[str, ...]

    def fills(self, part: str) -> bool:
        """Tell if the file has every tensor of the network below `part` in its shape.

        A file of a deeper backbone fills none.
        """
        if part == BACKBONE and self.deeper:
            return False
        return not any(name.startswith(part) for name in (*self.reshaped, *self.missing))

    def differences(self) -> Iterator[str]:
        """Yield one line for each kind of difference, with both sides."""
        differences = {
            "missing in the file": [f"{name} {shape}" for name, shape in self.missing.items()],
            "left over in the file": [f"{name} {shape}" for name, shape in self.left_over.items()],
            "of another shape": [
                f"{name} {in_file} instead of {in_network}"
                for name, in_file, in_network in self.reshaped.values()
            ],
        }
        for title, tensors in differences.items():
            if tensors:
                num_unlisted = len(tensors) - MAX_LISTED
                more = f" and {num_unlisted} more" if num_unlisted > 0 else ""
                yield f"{title} ({len(tensors)}): {', '.join(tensors[:MAX_LISTED])}{more}"


def match(wanted: Mapping[str, Shape], offered: Mapping[str, Shape]) -> Fit:
    """Compare the shapes that a network wants with those that a file offers.

    The file may name the tensors of the backbone as we do, or as if the backbone (or the one module
    in it) stood alone; those of the head as we do or as the official code does.
    `num_batches_tracked` may be missing.
    """
    root = _root(wanted)
    renamings = [
        {HEADS.get(name, prefix + name): name for name in offered}
        for prefix in dict.fromkeys(("", BACKBONE, root))
    ]
    ours = max(
        renamings,
        key=lambda names: sum(wanted.get(name) == offered[own] for name, own in names.items()),
    )
    common = {name: own for name, own in ours.items() if name in wanted}
    left_over = {name: own for name, own in ours.items() if name not in common}
    parts = {name.removeprefix(root).split(".")[0] for name in wanted if name.startswith(root)}
    return Fit(
        names={name: own for name, own in common.items() if offered[own] == wanted[name]},
        reshaped={
            name: (own, offered[own], wanted[name])
            for name, own in common.items()
            if offered[own] != wanted[name]
        },
        missing={
            name: shape
            for name, shape in wanted.items()
            if name not in common and not name.endswith(OPTIONAL)
        },
        left_over={own: offered[own] for own in left_over.values()},
        deeper=tuple(
            own
            for name, own in left_over.items()
            if name.startswith(root) and name.removeprefix(root).split(".")[0] in parts
            if not name.endswith(OPTIONAL) and not own.startswith(IMAGENET_HEADS)
        ),
    )


def _root(wanted: Mapping[str, Shape]) -> str:
    """Return the common start of the names of the backbone's parts.

    It is `backbone.`, followed by the name of the one module where there is only one.
    """
    modules = {name.split(".")[1] for name in wanted if name.startswith(BACKBONE)}
    return f"{BACKBONE}{modules.pop()}." if len(modules) == 1 else BACKBONE


def shapes(tensors: Mapping[str, Tensor], *, prefix: str = "") -> dict[str, Shape]:
    """Return the shape of each tensor, by its name behind `prefix`."""
    return {prefix + name: tuple(tensor.shape) for name, tensor in tensors.items()}


def check_fit(path: Path, backbone: str) -> None:
    """Compare the weights in `path` with a backbone, without building it in memory.

    Raises:
        ValueError: the file is damaged or does not fill the backbone; both sides are listed.
    """
    weights = read_weights(path)
    with torch.device("meta"):
        network = build_backbone(backbone)
    found = match(shapes(network.state_dict(), prefix=BACKBONE), shapes(weights))
    if not found.fills(BACKBONE):
        raise ValueError(
            f"{path} does not fill the backbone {backbone}: {'; '.join(found.differences())}"
        )


def load_into(model: nn.Module, path: Path, *, whole: bool) -> None:
    """Copy the weights in `path` into the backbone of `model`, and into the head if the file has
    all of it.

    Args:
        model: a backbone and a head, as all our networks are; its other weights stay as they are.
        path: a file that `read_weights` reads.
        whole: refuse a file without the head.

    Raises:
        ValueError: the file is damaged or does not fill the network; both sides are listed.
    """
    weights = read_weights(path)
    found = match(shapes(model.state_dict()), shapes(weights))
    parts = [part for part in (BACKBONE, HEAD) if found.fills(part)]
    required = (BACKBONE, HEAD) if whole else (BACKBONE,)
    for part in required:
        if part not in parts:
            raise ValueError(
                f"{path} does not fill the {part.rstrip('.')} of {type(model).__name__}: "
                f"{'; '.join(found.differences())}"
            )
    chosen = {
        name: weights[own] for name, own in found.names.items() if name.startswith(tuple(parts))
    }
    # Not strict, because a part may be left out on purpose; names and shapes were compared above.
    model.load_state_dict(chosen, strict=False)
