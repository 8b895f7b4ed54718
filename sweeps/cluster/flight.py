"""What the scheduler keeps of a stage from the first that asks for it to its end. Importing this
imports no torch.
"""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from sweeps.cluster.policy import Amounts
from sweeps.cluster.stage_task import Json


@dataclass(kw_only=True, eq=False)
class StageRun:
    """A stage that somebody asked for: who waits for it, on which machine it is to run, and since
    when it does.

    `ours` says that this cluster has the lease on the stage; until then it runs `elsewhere`, or
    nobody knows yet."""

    request: Json
    ours: bool = False
    elsewhere: str | None = None
    missing: str | None = None
    leases: dict[str, float] = field(default_factory=dict)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    ref: Any = None
    machine: str | None = None
    follower: "asyncio.Task[None] | None" = None
    worker: Json | None = None
    cancelled: float | None = None

    @property
    def fingerprint(self) -> str:
        """Of the stage."""
        fingerprint: str = self.request["node"]["fingerprint"]
        return fingerprint

    @property
    def needs(self) -> Amounts:
        """What it occupies, by Ray's names."""
        return {"CPU": self.request["num_cpus"], "GPU": self.request["num_gpus"]}
