"""The plan of a sweep: what its trials ask for, what the store holds, what would run and why. Writes nothing."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from occse.pipeline import Node, Pipeline
from occse.stage import Resources, Stage
from sweeps.schema import Spec
from sweeps.spec import Trial

NOT_STORED = "not in the store"
ORDER = {field: position for position, field in enumerate(Pipeline.model_fields)}


@dataclass(frozen=True, kw_only=True)
class Row:
    """The artifacts of one stage class, whatever field they are asked for in.

    Attributes:
        fields: the pipeline fields in which trials ask for them.
        visits: how often they are asked for, over all trials.
        distinct: how many different artifacts that is.
        stored: how many of those are in the store.
        reasons: why the others must run, and how many of them for that reason.
        resources: what running one of them occupies.
        seconds: expected duration of one of them, None where none was ever recorded.
    """

    kind: str
    fields: tuple[str, ...]
    visits: int
    distinct: int
    stored: int
    reasons: Mapping[str, int]
    resources: Resources
    seconds: float | None

    @property
    def to_run(self) -> int:
        """How many artifacts must be made."""
        return self.distinct - self.stored


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Every distinct artifact that `trials` ask for.

    Attributes:
        nodes: the distinct artifacts by fingerprint, upstream first.
        reasons: why an artifact must run, by fingerprint; those in the store are absent.
        rows: the same by stage class, in the order of the pipeline.
    """

    trials: Sequence[Trial]
    nodes: Mapping[str, Node]
    reasons: Mapping[str, str]
    rows: Sequence[Row]

    @property
    def visits(self) -> int:
        """How many artifacts the trials ask for, the shared ones counted each time."""
        return sum(row.visits for row in self.rows)

    @property
    def seconds(self) -> float | None:
        """Expected time of all that must run, one after the other; None where a part of it is unknown."""
        parts = [None if row.seconds is None else row.to_run * row.seconds for row in self.rows if row.to_run]
        known = [part for part in parts if part is not None]
        return sum(known) if len(known) == len(parts) else None


def make_plan(
    trials: Sequence[Trial],
    *,
    has: Callable[[Node], bool],
    resources: Callable[[str, Stage], Resources] = lambda _, stage: stage.resources(),
    durations: Mapping[str, float] | None = None,
) -> Plan:
    """The plan of `trials`, given whether the store `has` an artifact.

    Args:
        trials: what `sweeps.spec.trials` returned.
        has: asked once for each distinct artifact.
        resources: what the stage in a field may occupy, `Spec.resources_of`.
        durations: median seconds by stage class, from recorded manifests.
    """
    nodes = {node.fingerprint: node for trial in trials for node in trial.nodes.values()}
    reasons: dict[str, str] = {}
    for fingerprint, node in nodes.items():
        if not has(node):
            waits = [field for field, upstream in node.inputs.items() if upstream in reasons]
            reasons[fingerprint] = f"after {', '.join(waits)}" if waits else NOT_STORED
    rows = tuple(_rows(trials, reasons, resources=resources, durations=durations or {}))
    return Plan(trials=trials, nodes=nodes, reasons=reasons, rows=rows)


def _rows(
    trials: Sequence[Trial],
    reasons: Mapping[str, str],
    *,
    resources: Callable[[str, Stage], Resources],
    durations: Mapping[str, float],
) -> Iterator[Row]:
    visited: dict[str, list[Node]] = {}
    for trial in trials:
        for node in trial.nodes.values():
            visited.setdefault(node.kind, []).append(node)
    for kind, visits in sorted(visited.items(), key=lambda item: ORDER[item[1][0].field]):
        distinct = {node.fingerprint: node for node in visits}
        why = [reasons[fingerprint] for fingerprint in distinct if fingerprint in reasons]
        yield Row(
            kind=kind,
            fields=tuple(sorted({node.field for node in visits}, key=lambda field: ORDER[field])),
            visits=len(visits),
            distinct=len(distinct),
            stored=len(distinct) - len(why),
            reasons={
                reason: why.count(reason)
                for reason in sorted(dict.fromkeys(why), key=lambda reason: reason != NOT_STORED)
            },
            resources=resources(visits[0].field, visits[0].stage),
            seconds=durations.get(kind),
        )


def describe(plan: Plan, spec: Spec) -> str:
    """The plan as text for a terminal: the question, the trials, the stages, what would run and why."""
    parts = [
        f"{spec.name}: {spec.question.strip()}",
        *([f"Expected: {spec.expect.strip()}"] if spec.expect.strip() else []),
        "",
        f"Trials: {_written(plan, spec)}",
        *_table(("  variant (* baseline)", "seeds", "stages", "to run", "starting with"), _trial_lines(plan)),
        "",
        "Stages: one that several trials need is made once.",
        *_table(
            ("  stage", "made by", "visits", "distinct", "in store", "to run", "needs", "each", "why it runs"),
            [_stage_line(row) for row in plan.rows],
        ),
        "",
        total(plan),
    ]
    return "\n".join(parts)


def total(plan: Plan) -> str:
    """The plan in one line."""
    numbers = (
        f"{plan.visits} stage visits, {len(plan.nodes)} distinct, "
        f"{len(plan.nodes) - len(plan.reasons)} in the store, {len(plan.reasons)} to run"
    )
    if plan.seconds is None:
        return f"{numbers}; expected time: unknown until each kind of stage has run once"
    return f"{numbers}; expected time: {_duration(plan.seconds)}, one after the other"


def _written(plan: Plan, spec: Spec) -> str:
    """How the trials come about, so that a reader can check the product."""
    points = _number(math.prod(len(values) for values in spec.grid.values()), "point")
    variants = _number(len(spec.named()), "variant")
    if not spec.grid:
        what = variants
    elif spec.variants:
        what = f"{variants} at {points} of the grid"
    else:
        what = f"{points} of the grid" + (" and the baseline" if spec.named() else "")
    written, left = spec.combinations(), len(plan.trials)
    same = f" ({written - left} differ from another only in knobs without effect there)" if written > left else ""
    return f"{what}, {_number(len(spec.seeds), 'seed')}: {written} written, {left} distinct{same}."


def _number(count: int, what: str) -> str:
    return f"{count} {what}" + ("" if count == 1 else "s")


def _trial_lines(plan: Plan) -> list[tuple[str, ...]]:
    """One line per variant, its seeds together."""
    lines: list[tuple[str, ...]] = []
    for (variant, baseline), group in groupby(plan.trials, key=lambda trial: (trial.variant, trial.baseline)):
        trials = list(group)
        nodes = {node.fingerprint: node.field for trial in trials for node in trial.nodes.values()}
        first = dict.fromkeys(
            nodes[fingerprint] for fingerprint in nodes if plan.reasons.get(fingerprint) == NOT_STORED
        )
        to_run = sum(fingerprint in plan.reasons for fingerprint in nodes)
        seeds = ", ".join(str(trial.seed) for trial in trials)
        mark = "* " if baseline else "  "
        lines.append(
            (
                mark + variant,
                seeds,
                str(len(nodes)),
                str(to_run),
                ", ".join(sorted(first, key=lambda field: ORDER[field])) or "-",
            )
        )
    return lines


def _stage_line(row: Row) -> tuple[str, ...]:
    why = "; ".join(
        f"{count} {reason}" if len(row.reasons) > 1 else f"{reason}" for reason, count in row.reasons.items()
    )
    counts = (str(row.visits), str(row.distinct), str(row.stored), str(row.to_run))
    needs = f"{row.resources.num_cpus:g} CPU" + (f", {row.resources.num_gpus:g} GPU" if row.resources.num_gpus else "")
    return (f"  {', '.join(row.fields)}", row.kind, *counts, needs, _duration(row.seconds), why or "-")


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    """Aligned columns: numbers to the right, text to the left."""
    columns = []
    for cells in zip(head, *lines, strict=True):
        width = max(map(len, cells))
        numbers = all(cell.isdigit() for cell in cells[1:])
        columns.append([cell.rjust(width) if numbers else cell.ljust(width) for cell in cells])
    return ["  ".join(line).rstrip() for line in zip(*columns, strict=True)]


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "unknown"
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
