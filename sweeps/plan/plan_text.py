"""A plan as text for a terminal: question, trials, stages with the reason to run, and cost."""

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

from occse.naming.counts import number
from occse.stage import Resources
from sweeps.cluster.machines import Machine, clamp
from sweeps.plan.costs import Cost, Costs
from sweeps.plan.past_runs import Range
from sweeps.plan.plan import NOT_STORED, Plan, StageRow, stage_order, total
from sweeps.spec.model import Spec
from sweeps.spec.search import SearchSpec
from sweeps.spec.trials import distinct_nodes
from sweeps.text import amount, duration, part, table

# A plan should fit one screen of a terminal.
MOST_VARIANTS = 20
# More reasons do not fit the line of a stage.
MOST_REASONS = 2
BEHIND_GATES = " Those behind gates are counted for all variants here."
SHIPPED = " Shipped figures replace runs that the store lacks; your GPU may differ."
AT_MOST = (
    " Behind gates: for the largest number of variants that may go on, in the order of the file."
)


def describe(plan: Plan, spec: Spec, costs: Costs, *, whole: bool = False) -> str:
    """Return the plan as text; `whole` lists every variant and every reason."""
    stages = "Stages: one that several trials need is made once."
    if spec.gates:
        stages += BEHIND_GATES
    parts = [
        f"{spec.name}: {spec.question.strip()}",
        *([f"Expected: {spec.prose}"] if spec.prose else []),
        "",
        f"Trials: {_written(plan, spec)}",
        *_variants(plan, whole=whole),
        *(f"Gate: {gate.describe()}." for gate in spec.gates),
        "",
        stages,
        *table(
            (
                "  stage",
                "made by",
                "visits",
                "distinct",
                "in store",
                "to run",
                "gets",
                "why it runs",
            ),
            [_stage_line(row, costs.machines, whole=whole) for row in plan.rows],
        ),
        "",
        *_costs(costs, gates=bool(spec.gates)),
        total(plan),
    ]
    return "\n".join(parts)


def _written(plan: Plan, spec: Spec) -> str:
    """Return how the trials come about, so that a reader can check the product."""
    points = number(spec.num_points(), "point")
    variants = number(len(spec.named()), "variant")
    if not spec.grid:
        what = variants
    elif spec.variants:
        what = f"{variants} at {points} of the grid"
    else:
        what = f"{points} of the grid" + (" and the baseline" if spec.named() else "")
    if spec.search:
        return _searched(plan, spec, spec.search)
    seeds = number(len(spec.replicates()), "seed")
    written = spec.combinations()
    left = len(plan.trials)
    same = ""
    if written == left + 1:
        same = " (1 differs from another only in knobs without effect there)"
    elif written > left:
        same = f" ({written - left} differ from others only in knobs without effect there)"
    return f"{what}, {seeds}: {written} written, {left} distinct{same}."


def _searched(plan: Plan, spec: Spec, search: SearchSpec) -> str:
    seeds = number(len(spec.replicates()), "seed")
    suggested = len({trial.variant for trial in plan.trials}) - len(spec.named())
    more = number(max(0, search.trials - suggested), "more variant")
    baseline = "the baseline and " if spec.named() else ""
    return (
        f"{baseline}a search for {', '.join(search.objectives)}: "
        f"{number(len(plan.trials), 'trial')} known, {more} to be suggested, of {seeds} each."
    )


def _variants(plan: Plan, *, whole: bool) -> list[str]:
    lines = _variant_lines(plan)
    shown = lines if whole else lines[:MOST_VARIANTS]
    more = len(lines) - len(shown)
    head = ("  variant (* baseline)", "seeds", "stages", "to run", "starting with")
    return [
        *table(head, shown),
        *([f"  ... and {number(more, 'more variant')}; --all lists them"] if more else []),
    ]


def _variant_lines(plan: Plan) -> list[tuple[str, ...]]:
    """Return one line per variant, its seeds together."""
    order = stage_order()
    lines: list[tuple[str, ...]] = []
    # `groupby` joins neighbours only; seeds are innermost, so a variant's trials are neighbours.
    for (variant, baseline), group in groupby(
        plan.trials, key=lambda trial: (trial.variant, trial.baseline)
    ):
        trials = list(group)
        nodes = distinct_nodes(trials)
        first = {
            node.field
            for fingerprint, node in nodes.items()
            if plan.reasons.get(fingerprint) == NOT_STORED
        }
        to_run = len(nodes.keys() & plan.reasons.keys())
        seeds = ", ".join(str(trial.seed) for trial in trials)
        mark = "* " if baseline else "  "
        lines.append(
            (
                mark + variant,
                seeds,
                str(len(nodes)),
                str(to_run),
                ", ".join(sorted(first, key=order.__getitem__)) or "-",
            )
        )
    return lines


def _resources(resources: Resources) -> str:
    gpus = f", {part(resources.num_gpus, 'GPU')}" if resources.num_gpus else ""
    return f"{part(resources.num_cpus, 'CPU')}{gpus}"


def _stage_line(row: StageRow, machines: Sequence[Machine], *, whole: bool) -> tuple[str, ...]:
    reasons = list(row.reasons.items())
    shown = reasons if whole else reasons[:MOST_REASONS]
    why = [f"{count} {reason}" if len(reasons) > 1 else reason for reason, count in shown]
    if more := sum(count for _, count in reasons[len(shown) :]):
        why.append(f"{more} for other reasons")
    counts = (str(row.visits), str(row.distinct), str(row.stored), str(row.to_run))
    gets = _gets(row, machines)
    return (f"  {', '.join(row.fields)}", row.kind, *counts, gets, "; ".join(why) or "-")


def _gets(row: StageRow, machines: Sequence[Machine]) -> str:
    """Return what each artifact of a row gets on these machines, beside what it asks for."""
    counts: dict[str, int] = {}
    for (resources, batch_size), count in row.asked.items():
        asks = _resources(resources)
        gets = _resources(clamp(resources, machines, batch_size=batch_size))
        text = gets if gets == asks else f"{gets} (asks for {asks})"
        counts[text] = counts.get(text, 0) + count
    if len(counts) == 1:
        return next(iter(counts))
    return "; ".join(f"{count} {text}" for text, count in counts.items())


def _costs(costs: Costs, *, gates: bool) -> Iterator[str]:
    """Yield the cost of the stages that run, the cluster, and the runs that the figures rest on."""
    if not costs.rows:
        return
    head = "Cost: medians of past runs in this store, the least and the most in brackets."
    if any(row.each is not None and not row.each.runs for row in costs.rows):
        head += SHIPPED
    yield head + AT_MOST if gates else head
    columns = ("  made by", "to run", "each", "all", "GPU hours", "disk each", "disk", "rests on")
    yield from table(columns, [_cost_line(row) for row in costs.rows])
    yield ""
    gpu_hours = (
        _known(costs, costs.gpu_s, _hours) if any(row.gpu_s != 0 for row in costs.rows) else "none"
    )
    yield f"GPU hours: {gpu_hours}"
    yield describe_time(costs)
    sizes = [row.bytes for row in costs.rows]
    known = [size for size in sizes if size is not None]
    room = "unknown until each kind of stage has run once"
    if known:
        room = f"{'more than' if None in sizes else 'about'} {amount(sum(known))}"
    yield f"Disk: {room}; {_one_trial(costs)}"
    yield ""


def describe_time(costs: Costs) -> str:
    """Return the time that the plan takes on the cluster."""
    time = _known(costs, costs.wall_s, duration)
    return f"Time on {_cluster(costs)}, in the order of the scheduler: {time}"


def _known(costs: Costs, figure: Range, show: Callable[[float], str]) -> str:
    """Return a figure that may lack the stages without a past run."""
    if len(costs.unknown) == len(costs.rows):
        return "unknown until the stages have run once"
    if costs.unknown:
        return f"more than {_range(figure, show)}; no past run has {', '.join(costs.unknown)}"
    return f"about {_range(figure, show)}"


def _one_trial(costs: Costs) -> str:
    maps, networks = (
        "unknown" if size is None else amount(size)
        for size in (costs.trial_maps, costs.trial_networks)
    )
    return f"of one trial: maps of all images {maps}, networks {networks}"


def _cost_line(cost: Cost) -> tuple[str, ...]:
    gpu = "unknown"
    if cost.gpu_s is not None:
        gpu = _hours(cost.gpu_s) if cost.gpu_s else "-"
    return (
        f"  {cost.kind}",
        str(cost.to_run),
        "unknown" if cost.each is None else _range(cost.each, duration),
        "unknown" if cost.seconds is None else duration(cost.seconds.usual),
        gpu,
        "unknown" if cost.size is None else amount(cost.size.usual),
        "unknown" if cost.bytes is None else amount(cost.bytes),
        _rests_on(cost),
    )


def _rests_on(cost: Cost) -> str:
    parts = []
    for what, estimate in (("", cost.each), ("disk: ", cost.size)):
        if estimate is not None and (not what or estimate.differs or not estimate.runs):
            runs = f"{number(len(estimate.runs), 'run')} on " if estimate.runs else ""
            other = f" with other {', '.join(estimate.differs)}" if estimate.differs else ""
            parts.append(f"{what}{runs}{estimate.where}{other}")
    return "; ".join(parts) or "-"


def _cluster(costs: Costs) -> str:
    cpus = sum(machine.get("CPU", 0.0) for machine in costs.machines)
    gpus = sum(machine.get("GPU", 0.0) for machine in costs.machines)
    return f"{number(int(cpus), 'CPU')} and {number(int(gpus), 'GPU')}"


def _range(figure: Range, show: Callable[[float], str]) -> str:
    low = show(figure.low)
    high = show(figure.high)
    usual = show(figure.usual)
    return usual if low == high else f"{usual} ({low} to {high})"


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.2f}" if seconds < 36_000 else f"{seconds / 3600:,.0f}"
