"""The plan of a sweep: the artifacts that its trials need, and why each of them would run."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from occse.pipeline import Node, Pipeline, pipeline_class
from occse.stage import Resources, Stage
from sweeps.spec.resources import shared_batch
from sweeps.spec.trials import Trial

NOT_STORED = "not in the store"


@dataclass(frozen=True, kw_only=True)
class StageRow:
    """Artifacts of one stage class, whatever field they are asked for in."""

    kind: str
    #: Pipeline fields in which trials ask for them.
    fields: tuple[str, ...]
    #: Number of requests, over all trials.
    visits: int
    #: Number of different artifacts among them.
    distinct: int
    #: Number of those that are in the store.
    stored: int
    #: Reasons why the others must run, and the number of artifacts for each.
    reasons: Mapping[str, int]
    #: Resources that they ask for, with the batch that GPUs divide among themselves (0 for none),
    #: and the number of artifacts for each.
    asked: Mapping[tuple[Resources, int], int]

    @property
    def to_run(self) -> int:
        """Number of artifacts that must be made."""
        return self.distinct - self.stored


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Every distinct artifact that `trials` ask for, or of some of their stages."""

    trials: Sequence[Trial]
    #: Distinct artifacts by fingerprint, upstream first.
    nodes: Mapping[str, Node]
    #: Reason why an artifact must run, by fingerprint; those in the store are absent.
    reasons: Mapping[str, str]
    #: The same by stage class, in the order of the pipeline.
    rows: Sequence[StageRow]

    @property
    def visits(self) -> int:
        """Number of artifacts that the trials ask for, shared ones counted each time."""
        return sum(row.visits for row in self.rows)


def stage_order() -> Mapping[str, int]:
    """Return the position of each field in the pipeline."""
    return _positions(pipeline_class())


@cache
def _positions(pipeline: type[Pipeline]) -> Mapping[str, int]:
    return {field: position for position, field in enumerate(pipeline.model_fields)}


def make_plan(
    trials: Sequence[Trial],
    *,
    stored: Callable[[Collection[Node]], Collection[str]],
    resources: Callable[[str, Stage], Resources] = lambda _, stage: stage.resources(),
    fields: Collection[str] | None = None,
) -> Plan:
    """Return the plan of `trials`, given the artifacts in the store.

    Args:
        trials: the trials of a sweep.
        stored: returns the fingerprints of those artifacts that are in the store; called once.
        resources: returns the resources of the stage in a field, `Spec.resources_of`.
        fields: the stages to plan; all by default.
    """
    wanted = stage_order().keys() if fields is None else fields
    visits: list[Node] = []
    for trial in trials:
        visits += [node for node in trial.nodes.values() if node.field in wanted]
    nodes = {node.fingerprint: node for node in visits}
    reasons: dict[str, str] = {}
    here = stored(nodes.values())
    for fingerprint, node in nodes.items():
        if fingerprint not in here:
            waits = [field for field, upstream in node.inputs.items() if upstream in reasons]
            reasons[fingerprint] = f"after {', '.join(waits)}" if waits else NOT_STORED
    rows = tuple(_rows(visits, reasons, resources=resources))
    return Plan(trials=trials, nodes=nodes, reasons=reasons, rows=rows)


def _rows(
    nodes: Sequence[Node],
    reasons: Mapping[str, str],
    *,
    resources: Callable[[str, Stage], Resources],
) -> Iterator[StageRow]:
    visited: dict[str, list[Node]] = {}
    for node in nodes:
        visited.setdefault(node.kind, []).append(node)
    order = stage_order()
    for kind, visits in sorted(visited.items(), key=lambda item: order[item[1][0].field]):
        distinct = {node.fingerprint: node for node in visits}
        why = [reasons[fingerprint] for fingerprint in distinct if fingerprint in reasons]
        yield StageRow(
            kind=kind,
            fields=tuple(sorted({node.field for node in visits}, key=order.__getitem__)),
            visits=len(visits),
            distinct=len(distinct),
            stored=len(distinct) - len(why),
            reasons=dict(sorted(Counter(why).items(), key=lambda item: item[0] != NOT_STORED)),
            asked=Counter(
                (resources(node.field, node.stage), shared_batch(node.stage))
                for node in distinct.values()
            ),
        )


def total(plan: Plan) -> str:
    """Return the plan in one line."""
    return (
        f"{plan.visits} stage visits, {len(plan.nodes)} distinct, "
        f"{len(plan.nodes) - len(plan.reasons)} in the store, {len(plan.reasons)} to run"
    )
