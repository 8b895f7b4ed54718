"""Description of a weight file, for the person who brought it."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import torch

from occse.networks.backbones import build_backbone
from occse.networks.names import BackboneName
from occse.weights.files import digest, file_format, known_file
from occse.weights.load import BACKBONE, HEAD, HEADS, Fit, Shape, match, shapes
from occse.weights.read import read_weights

AFFINITY_HEAD = set(HEADS.values()) - {"head.weight"}
TORCHVISION = ("resnet50", "resnet101", "vgg16", "convnext_tiny")
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True, kw_only=True)
class Description:
    """Description of a weight file.

    Attributes:
        kind: its format; empty if unknown.
        known: name of the published file that it is; empty if unknown.
        damage: the fault that keeps it from being read; empty if there is none.
        tensors: shape by name.
        head: the head that stands beside the backbone, as text.
        fits: agreement with each backbone, the best first; the head is left out.
    """

    path: Path
    kind: str
    num_bytes: int
    md5: str
    sha256: str
    known: str
    damage: str
    tensors: Mapping[str, Shape]
    head: str
    fits: Mapping[str, Fit]

    def lines(self) -> Iterator[str]:
        """Yield the description as text."""
        yield f"{self.path}"
        yield f"  format   {self.kind or 'unknown'}, {self.num_bytes:,} bytes"
        yield f"  sha256   {self.sha256}"
        yield f"  md5      {self.md5}"
        yield f"  known    {self.known or 'not among the published files that are known here'}"
        if self.damage:
            yield f"  damaged  {self.damage}"
            return
        yield "  intact   it can be read to its end, and no checksum is wrong"
        parameters = sum(
            math.prod(shape)
            for name, shape in self.tensors.items()
            if not name.endswith(STATISTICS)
        )
        yield f"  holds    {len(self.tensors)} tensors, {parameters:,} parameters, {self.head}"
        yield from self._fits()

    def _fits(self) -> Iterator[str]:
        complete = [name for name, found in self.fits.items() if found.fills(BACKBONE)]
        for name in complete:
            yield f"  fits     {name}: all {len(self.fits[name].names)} tensors that it needs"
            yield from (f"           {line}" for line in self.fits[name].differences())
        if not complete:
            nearest, found = next(iter(self.fits.items()))
            yield f"  fits     none of {', '.join(self.fits)}"
            yield f"  nearest  {nearest}: {len(found.names)} tensors agree"
            yield from (f"           {line}" for line in found.differences())


def describe(path: Path) -> Description:
    """Say what the file is, if it is intact, and to which backbones it fits.

    Damage is part of the description, not an error.

    Raises:
        OSError: there is no file, or it cannot be read.
    """
    kind = ""
    damage = ""
    tensors: dict[str, Shape] = {}
    try:
        kind = file_format(path)
        tensors = shapes(read_weights(path))
    except ValueError as error:
        damage = str(error)
    body = {
        name: shape for name, shape in tensors.items() if not HEADS.get(name, name).startswith(HEAD)
    }
    fits = {} if damage else {name: match(wanted, body) for name, wanted in _backbones()}
    # False comes before True: backbones that are filled, then those with the most agreements.
    ranked = sorted(
        fits.items(), key=lambda item: (not item[1].fills(BACKBONE), -len(item[1].names))
    )
    return Description(
        path=path,
        kind=kind,
        num_bytes=path.stat().st_size,
        md5=digest(path, "md5"),
        sha256=digest(path),
        known=known_file(path),
        damage=damage,
        tensors=tensors,
        head=_head(
            {HEADS.get(name, name): shape for name, shape in tensors.items() if name not in body}
        ),
        fits=dict(ranked),
    )


def _head(found: Mapping[str, Shape]) -> str:
    if set(found) == {"head.weight"}:
        return f"the head of a classifier of {found['head.weight'][0]} classes"
    if set(found) == AFFINITY_HEAD:
        return "the head of an AffinityNet"
    if found and all(name.startswith(("head.levels.", "head.score.")) for name in found):
        return "the head of a class boundary network"
    return "another head" if found else "no head of ours"


def _backbones() -> Iterator[tuple[str, dict[str, Shape]]]:
    """Yield the shapes that each backbone wants: ours, then the others of torchvision."""
    # Imported here: it takes a second that other commands need not wait for.
    from torchvision.models import get_model

    ours = get_args(BackboneName)
    # On the device "meta" a network has shapes and no values: it takes next to no memory and time.
    with torch.device("meta"):
        networks = {name: build_backbone(name) for name in ours}
        networks |= {
            f"torchvision's {name}": get_model(name) for name in TORCHVISION if name not in ours
        }
    for name, network in networks.items():
        yield name, shapes(network.state_dict(), prefix=BACKBONE)
