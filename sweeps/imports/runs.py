"""Runs that no sweep made, in the schema of `sweeps.tracking.writer`: one table shows both.

Nothing is filled in from our defaults: a tag says `unknown` where the source does not tell.
"""

import hashlib
import itertools
import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeGuard

from occse.method.evaluation import Counts
from occse.pipeline import default_pipeline, override
from sweeps.tracking.bulk import TOGETHER, BulkWriter, NewRun, RunEnd, bulk_writer
from sweeps.tracking.database import connect, experiment_id
from sweeps.tracking.keys import name_tags, safe_key
from sweeps.tracking.query import answering, search
from sweeps.tracking.tags import TAG_CHARACTERS

if TYPE_CHECKING:  # importing it takes a second that other commands do without
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

# MLflow takes 1,000 metrics, params and tags in one request, of which 100 params; the rest of an
# old run's curves goes before.
MOST_METRICS = 500
PROTOCOL = ("data", "split", "threshold_rule", "crf", "scales", "init")
UNKNOWN = "unknown"
IMPORTED = "imported:"
UNKNOWN_PROTOCOL = dict.fromkeys(PROTOCOL, UNKNOWN)


@dataclass(frozen=True, kw_only=True)
class OldRun:
    """Knowledge of an old run.

    Attributes:
        variant: as of a trial; so are `seed` and `baseline`.
        source: the place where it was read, and the SHA-256 of that.
        made: when it was made, in milliseconds since 1970.
        content: text that is the same for the same run, wherever it lies, and for no other.
        scores: metrics at step 0.
        curves: metrics at the epochs 1, 2, ...
        params: `field.knob`, where the mapping to our knobs is certain.
        others: the other settings of the source, by its own names.
        protocol: conditions of the score of each stage, `unknown` where the source does not tell.
        pixel_truth: as of a trial.
        counts: per-image confusion counts by field.
        notes: remarks for people.
    """

    variant: str
    seed: int
    source: str
    made: int
    content: str
    scores: Mapping[str, float]
    protocol: Mapping[str, Mapping[str, str]]
    baseline: bool = False
    curves: Mapping[str, Sequence[float]] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    others: Mapping[str, str] = field(default_factory=dict)
    pixel_truth: Sequence[str] = ()
    counts: Mapping[str, Counts] = field(default_factory=dict)
    notes: Sequence[str] = ()

    @cached_property
    def identity(self) -> str:
        """Identity of the run: one per content, variant and seed."""
        return sha256(json.dumps([self.variant, self.seed, self.content]).encode())

    @property
    def name(self) -> str:
        """Name for people."""
        return f"{self.variant}, seed {self.seed}"


def import_runs(uri: str, experiment: str, runs: Sequence[OldRun]) -> Iterator[str]:
    """Record `runs` in an experiment, without those that it has; yield a line about each.

    Raises:
        ValueError: two runs are one variant and seed, among themselves or with those of the
            experiment.
        ConnectionError: the tracking server does not answer.
    """
    counts = Counter(run.name for run in runs)
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        raise ValueError(f"{twice[0]!r} occurs twice; give one of them another variant or seed")
    with answering(uri):
        client = connect(uri, create=True)
        target = experiment_id(client, experiment, uri=uri)
        present = [run for run in search(client, [target]) if "occse.trial" in run.data.tags]
        known = {run.data.tags["occse.trial"]: run for run in present}
        fresh = [run for run in runs if not _complete(known.get(run.identity))]
        _check(fresh, present)
        for run in runs:
            if _complete(known.get(run.identity)):
                yield f"{run.name}: run {known[run.identity].info.run_id} has it already"
        orders = {
            run.data.tags["occse.variant"]: int(run.data.tags["occse.order"]) for run in present
        }
        behind = itertools.count(max(orders.values(), default=-1) + 1)
        for run in fresh:
            # behind those that the experiment has; the seeds of a variant stand together
            if run.variant not in orders:
                orders[run.variant] = next(behind)
        bulk = bulk_writer(client)
        for first in range(0, len(fresh), TOGETHER):
            some = fresh[first : first + TOGETHER]
            if bulk is not None:
                new = [run for run in some if run.identity not in known]
                known |= _record_together(bulk, target, new, orders)
            for run in some:
                recorded = known.get(run.identity)
                if not _complete(recorded):
                    recorded = _record(client, target, run, orders[run.variant], recorded)
                yield f"{run.name}: run {recorded.info.run_id}"


def normalized(knob: str, value: object) -> str:
    """Return a knob's value as a trial records it.

    Raises:
        ValueError: there is no such knob, or it does not take this value.
    """
    stage, name = knob.split(".", 1)
    values = override(default_pipeline(), {knob: value}).stage(stage).model_dump(mode="json")
    text = values[name]
    return text if isinstance(text, str) else json.dumps(text)


def sha256(content: bytes) -> str:
    """Return the digest of a source."""
    return hashlib.sha256(content).hexdigest()


def _complete(run: "Run | None") -> "TypeGuard[Run]":
    return run is not None and "occse.complete" in run.data.tags


def _check(runs: Sequence[OldRun], present: "Sequence[Run]") -> None:
    """Refuse a second run of a variant and seed, which would count twice in the mean."""
    taken = {
        (run.data.tags.get("occse.variant"), run.data.tags.get("occse.seed")): run
        for run in present
        if run.data.tags.get("occse.current") != "false"
    }
    for run in runs:
        other = taken.get((run.variant, str(run.seed)))
        if other is not None and other.data.tags["occse.trial"] != run.identity:
            raise ValueError(
                f"{run.source}: the experiment has a run of {run.name!r} with other content "
                f"already, {other.info.run_id}; nothing is overwritten: give another variant or "
                "seed, or delete that run"
            )


def _record(
    client: "MlflowClient", experiment_id: str, run: OldRun, order: int, begun: "Run | None"
) -> "Run":
    """Write one run, and return it.

    A run that was `begun` and not completed is written again, which changes nothing in it.
    """
    from mlflow.entities import Param, RunTag

    if begun is None:
        begun = client.create_run(experiment_id, start_time=run.made, tags=_tags(run, order))
    run_id: str = begun.info.run_id
    metrics = _metrics(run)
    if len(metrics) > MOST_METRICS:
        client.log_batch(run_id, metrics=metrics[MOST_METRICS:])
    if run.counts:
        _attach(client, run_id, run.counts)
    client.set_terminated(run_id, "FINISHED", end_time=run.made)
    # The tag last, with the rest in one request: a run that has it is never written again.
    client.log_batch(
        run_id,
        metrics=metrics[:MOST_METRICS],
        params=[Param(*item) for item in run.params.items()],
        tags=[RunTag("occse.complete", run.identity)],
    )
    return begun


def _record_together(
    bulk: BulkWriter, experiment_id: str, runs: Sequence[OldRun], orders: Mapping[str, int]
) -> "dict[str, Run]":
    """Write runs in two transactions, and return them by identity.

    Those that have files, or that MLflow would refuse, are left out. Those that another program
    deleted or wrote into meanwhile are not complete.
    """
    some = []
    new = []
    for run in runs:
        tags = _tags(run, orders[run.variant])
        if not run.counts and bulk.accepts(tags, run.params, _metrics(run)):
            some.append(run)
            new.append(NewRun(tags=tags, params=run.params, start_ms=run.made))
    if not some:
        return {}
    made = bulk.make(experiment_id, new)
    # The completion after the runs: cut off between the two, the next import finds runs that were
    # begun, and completes them.
    bulk.end(
        [
            RunEnd(
                run=entity,
                tags={"occse.complete": run.identity},
                params=run.params,
                metrics=_metrics(run),
                status="FINISHED",
                end_ms=run.made,
            )
            for run, entity in zip(some, made, strict=True)
        ]
    )
    return {run.identity: entity for run, entity in zip(some, made, strict=True)}


def _metrics(run: OldRun) -> "list[Metric]":
    from mlflow.entities import Metric

    metrics = [Metric(safe_key(name), value, run.made, 0) for name, value in run.scores.items()]
    for name, values in run.curves.items():
        metrics += [
            Metric(safe_key(name), value, run.made, step)
            for step, value in enumerate(values, start=1)
        ]
    return metrics


def _attach(client: "MlflowClient", run_id: str, counts_by_stage: Mapping[str, Counts]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for stage, counts in counts_by_stage.items():
            path = Path(folder, "counts", f"{stage}.npz")
            path.parent.mkdir(exist_ok=True)
            counts.save(path)
        client.log_artifacts(run_id, folder)


def _tags(run: OldRun, order: int) -> dict[str, str]:
    about = [f"**{run.name}**, imported from {run.source}", *run.notes]
    for name, value in run.others.items():
        about.append(f"{name}: {value} (by its own name; not mapped to a knob)")
    # not an artifact of a store, but a text that tells this run's scores from all others
    scored = {f"occse.fingerprint.{stage}": f"{IMPORTED}{run.identity}" for stage in run.protocol}
    protocol = {stage: UNKNOWN_PROTOCOL | dict(known) for stage, known in run.protocol.items()}
    tags = (
        scored
        | name_tags([*run.scores, *run.curves])
        | {
            "mlflow.runName": run.name,
            "mlflow.note.content": "\n- ".join(about),
            "occse.kind": "trial",
            "occse.imported": run.source[:TAG_CHARACTERS],
            "occse.imported.others": json.dumps(run.others),
            "occse.imported.notes": "\n".join(run.notes)[:TAG_CHARACTERS],
            "occse.protocol": json.dumps(protocol),
            "occse.trial": run.identity,
            "occse.variant": run.variant,
            "occse.order": str(order),
            "occse.baseline": json.dumps(run.baseline),
            "occse.seed": str(run.seed),
            "occse.current": "true",
            "occse.pixel_truth": ", ".join(run.pixel_truth),
        }
    )
    return {key: value for key, value in tags.items() if value}
