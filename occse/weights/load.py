"""How the tensors of a weight file reach a network: by name and shape, with both sides of every
difference said.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from occse.weights.read import read_weights

# What the official code calls the layers that stand beside the backbone in our networks.
HEADS = {
    "fc8.weight": "head.weight",
    "f8_3.weight": "head.f8_3.weight",
    "f8_4.weight": "head.f8_4.weight",
    "f8_5.weight": "head.f8_5.weight",
    "f9.weight": "head.f9.weight",
}
BACKBONE, HEAD = "backbone.", "head."
# A counter that old PyTorch did not write and that our networks never read.
OPTIONAL = ".num_batches_tracked"
# The layers for ImageNet's classes in torchvision's networks; ours may keep a part of them, or
# nothing.
IMAGENET_HEADS = ("fc.", "classifier.")
MAX_LISTED = 20

Shape = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Fit:
    """How the tensors of a file and of a network agree.

    Attributes:
        names: name in the network -> name in the file, where the shapes agree. reshaped: name in
        the network -> name in the file, its shape there, its shape in the network. missing: what
        only the network has, with its shape. left_over: what only the file has, with its shape.
        deeper: those of `left_over` in a part of the backbone that the network has too: the file is
        of a larger one.
    """

    names: Mapping[str, str]
    reshaped: Mapping[str, tuple[str, Shape, Shape]]
    missing: Mapping[str, Shape]
    left_over: Mapping[str, Shape]
    deeper: tuple[str, ...]

    def fills(self, part: str) -> bool:
        """Whether the file has every tensor of the network below `part` in its shape, and no more
        of the backbone's.
        """
        if part == BACKBONE and self.deeper:
            return False
        return not any(name.startswith(part) for name in (*self.reshaped, *self.missing))

    def differences(self) -> Iterator[str]:
        """One line for each kind of difference, both sides."""
        swapped = [
            f"{own} {file} instead of {network}" for own, file, network in self.reshaped.values()
        ]
        for title, listed in (
            ("missing in the file", [f"{name} {shape}" for name, shape in self.missing.items()]),
            (
                "left over in the file",
                [f"{name} {shape}" for name, shape in self.left_over.items()],
            ),
            ("of another shape", swapped),
        ):
            if listed:
                more = f" and {len(listed) - MAX_LISTED} more" if len(listed) > MAX_LISTED else ""
                yield f"{title} ({len(listed)}): {', '.join(listed[:MAX_LISTED])}{more}"


def match(wanted: Mapping[str, Shape], offered: Mapping[str, Shape]) -> Fit:
    """Compare the shapes that a network wants with those that a file offers.

    The file may name the tensors of the backbone as we do, or as if the backbone (or the one module
    in it) stood alone; those of the head as we do or as the official code does.
    `num_batches_tracked` may be missing."""
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
    """What the names of the backbone's parts begin with: `backbone.`, or also its one module."""
    modules = {name.split(".")[1] for name in wanted if name.startswith(BACKBONE)}
    return f"{BACKBONE}{modules.pop()}." if len(modules) == 1 else BACKBONE


def shapes(tensors: Mapping[str, Tensor], *, prefix: str = "") -> dict[str, Shape]:
    """Shape of each tensor, by its name behind `prefix`."""
    return {prefix + name: tuple(tensor.shape) for name, tensor in tensors.items()}


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
    if lacking := [
        part for part in ((BACKBONE, HEAD) if whole else (BACKBONE,)) if part not in parts
    ]:
        raise ValueError(
            f"{path} does not fill the {lacking[0].rstrip('.')} of {type(model).__name__}: "
            f"{'; '.join(found.differences())}"
        )
    chosen = {
        name: weights[own] for name, own in found.names.items() if name.startswith(tuple(parts))
    }
    model.load_state_dict(chosen, strict=False)
