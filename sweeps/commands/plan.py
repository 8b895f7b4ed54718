"""`python -m sweeps plan SPEC`: the stages that would run, why, and their cost; writes nothing."""

import argparse
from typing import TYPE_CHECKING

from occse.commands.values import natural, positive
from sweeps.commands.arguments import Commands, add_spec, add_store, of_other_code, read_sweep

if TYPE_CHECKING:
    from sweeps.cluster.machines import Machine

# Machines that are rented with GPUs have 6 to 16 CPUs for each.
CPUS_PER_GPU = 8


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "plan", help="what would run and why, and what it costs; writes nothing"
    )
    add_spec(parser)
    add_store(parser)
    parser.add_argument(
        "--gpus", type=natural, metavar="N", help="plan for a machine with N GPUs (this one's)"
    )
    cpus = f"and M CPUs (this one's, or {CPUS_PER_GPU} per GPU)"
    parser.add_argument("--cpus", type=positive, metavar="M", help=cpus)
    parser.add_argument(
        "--simulate",
        type=positive,
        nargs="+",
        metavar="GPUS",
        help="print the time on this many GPUs too; several numbers are allowed",
    )
    parser.add_argument("--all", action="store_true", help="list all variants and all reasons")
    parser.set_defaults(command=plan)


def plan(options: argparse.Namespace) -> int:
    """Print the stages that a sweep would run, why, and their cost."""
    from occse.artifacts.source import changes
    from occse.pipeline import check_files
    from sweeps.plan.costs import make_costs
    from sweeps.plan.past_runs import PastRuns
    from sweeps.plan.plan import make_plan
    from sweeps.plan.plan_text import describe, describe_time
    from sweeps.plan.room import about_room, given, stages_at_once
    from sweeps.plan.shipped import shipped_rates
    from sweeps.selection.gatekeeper import expected
    from sweeps.selection.study import suggested
    from sweeps.spec.trials import doubts_about
    from sweeps.store.store import Store

    spec, found = read_sweep(options)
    store = Store(options.store)
    found += suggested(spec, store=store, first=len(found))
    made = make_plan(found, stored=store.present, resources=spec.resources_of)
    # a plan may be made where the weights are not
    if spec.weights is not None:
        check_files((made.nodes[fingerprint] for fingerprint in made.reasons), spec.weights)
    # Costs count the variants that gates let through at most; reasons are told for all.
    through = make_plan(
        expected(found, spec.gates),
        # The store is asked once: what the first plan does not want to run is there.
        stored=lambda nodes: {node.fingerprint for node in nodes} - made.reasons.keys(),
        resources=spec.resources_of,
    )
    manifests = list(store.manifests())
    history = PastRuns(manifests, shipped=shipped_rates())
    machines = [_machine(options.gpus, options.cpus)]
    costs = make_costs(through, history, machines=machines, resources=spec.resources_of)
    print(describe(made, spec, costs, whole=options.all))
    asked = [
        (node, spec.resources_of(node.field, node.stage))
        for fingerprint, node in made.nodes.items()
        if fingerprint in made.reasons
    ]
    if asked:
        at_once = stages_at_once(given(asked, machines), machines)
        print("\n".join(about_room(asked, machines, at_once=at_once)))
    for doubt in doubts_about(found):
        print(f"warning: {doubt}")
    changed = changes({manifest.fingerprint: manifest for manifest in manifests}, made.nodes)
    if changed:
        print("\n".join(of_other_code(changed, made.nodes)))
        print("`run` uses them as they are; with --changed-code rerun it makes them again")
    for gpus in options.simulate or ():
        costs = make_costs(
            through, history, machines=[_machine(gpus, options.cpus)], resources=spec.resources_of
        )
        print(describe_time(costs))
    return 0


def _machine(gpus: int | None, cpus: int | None) -> "Machine":
    """Return this machine, or one with so many GPUs and CPUs."""
    from sweeps.plan.this_machine import num_cpus, this_machine

    if gpus is None:
        here = this_machine()
        return here if cpus is None else {**here, "CPU": float(cpus)}
    return {"CPU": float(cpus or CPUS_PER_GPU * gpus or num_cpus()), "GPU": float(gpus)}
