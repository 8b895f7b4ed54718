"""The plan of a sweep: what its trials ask for, what the store holds, what would run and why.
Writes nothing.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from occse.pipeline import Node, Pipeline, pipeline_class
from occse.stage import Resources, Stage
from sweeps.spec.trials import Trial

NOT_STORED = "not in the store"


def order() -> Mapping[str, int]:
    """Return the position of each field of the pipeline in use, plugins included."""
    return _positions(pipeline_class())


@cache
def _positions(pipeline: type[Pipeline]) -> Mapping[str, int]:
    return {field: position for position, field in enumerate(pipeline.model_fields)}


@dataclass(frozen=True, kw_only=True)
class StageRow:
    """The artifacts of one stage class, whatever field they are asked for in.

    Attributes:
        fields: the pipeline fields in which trials ask for them.
        visits: how often they are asked for, over all trials.
        distinct: how many different artifacts that is.
        stored: how many of those are in the store.
        reasons: why the others must run, and how many of them for that reason.
        resources: what running one of them occupies.
    """

    kind: str
    fields: tuple[str, ...]
    visits: int
    distinct: int
    stored: int
    reasons: Mapping[str, int]
    resources: Resources

    @property
    def to_run(self) -> int:
        """How many artifacts must be made."""
        return self.distinct - self.stored


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Every distinct artifact that `trials` ask for, or of some of their stages.

    Attributes:
        nodes: the distinct artifacts by fingerprint, upstream first.
        reasons: why an artifact must run, by fingerprint; those in the store are absent.
        rows: the same by stage class, in the order of the pipeline.
    """

    trials: Sequence[Trial]
    nodes: Mapping[str, Node]
    reasons: Mapping[str, str]
    rows: Sequence[StageRow]

    @property
    def visits(self) -> int:
        """How many artifacts the trials ask for, the shared ones counted each time."""
        return sum(row.visits for row in self.rows)


def make_plan(
    trials: Sequence[Trial],
    *,
    stored: Callable[[Collection[Node]], Collection[str]],
    resources: Callable[[str, Stage], Resources] = lambda _, stage: stage.resources(),
    fields: Collection[str] | None = None,
) -> Plan:
    """The plan of `trials`, given what the store has.

    Args:
        trials: what `sweeps.spec.trials.trials` returned. stored: asked once for all distinct
        artifacts, returns the fingerprints of those that are there. resources: what the stage in a
        field may occupy, `Spec.resources_of`. fields: the stages to plan; None: all.
    """
    wanted = order().keys() if fields is None else fields
    visits = [node for trial in trials for node in trial.nodes.values() if node.field in wanted]
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
    for kind, visits in sorted(visited.items(), key=lambda item: order()[item[1][0].field]):
        distinct = {node.fingerprint: node for node in visits}
        why = [reasons[fingerprint] for fingerprint in distinct if fingerprint in reasons]
        yield StageRow(
            kind=kind,
            fields=tuple(sorted({node.field for node in visits}, key=lambda field: order()[field])),
            visits=len(visits),
            distinct=len(distinct),
            stored=len(distinct) - len(why),
            reasons=dict(sorted(Counter(why).items(), key=lambda item: item[0] != NOT_STORED)),
            resources=resources(visits[0].field, visits[0].stage),
        )


def total(plan: Plan) -> str:
    """The plan in one line."""
    return (
        f"{plan.visits} stage visits, {len(plan.nodes)} distinct, "
        f"{len(plan.nodes) - len(plan.reasons)} in the store, {len(plan.reasons)} to run"
    )
