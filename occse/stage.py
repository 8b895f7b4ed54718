"""Stage, Context and Resources: the platform as a stage's file sees it.

A stage is a frozen model. Its fields are every knob that can change its result; what cannot change
a number (paths, device, workers) is in the `Context`. `run` sees `self` and `ctx` and nothing else,
so the fields and the upstream fingerprints are the exact identity of the artifact.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

ScoredSplit = Literal["train", "val"]
"""Splits with masks: `train` scores maps of the training images, `val` the final network."""
Split = Literal["train_aug", "train", "val"]

# Names of files in an artifact, which the stages after it read.
MODEL = "model.safetensors"
CURVES = "curves.json"
COUNTS = "counts.npz"
LABELS = "labels"

# 64 bits: two of a billion artifacts share a fingerprint with a probability below 3 %.
FINGERPRINT_DIGITS = 16


class Resources(BaseModel):
    """CPUs and GPUs that a running stage occupies; a machine without GPUs is asked for none."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_cpus: float = 1
    num_gpus: float = 0


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Part of a machine that a stage may use, and the user's folders on it.

    Nothing here changes a number, with one exception: with `processes` or `accumulate` sums have
    another order and dropout draws anew, and with `accumulate` a batch norm that is trained
    normalizes over a part. The manifest therefore names both.

    Attributes:
        device: torch's name of the device, "cpu" or "cuda".
        workers: number of processes that the stage may use beside its own; 0 for none.
        processes: number of processes, a GPU each, that share each batch of a training; the batch
            as a whole stays the same.
        accumulate: number of parts, one after the other, in which a training sends its batch
            through the network, so that only one part's activations are in memory.
        data_root: folder of the user's data set, for data that are read in place.
        weights: folder of the user's weight files. A knob says by digest which of them is meant.
    """

    device: str = "cpu"
    workers: int = 0
    processes: int = 1
    accumulate: int = 1
    data_root: Path | None = None
    weights: Path | None = None

    @property
    def threads(self) -> int:
        """Number of threads that read images ahead of a network: one for each worker."""
        return max(1, self.workers)


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Callbacks from a running stage to the program that started it.

    Attributes:
        stopping: returns true once the stage should end at its next checkpoint; may be called
            often.
        report: called with the means of every finished epoch, `{"step": epoch, name: value, ...}`.
    """

    stopping: Callable[[], bool] = lambda: False
    report: Callable[[Mapping[str, float]], None] = lambda record: None


@dataclass(frozen=True, kw_only=True)
class Context:
    """Folders, machine and caller of one run of a stage.

    Attributes:
        inputs: folder of each upstream artifact, by pipeline field.
        output: an empty folder that becomes the artifact when `run` returns.
        scratch: a folder that is kept after a crash, with the checkpoint of the stage.
        machine: the part of the machine that the stage may use.
        caller: the program that started the stage.
    """

    inputs: Mapping[str, Path] = field(default_factory=dict)
    output: Path
    scratch: Path
    machine: Machine = Machine()
    caller: Caller = Caller()


class Stage(BaseModel):
    """One step of the method: its knobs are the fields, its code is `run`.

    `version` is raised by hand when a change of the code changes the result; it is part of the
    identity.
    """

    # No infinity and no NaN: JSON, which the identity is a hash of, has neither.
    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )
    version: ClassVar[int] = 1
    shares_batches: ClassVar[bool] = False
    """True if `run` makes use of `Machine.processes` and `Machine.accumulate`."""

    # Facts that platform and analysis read. None of them changes a result, so none is a field.
    display_name: ClassVar[str] = ""
    """Name in tables and figures; empty: the pipeline field."""
    scored_split: ClassVar[ScoredSplit | None] = None
    """Split on whose masks `run` scores what it made (`miou` in the metrics); None: no score."""
    may_need: ClassVar[tuple[str, ...]] = ()
    """Pipeline fields that `needs` can name, whatever the knobs."""
    effort: ClassVar[frozenset[str]] = frozenset()
    """Knobs that decide how long `run` takes: only past runs with the same values are estimates."""
    effortless: ClassVar[frozenset[str]] = frozenset()
    """Knobs that change numbers, not the work: past runs with other values are estimates too."""
    architecture: ClassVar[frozenset[str]] = frozenset()
    """Knobs that name the network in the artifact, and so the work of the stages that run it."""
    mapped_split: ClassVar[Split | None] = None
    """Split whose images have an array or a map each in the artifact; its size grows with them."""
    bytes_per_image: ClassVar[int] = 0
    """Bytes per image of 500 x 375 (`mapped_split`), measured by bench_artifact_size.py."""

    def needs(self) -> tuple[str, ...]:
        """Pipeline fields whose artifacts `run` reads."""
        return ()

    def inactive(self) -> frozenset[str]:
        """Fields that cannot change the result, given the values of the others.

        They are not part of the identity.
        """
        return frozenset()

    def faults(self, upstream: Mapping[str, "Stage"]) -> Iterator[str]:
        """Yield the reasons for which these knobs make `run` fail; each names a knob.

        Args:
            upstream: every stage that this one rests on, by pipeline field.
        """
        yield from ()

    def doubts(self, upstream: Mapping[str, "Stage"]) -> Iterator[str]:
        """Yield the reasons for which the result may be useless; each names a knob."""
        yield from ()

    def resources(self) -> Resources:
        """CPUs and GPUs that the stage asks for, unless the sweep's file gives others."""
        return Resources()

    def run(self, ctx: Context) -> dict[str, float]:
        """Turn the upstream artifacts into this one, below `ctx.output`, and return its metrics."""
        raise NotImplementedError

    def config(self) -> dict[str, Any]:
        """Return the active fields as JSON values."""
        config: dict[str, Any] = self.model_dump(mode="json", exclude=set(self.inactive()))
        return config

    def recorded(self) -> dict[str, Any]:
        """Return the fields of a record: `config`, and names that are no part of the identity.

        Tables, gates and names of variants know a variant by all of them.
        """
        return self.config()


PLUGIN_SOURCES: dict[str, str] = {}
"""SHA-256 of each plugin that this process has loaded, by module (see `occse.plugins`)."""


def plugin_sources(stage: Stage) -> dict[str, str]:
    """Return the digests of the plugins whose code makes the artifact of `stage`, by module.

    They are those of its class, and of the classes that its knobs name (`my_module:MyBackbone`).
    A plugin that is a module of a package counts for all classes of the package.
    """
    modules = {base.__module__ for base in type(stage).__mro__}
    for value in stage.config().values():
        if isinstance(value, str):
            modules.add(value.partition(":")[0])
    packages = {module.partition(".")[0] for module in modules}
    return {
        name: digest
        for name, digest in sorted(PLUGIN_SOURCES.items())
        if name.partition(".")[0] in packages
    }


def fingerprint(stage: Stage, inputs: Mapping[str, str]) -> str:
    """Return the identity of the artifact that `stage` makes.

    Args:
        stage: the stage; its class, its version, its active fields and its plugins count.
        inputs: fingerprints of the upstream artifacts, by pipeline field.
    """
    identity = {
        # Without its module, so that a class may move to another file.
        "class": type(stage).__name__,
        "version": stage.version,
        "config": stage.config(),
        "inputs": dict(inputs),
    }
    sources = plugin_sources(stage)
    # No empty entry: stages without a plugin keep the fingerprints that they had before plugins.
    if sources:
        identity["plugins"] = sources
    # Sorted and without spaces: the order in which a class lists its knobs must not count.
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:FINGERPRINT_DIGITS]
