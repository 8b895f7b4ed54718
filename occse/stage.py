"""Stage, Context and Resources: all that a stage file needs to know of the platform.

A stage is a frozen model. Its fields are every knob that can change its result; what cannot change
a number (paths, device, workers) is in the `Context`. `run` sees `self` and `ctx` and nothing else,
so the fields and the upstream fingerprints are the exact identity of the artifact."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

ScoredSplit = Literal["train", "val"]
"""Splits with masks: `train` scores what is made of the training images, `val` the final network."""
Split = Literal["train_aug", "train", "val"]


class Resources(BaseModel):
    """What a stage occupies while it runs; a machine without GPUs is asked for none."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_cpus: float = 1
    num_gpus: float = 0


@dataclass(frozen=True, kw_only=True)
class Context:
    """Where a stage finds its inputs and leaves its output, and the machine it may use. Nothing
    here changes a number.

    But for this: with `processes` or `accumulate` sums have another order and dropout draws anew,
    and with `accumulate` a batch norm that is trained normalizes over a part; so the manifest names
    both.

    Attributes:
        inputs: folder of each upstream artifact, by pipeline field. output: an empty folder that
        becomes the artifact when `run` returns. scratch: a folder that survives a crash; the
        retried stage finds its own checkpoint there. device: torch's name of the device, "cpu" or
        "cuda". workers: how many processes the stage may use beside its own (0: none). processes:
        among how many a training shares each batch, a GPU each; the batch as a whole stays the
        same. accumulate: in how many parts, one after the other, a training sends its batch through
        the network, so that only
            one part's activations are in memory.
        data_root: where the user's data set lies, for data that is read in place. weights: folder
        of the user's weight files; which of them is meant is a knob, by digest. stopping: whether
        the stage is asked to end at its next checkpoint; may be asked often. report: called with
        the means of every finished epoch, `{"step": epoch, name: value, ...}`, as they come.
    """

    inputs: Mapping[str, Path] = field(default_factory=dict)
    output: Path
    scratch: Path
    device: str = "cpu"
    workers: int = 0
    processes: int = 1
    accumulate: int = 1
    data_root: Path | None = None
    weights: Path | None = None
    stopping: Callable[[], bool] = lambda: False
    report: Callable[[Mapping[str, float]], None] = lambda record: None


class Stage(BaseModel):
    """One step of the method: its knobs are the fields, its code is `run`.

    `version` is raised by hand when a change of the code changes the result; it is part of the
    identity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    version: ClassVar[int] = 1
    shares_batches: ClassVar[bool] = False
    """True if `run` makes use of `Context.processes` and `Context.accumulate`."""

    # Facts that platform and analysis read. None of them changes a result, so none is a field.
    display_name: ClassVar[str] = ""
    """Name in tables and figures; empty: the pipeline field."""
    scored_split: ClassVar[ScoredSplit | None] = None
    """Split on whose masks `run` scores what it made (`miou` in the metrics); None: no score."""
    may_need: ClassVar[tuple[str, ...]] = ()
    """Pipeline fields that `needs` can name, whatever the knobs."""
    effort: ClassVar[frozenset[str]] = frozenset()
    """Knobs that decide how long `run` takes: a past run that differs in one says nothing."""
    effortless: ClassVar[frozenset[str]] = frozenset()
    """Knobs that change numbers, not the work: a past run that differs in them only is as good."""
    architecture: ClassVar[frozenset[str]] = frozenset()
    """Knobs that name the network in the artifact, and so the work of the stages that run it."""
    mapped_split: ClassVar[Split | None] = None
    """Split of whose images each has an array or a map in the artifact, which grows with it."""
    bytes_per_image: ClassVar[int] = 0
    """Bytes per image of 500 x 375 (`mapped_split`), measured by bench_artifact_size.py."""

    def needs(self) -> tuple[str, ...]:
        """Pipeline fields whose artifacts `run` reads."""
        return ()

    def inactive(self) -> frozenset[str]:
        """Fields that cannot change the result, given the values of the others; they leave the
        identity.
        """
        return frozenset()

    def resources(self) -> Resources:
        """What the stage asks of the cluster when nobody says otherwise."""
        return Resources()

    def run(self, ctx: Context) -> dict[str, float]:
        """Turn the upstream artifacts into this one, below `ctx.output`, and return its metrics."""
        raise NotImplementedError

    def config(self) -> dict[str, Any]:
        """The active fields as JSON values."""
        config: dict[str, Any] = self.model_dump(mode="json", exclude=set(self.inactive()))
        return config


def fingerprint(stage: Stage, inputs: Mapping[str, str]) -> str:
    """Identity of the artifact that `stage` makes from the artifacts with the fingerprints `inputs`
    (by field).
    """
    identity = {
        "class": type(stage).__name__,
        "version": stage.version,
        "config": stage.config(),
        "inputs": dict(inputs),
    }
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
