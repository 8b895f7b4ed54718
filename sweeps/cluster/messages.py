"""Messages between driver, trials, scheduler and workers: frozen plain data, and no torch.

A trial sends the scheduler a `StageRequest` and gets an `Answer`. The scheduler sends the request
on to a worker, which returns a `StageOutcome`. The driver asks the scheduler for `News`. All of
them are pickled by reference, so both ends run the same code: see `sweeps.cluster.code_version`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

# Ray repeats a stage whose worker died three times (`stage_task.MAX_RETRIES`). More starts are
# those that its memory monitor ended, which it repeats without end unless its head says otherwise.
MAX_STARTS = 7


@dataclass(frozen=True, kw_only=True)
class SchedulerSettings:
    """Everything that makes one scheduler another than the next one; its name carries a digest.

    Attributes:
        root: folder or URL of the store.
        data_root: folder of the user's data set.
        weights: folder of the user's weight files.
        git: commit and uncommitted difference of the driver's code, for the manifests.
        autoscaling: whether the cluster starts machines when they are asked for.
        plugins: digests of the plugins that workers import, by module.
        max_starts: how often a worker may begin the same attempt at a stage.
    """

    root: str
    data_root: str | None = None
    weights: str | None = None
    git: Mapping[str, str] = field(default_factory=dict)
    autoscaling: bool = False
    plugins: Mapping[str, str] = field(default_factory=dict)
    max_starts: int = MAX_STARTS


@dataclass(frozen=True, kw_only=True)
class StageRequest:
    """One stage that a trial needs.

    Attributes:
        node: `occse.pipeline.Node.dump()`: JSON values, for processes that import no stages.
        num_cpus: CPUs that the stage occupies while it runs.
        num_gpus: GPUs, or a part of one.
        path_s: seconds to the end of the longest chain of stages that begins with it.
        cpus_per_gpu: the most CPUs per GPU that it or a stage behind it needs.
        command: the user's command, for the manifest.
        sweep: name of the sweep that asks.
        weight: of the sweep; stages of one of weight 2 get twice the share of the cluster.
        parts: how many parts a training divides each batch into, to need less GPU memory.
    """

    node: Mapping[str, Any]
    num_cpus: float = 1.0
    num_gpus: float = 0.0
    path_s: float = 0.0
    cpus_per_gpu: float = 0.0
    command: str = ""
    sweep: str = ""
    weight: float = 1.0
    parts: int = 1

    @property
    def field(self) -> str:
        """The pipeline field of the trial that asks."""
        return str(self.node["field"])

    @property
    def kind(self) -> str:
        """Name of the stage's class."""
        return str(self.node["kind"])

    @property
    def fingerprint(self) -> str:
        """Identity of the artifact."""
        return str(self.node["fingerprint"])

    @property
    def inputs(self) -> Mapping[str, str]:
        """Fingerprints of the artifacts that the stage reads, by pipeline field."""
        inputs: Mapping[str, str] = self.node["inputs"]
        return inputs

    @property
    def needs(self) -> dict[str, float]:
        """Resources by Ray's names."""
        return {"CPU": self.num_cpus, "GPU": self.num_gpus}


class AnswerState(Enum):
    """State of a requested stage."""

    #: The artifact is in the store.
    DONE = "done"
    #: The stage failed; the answer's `error` says why.
    FAILED = "failed"
    #: The input in the answer's `field` was damaged or removed: request that one first.
    INPUT_LOST = "input lost"
    #: The stage waits or runs: ask again.
    PENDING = "pending"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Answer of the scheduler to a `StageRequest`."""

    state: AnswerState
    error: str = ""
    field: str = ""


class OutcomeKind(Enum):
    """End of an attempt at a stage."""

    #: The artifact is in the store; making it took `seconds`.
    DONE = "done"
    #: The stage raised; `text` is the error.
    FAILED = "failed"
    #: The GPU's memory was too small, and the batch can be divided; `text` is the error.
    TOO_LARGE = "too large"
    #: The input in the field `text` was damaged or removed.
    INPUT_LOST = "input lost"
    #: The store did not answer; `text` is the error. The same attempt may succeed later.
    STORE_AWAY = "store away"
    #: The stage heard that it should stop, and left a checkpoint.
    STOPPED = "stopped"
    #: No trial waited for the stage any more.
    CANCELLED = "cancelled"


@dataclass(frozen=True, kw_only=True)
class StageOutcome:
    """End of one attempt at a stage."""

    kind: OutcomeKind
    seconds: float = 0.0
    text: str = ""

    @property
    def event(self) -> "EventKind":
        """The event that tells of this end."""
        return EVENT_OF[self.kind]


class EventKind(Enum):
    """Something that can happen to a stage."""

    #: Its artifact is in the store; making it took `seconds`.
    DONE = "done"
    #: It failed; `text` is the error.
    FAILED = "failed"
    #: Its process died and Ray started it again.
    RETRIED = "retried"
    #: It starts again with each batch in parts; `text` is the error before.
    SPLIT = "split"
    #: The input in the field `text` was damaged or removed, and is made again first.
    INPUT_LOST = "input lost"
    #: Another cluster runs it, on the host `text`.
    ELSEWHERE = "elsewhere"
    #: The store does not answer; `text` is its error. The stage waits.
    STORE_AWAY = "store away"
    #: It ended at a checkpoint because the sweep stops.
    STOPPED = "stopped"
    #: It was cancelled because no trial waits for it any more.
    CANCELLED = "cancelled"


#: The event that ends a stage, by the end of its last attempt.
EVENT_OF = {
    OutcomeKind.DONE: EventKind.DONE,
    OutcomeKind.FAILED: EventKind.FAILED,
    OutcomeKind.TOO_LARGE: EventKind.FAILED,
    OutcomeKind.STORE_AWAY: EventKind.FAILED,
    OutcomeKind.INPUT_LOST: EventKind.INPUT_LOST,
    OutcomeKind.STOPPED: EventKind.STOPPED,
    OutcomeKind.CANCELLED: EventKind.CANCELLED,
}


@dataclass(frozen=True, kw_only=True)
class StageEvent:
    """Something that happened to a stage; events and points share one growing `id`."""

    id: int
    kind: EventKind
    field: str
    fingerprint: str
    seconds: float = 0.0
    text: str = ""


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """Means of one epoch of a training that runs.

    Attributes:
        values: `{"step": epoch, name: value, ...}`.
        at_ms: when the epoch ended, in milliseconds since 1970.
    """

    id: int
    fingerprint: str
    values: Mapping[str, float]
    at_ms: int


@dataclass(frozen=True, kw_only=True)
class Worker:
    """Process that runs a stage: its id, and Ray's id of the node that it is on."""

    pid: int
    node: str


@dataclass(frozen=True, kw_only=True)
class ActiveStage:
    """Stage that a worker runs now, for `seconds` so far."""

    field: str
    fingerprint: str
    worker: Worker
    seconds: float


@dataclass(frozen=True, kw_only=True)
class WaitingStage:
    """Stage that a trial waits for and that no worker runs, and the reason as text."""

    field: str
    fingerprint: str
    why: str


@dataclass(frozen=True, kw_only=True)
class News:
    """Account of the scheduler for the driver: what happened lately, and how everything stands.

    Attributes:
        pid: process of the scheduler. Another one than before is a new one that counts ids from 1.
        events: those with an id above the one that was asked for.
        points: likewise.
        running: stages that workers run now.
        waiting: all other stages that trials wait for.
        unmet: what stages ask for that no machine of the cluster has, as text.
    """

    pid: int
    events: tuple[StageEvent, ...] = ()
    points: tuple[CurvePoint, ...] = ()
    running: tuple[ActiveStage, ...] = ()
    waiting: tuple[WaitingStage, ...] = ()
    unmet: tuple[str, ...] = ()
