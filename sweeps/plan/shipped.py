"""Rates that were measured on known machines, for stages of which a store has no run.

They stand in `measured.yaml`, with device, versions and date.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

from occse.pipeline import Node
from occse.stage import Resources


class Rate(BaseModel):
    """Images per second of a stage class on a device; a training sees each image once an epoch."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: str
    runs_on: Literal["GPU", "CPU"]
    device: str
    software: str
    date: str
    basis: Literal["measured", "derived"]
    note: str = ""
    images_per_second: float = Field(gt=0)
    #: CPUs that a rate of the CPU rests on; it grows with their number.
    cpus: int = Field(default=1, ge=1)
    #: Memory of the GPU that was taken, where it was measured.
    memory_gib: float | None = None
    #: Knobs that decide the rate. One with a dot is that of a stage upstream.
    knobs: Mapping[str, Any]
    #: Knobs of the measurement that change the rate less.
    other: Mapping[str, Any]

    def source(self) -> str:
        """Return where the rate comes from, as `plan` shows it."""
        notes = [f"a shipped figure, {self.basis}"]
        if self.note:
            notes[0] += f" ({self.note})"
        notes += [self.device, self.software, self.date]
        if self.memory_gib is not None:
            notes.append(f"{self.memory_gib:g} GiB of the GPU")
        return ", ".join(notes)


@dataclass(frozen=True)
class Match:
    """A rate that holds for a stage, and the knobs in which the measurement differs from it."""

    rate: Rate
    differs: tuple[str, ...]


@cache
def shipped_rates() -> tuple[Rate, ...]:
    """Return the rates of `measured.yaml`."""
    text = (files("sweeps") / "plan" / "measured.yaml").read_text()
    return tuple(Rate.model_validate(row) for row in yaml.safe_load(text))


def match(
    node: Node, nodes: Mapping[str, Node], rates: tuple[Rate, ...], *, granted: Resources
) -> Match | None:
    """Return the rate that comes closest to a stage, None where none holds.

    Args:
        node: the artifact to make.
        nodes: all artifacts of the plan, by fingerprint.
        rates: the known rates.
        granted: CPUs and GPUs of the stage.
    """
    on = "GPU" if granted.num_gpus else "CPU"
    found = []
    for rate in rates:
        if (rate.stage, rate.runs_on) != (node.kind, on):
            continue
        if all(_value(node, nodes, knob) == value for knob, value in rate.knobs.items()):
            other = rate.other.items()
            differs = [knob for knob, value in other if _value(node, nodes, knob) != value]
            found.append(Match(rate, tuple(differs)))
    return min(found, key=lambda each: len(each.differs), default=None)


def _value(node: Node, nodes: Mapping[str, Node], knob: str) -> object:
    """Return the value of a knob of the stage, or of one upstream, as JSON has it."""
    field, _, name = knob.rpartition(".")
    if field and field not in node.inputs:
        return None
    stage = nodes[node.inputs[field]].stage if field else node.stage
    return stage.model_dump(mode="json").get(name)
