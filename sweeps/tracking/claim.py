"""Claim of a driver on the record of a sweep: a tag of the sweep's run in MLflow.

Two drivers with different trials would each mark the other's trials as no longer asked for. The tag
tells the second one that the first lives. It also tells later commands which sweeps have a driver
that died, so that no run shows RUNNING for ever."""

import hashlib
import time
from dataclasses import asdict
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, ValidationError

from sweeps.spec.model import Spec
from sweeps.store.process import ProcessId, this_process
from sweeps.tracking.query import experiments

if TYPE_CHECKING:  # importing it takes a second that other commands do without
    from mlflow import MlflowClient
    from mlflow.entities import Run

DRIVER = "occse.driver"
# The driver confirms its claim this often; one small request beside those of the curves.
BEAT_S = 20.0
# A driver on another machine that was silent for longer is dead, or its server was away.
SILENT_S = 300.0
# Runs of one sweep that MLflow gives in one answer.
PAGE = 1000


def digest_of(spec: Spec) -> str:
    """Return a digest of everything in a sweep's file that decides which trials there are."""
    others = {"question", "expect", "limits", "resources", "labels", "notify"}
    text = spec.model_dump_json(exclude=others)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Claim(BaseModel):
    """Driver of a sweep.

    Attributes:
        process: see `sweeps.store.process.ProcessId`.
        source: file that the sweep was read from, for people.
        digest: of everything in the file that decides which trials there are.
        beat: when the driver last confirmed it, in seconds since 1970.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    process: dict[str, str | int]
    source: str
    digest: str
    beat: float

    def lives(self, now: float) -> bool:
        """Return whether the driver lives, as far as this process can see it."""
        try:
            life = ProcessId(**self.process).life()  # type: ignore[arg-type]
        except TypeError:  # of another version
            return False
        return now - self.beat < SILENT_S if life == "unknown" else life == "alive"

    def mine(self) -> bool:
        """Return whether this process made it."""
        return self.process == asdict(this_process())


def make_claim(source: str, digest: str) -> Claim:
    """Return a claim of this process."""
    process = asdict(this_process())
    return Claim(process=process, source=source, digest=digest, beat=time.time())


def claim_of(run: "Run") -> Claim | None:
    """Return the claim on a sweep's run; None where there is none, or none that can be read."""
    try:
        return Claim.model_validate_json(run.data.tags.get(DRIVER, ""))
    except ValidationError:
        return None


def check_free(run: "Run", claim: Claim) -> None:
    """Check that no other driver with other trials has a claim on the sweep's run.

    Raises:
        ValueError: one has; the message names both files.
    """
    other = claim_of(run)
    if other is None or other.mine() or other.digest == claim.digest:
        return
    if other.lives(time.time()):
        name = run.info.run_name
        process = f"process {other.process.get('pid')} on {other.process.get('host')}"
        raise ValueError(
            f"{claim.source}: name: expected a name that no running sweep has, got {name!r}: "
            f"{process} runs it from {other.source}, with other trials; "
            "give this file another name, or wait until that sweep has ended"
        )


def end_orphans(client: "MlflowClient") -> int:
    """End the runs of all sweeps whose driver died without a word; return how many sweeps.

    Their artifacts and finished trials stay, and their own command goes on from there."""
    ids = [experiment.experiment_id for experiment in experiments(client)]
    if not ids:
        return 0
    sweeps = client.search_runs(
        ids,
        "attributes.status = 'RUNNING' and tags.`occse.kind` = 'sweep'",
        max_results=PAGE,
    )
    ended = 0
    for sweep in sweeps:
        claim = claim_of(sweep)
        if claim is None or claim.lives(time.time()):
            continue
        ended += 1
        siblings = [sweep.info.experiment_id]
        for run in client.search_runs(siblings, "attributes.status = 'RUNNING'", max_results=PAGE):
            client.set_terminated(run.info.run_id, "KILLED")
    return ended
